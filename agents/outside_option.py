"""The control variate on rewards: what a prosumer would have earned without a market, known before it acts."""

from __future__ import annotations

from torch import Tensor

from gridmarl.protocols import AgentContext

OUTSIDE_OPTION = "outside_option_tok"
MODES = ("subtract", "potential", "ignore")


class OutsideOption:
    """Takes the observation field `outside_option_tok` off the reward, where the environment has it.

    Args:
        mode: "subtract": exact if no action changes the field's later values; "potential": reward + discount * next -
            now, which keeps the optimal policy whatever the field is (Ng, Harada and Russell, 1999); "ignore".
        discount: of the learner; "potential" only.
    """

    def __init__(self, context: AgentContext, mode: str, discount: float) -> None:
        names = [item.name for item in context.observation_fields]
        self._index = names.index(OUTSIDE_OPTION) if mode != "ignore" and OUTSIDE_OPTION in names else None
        # With two steps per hour (learned reductions), the hour's surplus is earned in the second.
        two_steps = "reduction" in context.action_spec.names and "stage" in names
        self._stage = names.index("stage") if two_steps else None
        self._later_weight = discount if mode == "potential" else 0.0

    def shape(self, reward: Tensor, observation: Tensor, next_observation: Tensor, terminal: Tensor) -> Tensor:
        """Shaped rewards `[..., P]` from rewards `[..., P]`, observations `[..., P, F]`, terminal `[..., 1]` bool."""
        if self._index is None:
            return reward
        reward = reward - self._value(observation, self._index)
        if self._later_weight:
            later = self._value(next_observation, self._index).masked_fill(terminal, 0.0)
            reward = reward + self._later_weight * later
        return reward

    def _value(self, observation: Tensor, index: int) -> Tensor:
        value = observation[..., index]
        return value if self._stage is None else value * observation[..., self._stage]
