"""Settings of deep Q-learning, with the reason for each default."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gridmarl.agents.registry_options import check_choice, check_integer, check_number
from gridmarl.errors import ConfigError

_WHAT = "dqn"


@dataclass(frozen=True)
class DQNConfig:
    """Settings of `DQN`. "Step" is one step of one lane; a learn call of `E` lanes counts `E` steps.

    Attributes:
        policy: "shared" (one network for all agents) or "independent" (one network per agent, trained as one batch).
        agent_id: append a one-hot of the agent to a shared network's input.
        stateless: chapter 7's simplification: one table of action values per agent (under either policy), independent
            of the state, trained by the same replay algorithm. A table wants a greater `learning_rate` (0.05, say),
            since Adam moves each of its values by about the learning rate per gradient step.
        double: double deep Q-learning (van Hasselt et al., 2016): the online network picks, the target network values.
        dueling: value and advantage heads (Wang et al., 2016).
        hidden: widths of the hidden layers.
        discount: weight of the next step's value.
        n_step: rewards of so many steps before the next value (uncorrected for what the policy has become since:
            Hessel et al., "Rainbow", 2018); above 1, what an action brings late is learned sooner, at more variance.
        bootstrap_truncation: continue the value through the horizon. Default false: at the horizon everything is
            settled (backlog returned, battery restored), so there is nothing beyond it.
        loss: "huber" (delta 1) or "mse" (the chapter's).
        learning_rate: of Adam.
        max_gradient_norm: per network.
        batch_size: transitions per network and gradient step.
        updates_per_step: gradient steps per learn call.
        learning_starts: steps collected before the first gradient step.
        replay_capacity: slots of the replay memory; a slot holds one transition of each agent.
        target_interval: gradient steps between updates of the target network.
        target_mix: share of the online network that enters the target then: 1 is a hard copy; small with interval 1,
            soft.
        epsilon_start, epsilon_end, exploration_steps: the chapter's rho falls linearly over this many steps.
        normalise_observations, normalise_rewards: by running moments (rewards: scale only).
        outside_option: what to do with the observation field `outside_option_tok` (and `waiting_value`, see
            gridmarl.agents.outside_option), where there is one: "subtract" it from the reward: exact if no action
            changes its later values; "potential": reward + discount * next - now, which keeps the optimal policy
            whatever the field is (Ng, Harada and Russell, 1999), at more variance; "ignore".
        log_every: learn calls between two readings of loss and gradient norm (each one waits for the device).
        compile: loss, its gradient and the exploring forward pass by torch.compile: the same up to rounding, after some
            ten seconds of compiling. Without a compiler, eager, and a warning says so.
    """

    policy: str = "shared"
    agent_id: bool = False
    stateless: bool = False
    double: bool = True
    dueling: bool = True
    hidden: tuple[int, ...] = (64, 64)
    discount: float = 0.9
    n_step: int = 1
    bootstrap_truncation: bool = False
    loss: str = "huber"
    learning_rate: float = 1e-3
    max_gradient_norm: float = 10.0
    batch_size: int = 256
    updates_per_step: int = 1
    learning_starts: int = 1_000
    replay_capacity: int = 20_000
    target_interval: int = 200
    target_mix: float = 1.0
    epsilon_start: float = 1.0
    epsilon_end: float = 0.05
    exploration_steps: int = 50_000
    normalise_observations: bool = True
    normalise_rewards: bool = True
    outside_option: str = "subtract"
    log_every: int = 100
    compile: bool = False

    def __post_init__(self) -> None:
        """Raises ConfigError naming the field, the value and what is allowed."""
        check_choice(_WHAT, "policy", self.policy, ("shared", "independent"))
        check_choice(_WHAT, "loss", self.loss, ("huber", "mse"))
        check_choice(_WHAT, "outside_option", self.outside_option, ("subtract", "potential", "ignore"))
        for name in ("agent_id", "stateless", "double", "dueling", "bootstrap_truncation", "compile"):
            check_choice(_WHAT, name, getattr(self, name), (True, False))
        for name in ("normalise_observations", "normalise_rewards"):
            check_choice(_WHAT, name, getattr(self, name), (True, False))
        for name in ("batch_size", "updates_per_step", "replay_capacity", "target_interval", "log_every", "n_step"):
            check_integer(_WHAT, name, getattr(self, name), 1)
        for name in ("learning_starts", "exploration_steps"):
            check_integer(_WHAT, name, getattr(self, name), 0)
        for name in ("discount", "epsilon_start", "epsilon_end"):
            check_number(_WHAT, name, getattr(self, name), 0.0, 1.0)
        check_number(_WHAT, "learning_rate", self.learning_rate, 0.0, math.inf, above=True)
        check_number(_WHAT, "max_gradient_norm", self.max_gradient_norm, 0.0, math.inf, above=True)
        check_number(_WHAT, "target_mix", self.target_mix, 0.0, 1.0, above=True)
        if not isinstance(self.hidden, tuple):
            raise ConfigError(f"{_WHAT}: hidden={self.hidden!r}; allowed is a tuple of integers >= 1")
        for width in self.hidden:
            check_integer(_WHAT, "hidden", width, 1)
        if self.epsilon_end > self.epsilon_start:
            raise ConfigError(
                f"{_WHAT}: epsilon_end={self.epsilon_end} with epsilon_start={self.epsilon_start}; allowed is "
                "epsilon_end <= epsilon_start"
            )
        if self.agent_id and (self.policy != "shared" or self.stateless):
            raise ConfigError(
                f"{_WHAT}: agent_id=True with policy={self.policy!r}, stateless={self.stateless}; allowed only with "
                "policy='shared' and stateless=False (else agents have separate values already)"
            )
