"""Roth-Erev reinforcement learning, the classic learner of agent-based electricity markets, as a gridmarl agent.

Every prosumer keeps a propensity for each row of its action grid and picks rows in proportion to `exp(propensity /
temperature)`. After each step all propensities fade by `recency`, and the row that was played takes in
`(1 - experimentation)` of what it earned while the others share the rest (Roth and Erev, 1995; variant of Nicolaisen,
Petrov and Tesfatsion, 2001). Like the chapter's deep Q-learning it takes no notice of the state.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gridmarl.errors import ConfigError
from gridmarl.protocols import AgentContext, Transition
from gridmarl.random import Purpose, draw, lane_keys

DEFAULTS = {"recency": 0.05, "experimentation": 0.1, "temperature": 0.05}


class RothErev:
    """One table of propensities per prosumer; all lanes teach the same table.

    Options: `recency` 0 .. 1, `experimentation` 0 .. 1, `temperature` above 0.
    """

    name, learns = "roth_erev", True
    action_space = "discrete"  # the commands read it, and give the market a grid of actions

    def __init__(self, context: AgentContext) -> None:
        unknown = set(context.options) - set(DEFAULTS)
        if unknown:
            raise ConfigError(f"roth_erev: {sorted(unknown)}: unknown, allowed are {sorted(DEFAULTS)}")
        if not context.action_spec.num_actions:
            raise ConfigError("roth_erev: continuous actions; allowed are discrete ones (--set action_space=discrete)")
        options = DEFAULTS | dict(context.options)
        self.recency, self.experimentation = float(options["recency"]), float(options["experimentation"])
        self.temperature = float(options["temperature"])
        self.actions = context.action_spec.num_actions
        self.propensity = torch.zeros(context.num_agents, self.actions, device=context.device)
        # what a prosumer earns without a market depends on the state alone, so subtracting it changes no choice
        names = [field.name for field in context.observation_fields]
        self.outside = names.index("outside_option_tok") if "outside_option_tok" in names else None
        self.keys = lane_keys(context.seed, context.num_envs, device=context.device)
        self.step = 0

    def act(self, observation: Tensor, *, explore: bool) -> Tensor:
        """Rows `[E, P]` int64: drawn by propensity, or the strongest one."""
        num_envs, num_agents = observation.shape[:2]
        if not explore:
            return self.propensity.argmax(1).expand(num_envs, num_agents).contiguous()
        odds = torch.softmax(self.propensity / self.temperature, 1).cumsum(1)
        words = draw(self.keys, self.step, Purpose.EXPLORE, num_agents)[0].T  # [E, P] 32-bit words
        position = (words.to(torch.float64) / 2**32).unsqueeze(-1)
        return (odds.to(torch.float64) <= position).sum(-1).clamp(max=self.actions - 1)

    def learn(self, transition: Transition) -> dict[str, float]:
        """Update every table with the mean over lanes."""
        self.step += 1
        earned = transition.reward
        if self.outside is not None:
            earned = earned - transition.observation[:, :, self.outside]
        played = torch.nn.functional.one_hot(transition.action, self.actions).to(earned.dtype)  # [E, P, A]
        count = played.sum(0)
        mean = (played * earned.unsqueeze(-1)).sum(0) / count.clamp(min=1)
        kept, spread = 1 - self.recency, self.experimentation / max(1, self.actions - 1)
        taken_in = torch.where(count > 0, mean * (1 - self.experimentation), self.propensity * spread)
        self.propensity = kept * self.propensity + self.recency * taken_in
        return {"strongest_propensity": float(self.propensity.max())} if self.step % 100 == 0 else {}

    def state_dict(self) -> dict[str, Any]:
        """Tables and the step counter."""
        return {"propensity": self.propensity, "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self.propensity, self.step = state["propensity"].to(self.propensity.device), state["step"]
