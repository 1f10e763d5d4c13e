"""Settings of proximal policy optimisation, with the reason for each default."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gridmarl.agents.outside_option import MODES
from gridmarl.agents.registry_options import check_choice, check_integer, check_number
from gridmarl.errors import ConfigError

_WHAT = "ppo"


@dataclass(frozen=True)
class PPOConfig:
    """Settings of `PPO`. "Step" is one step of one lane; a learn call of `E` lanes counts `E` steps.

    Attributes:
        policy: "shared" (one network for all agents) or "independent" (one network per agent, trained as one batch).
        critic: "own" (each agent's value from its own observation) or "central" (from the observations of all agents of
            the lane, in training only: multi-agent PPO, Yu et al., 2022). The actor always sees its own observation.
        agent_id: append a one-hot of the agent to a shared network's input.
        hidden: widths of the hidden layers, of actor and critic each.
        activation: "tanh" or "relu".
        log_std: initial log standard deviation of continuous actions, whose range is [-1, 1].
        rollout_steps: learn calls per update; an update uses `rollout_steps * E` steps.
        epochs: passes over the rollout per update.
        minibatches: parts of the rollout per pass, one gradient step each; few and large ones keep a device busy.
        discount: weight of the next step's value.
        gae_lambda: of generalised advantage estimation (Schulman et al., 2016).
        bootstrap_truncation: continue the value through the horizon. Default false: at the horizon everything is
            settled (backlog returned, battery restored), so there is nothing beyond it.
        clip: bound on how far the probability ratio may leave 1 and still earn gradient.
        value_clip: the same for the value, in units of scaled reward; 0: off (it does not help: Andrychowicz et al.,
            "What matters in on-policy reinforcement learning?", 2021).
        value_weight, entropy_weight: of these terms in the loss.
        normalise_advantages: mean 0 and deviation 1 over the rollout, per network.
        learning_rate: of Adam.
        anneal_steps: the learning rate falls linearly to 0 over this many steps; 0: constant.
        max_gradient_norm: per network.
        normalise_observations, normalise_rewards: by running moments (rewards: scale only), renewed after each rollout.
        outside_option: what to do with the observation fields `outside_option_tok` and `waiting_value`: "subtract",
            "potential", "ignore" (see gridmarl.agents.outside_option).
        log_every: updates between two readings of losses (each one waits for the device).
        compile: gradient steps and the actor's forward pass by torch.compile (CUDA graphs on a GPU): the same up to
            rounding, after some ten seconds of compiling. Without a compiler, eager, and a warning says so.
    """

    policy: str = "shared"
    critic: str = "own"
    agent_id: bool = False
    hidden: tuple[int, ...] = (64, 64)
    activation: str = "tanh"
    log_std: float = -0.5
    rollout_steps: int = 48
    epochs: int = 5
    minibatches: int = 8
    discount: float = 0.95
    gae_lambda: float = 0.95
    bootstrap_truncation: bool = False
    clip: float = 0.2
    value_clip: float = 0.0
    value_weight: float = 0.5
    entropy_weight: float = 0.0
    normalise_advantages: bool = True
    learning_rate: float = 1e-3
    anneal_steps: int = 0
    max_gradient_norm: float = 0.5
    normalise_observations: bool = True
    normalise_rewards: bool = True
    outside_option: str = "subtract"
    log_every: int = 1
    compile: bool = False

    def __post_init__(self) -> None:
        """Raises ConfigError naming the field, the value and what is allowed."""
        check_choice(_WHAT, "policy", self.policy, ("shared", "independent"))
        check_choice(_WHAT, "critic", self.critic, ("own", "central"))
        check_choice(_WHAT, "activation", self.activation, ("tanh", "relu"))
        check_choice(_WHAT, "outside_option", self.outside_option, MODES)
        for name in ("agent_id", "bootstrap_truncation", "normalise_advantages", "compile"):
            check_choice(_WHAT, name, getattr(self, name), (True, False))
        for name in ("normalise_observations", "normalise_rewards"):
            check_choice(_WHAT, name, getattr(self, name), (True, False))
        for name in ("rollout_steps", "epochs", "minibatches", "log_every"):
            check_integer(_WHAT, name, getattr(self, name), 1)
        check_integer(_WHAT, "anneal_steps", self.anneal_steps, 0)
        for name in ("discount", "gae_lambda"):
            check_number(_WHAT, name, getattr(self, name), 0.0, 1.0)
        for name in ("value_clip", "value_weight", "entropy_weight"):
            check_number(_WHAT, name, getattr(self, name), 0.0, math.inf)
        for name in ("clip", "learning_rate", "max_gradient_norm"):
            check_number(_WHAT, name, getattr(self, name), 0.0, math.inf, above=True)
        check_number(_WHAT, "log_std", self.log_std, -10.0, 2.0)
        if not isinstance(self.hidden, tuple):
            raise ConfigError(f"{_WHAT}: hidden={self.hidden!r}; allowed is a tuple of integers >= 1")
        for width in self.hidden:
            check_integer(_WHAT, "hidden", width, 1)
        if self.agent_id and self.policy != "shared":
            raise ConfigError(
                f"{_WHAT}: agent_id=True with policy={self.policy!r}; allowed only with policy='shared' (else agents "
                "have separate networks already)"
            )
