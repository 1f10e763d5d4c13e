"""The control variate on rewards: what is sure before an agent acts, and only adds noise to what its actions bring."""

from __future__ import annotations

from torch import Tensor

from gridmarl.protocols import AgentContext

OUTSIDE_OPTION = "outside_option_tok"
WAITING, ARRIVED = "waiting_value", "arrived_value"
MODES = ("subtract", "potential", "ignore")


class OutsideOption:
    """Takes off the reward what observation fields say is there anyway, where the environment has them. Two of them:

    * `outside_option_tok`: what a prosumer would have earned without a market. It is subtracted.
    * `waiting_value`: what there is still to gain, less what is sure to be lost, and `arrived_value`: what came to it
      with the last step. The reward gets `waiting(next) - arrived(next) - waiting(now)`: what is delivered then counts
      nothing, and what is missed counts against the agent at once, not when it shows. Without a discount that changes
      all returns of an episode by the same amount. With one, costs that come later weigh less, where before gains that
      come later did: delivering at a better time is no longer worth less than delivering at once.

    Args:
        mode: "subtract": exact if no action changes later values of `outside_option_tok` and `arrived_value`;
            "potential": reward + discount * next - now, which keeps the optimal policy whatever the field is (Ng,
            Harada and Russell, 1999); "ignore".
        discount: of the learner; "potential" only.
    """

    def __init__(self, context: AgentContext, mode: str, discount: float) -> None:
        names = [item.name for item in context.observation_fields]
        used = {name: at for at, name in enumerate(names) if mode != "ignore"}
        self._index = used.get(OUTSIDE_OPTION)
        self._waiting, self._arrived = used.get(WAITING), used.get(ARRIVED)
        self._scales = [item.scale for item in context.observation_fields]
        # With two steps per hour (learned reductions), the hour's surplus is earned in the second.
        two_steps = "reduction" in context.action_spec.names and "stage" in names
        self._stage = names.index("stage") if two_steps else None
        self._potential = mode == "potential"
        self._later_weight = discount if self._potential else 0.0

    def shape(self, reward: Tensor, observation: Tensor, next_observation: Tensor, terminal: Tensor) -> Tensor:
        """Shaped rewards `[..., P]` from rewards `[..., P]`, observations `[..., P, F]`, terminal `[..., 1]` bool."""
        if self._waiting is not None:
            reward = self._count_what_is_lost(reward, observation, next_observation, terminal, self._waiting)
        if self._index is None:
            return reward
        reward = reward - self._value(observation, self._index)
        if self._later_weight:
            later = self._value(next_observation, self._index).masked_fill(terminal, 0.0)
            reward = reward + self._later_weight * later
        return reward

    def _count_what_is_lost(
        self, reward: Tensor, observation: Tensor, next_observation: Tensor, terminal: Tensor, waiting: int
    ) -> Tensor:
        now = observation[..., waiting] / self._scales[waiting]
        later = next_observation[..., waiting] / self._scales[waiting]
        if self._potential:
            later = self._later_weight * later
        elif self._arrived is not None:
            later = later - next_observation[..., self._arrived] / self._scales[self._arrived]
        return reward + later.masked_fill(terminal, 0.0) - now

    def _value(self, observation: Tensor, index: int) -> Tensor:
        value = observation[..., index]
        return value if self._stage is None else value * observation[..., self._stage]
