"""EVQuota as a PettingZoo ParallelEnv: stations under one transformer declare, trade charging quotas, and charge.

## Description
A transformer has a capacity margin in every half hour: its capacity less the conventional load. Charging stations
declare the energy that they want and put up a deposit; the margin is shared in proportion (chapter 9, eqs. (1), (2));
where it is scarce, an auction lets stations trade their quotas; then they charge, and pay the tariff by time of use,
and a penalty for what they use beyond their final quotas. All money is exact integers. Rules: docs/quota-rules.md;
stations, vehicles and reward: docs/ev-quota.md.

## Agents
`station_0 .. station_{N-1}`.

## Steps
Two per half hour: declare; then trade and charge. The field `stage` of the observation says which comes next.

## Observation
Box float32, one entry per field of `observe.FIELDS` (name, unit, scale and meaning there; `gridmarl list` prints them):
its own vehicles, its own quota, and what is public. Nothing of others.

## Action
Box(-1, 1, (4,)) or Discrete, see `actions.py`: declare, trade, price, charge. NaN, wrong shape or out of space:
ActionError.

## Reward
In tokens, in the second step of a half hour (the first brings 0): value of the energy delivered, less tariff fees, less
auction payments, plus auction receipts, less penalties and forfeitures, less the cost of energy that vehicles leave
without.

## End
Truncation after `horizon_half_hours` (never termination). Vehicles that are still there count with what they have got,
and as unserved with what they could not get any more at maximum power.

## Arguments
The fields of `EVQuotaParams`, plus `scenario` (`gridmarl.envs.ev_quota.scenario`; None: the calibrated default).

## Rendering
None.

## Differences from the paper (chapter 9)
1. Demands and quotas are energy of a half hour (docs/ch9.md says why that matters).
2. Demands, orders and what is charged are decisions of agents; the chapter gives them as data for one period.
3. The chapter returns deposits in full; `forfeit_permille` can make unused quota cost something.

## Versions
v0: first version.
"""

from __future__ import annotations

import secrets
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.conversions import parallel_to_aec

from gridmarl.envs.ev_quota.batched import ENV_ID, BatchedEVQuota
from gridmarl.envs.ev_quota.observe import FIELDS
from gridmarl.envs.ev_quota.params import EVQuotaParams
from gridmarl.envs.ev_quota.scenario import EVScenario
from gridmarl.errors import ActionError, ConfigError

Observation = NDArray[np.float32]


class EVQuota(ParallelEnv[str, Observation, Any]):
    """The quota market for PettingZoo; a thin adapter over one lane of the batched environment. See the module's page.

    Args:
        scenario: sessions and conventional load; None: the calibrated default.
        render_mode: None; ConfigError for any other.
        **params: fields of `EVQuotaParams`; unknown ones raise ConfigError.
    """

    metadata: ClassVar[dict[str, Any]] = {"name": ENV_ID, "render_modes": [], "is_parallelizable": True}

    def __init__(self, scenario: EVScenario | None = None, *, render_mode: str | None = None, **params: Any) -> None:
        if render_mode is not None:
            raise ConfigError(f"render_mode: {render_mode!r}, allowed is None: there are no pictures of this market")
        self.params = EVQuotaParams.from_dict(params)
        self.render_mode = None
        self._lanes = BatchedEVQuota(self.params, scenario, auto_reset=False)
        self.possible_agents = list(self._lanes.agent_names)
        self.agents: list[str] = []
        self._seed: int | None = None
        self._episode = 0
        low = np.array([item.low for item in FIELDS], dtype=np.float32)
        high = np.array([item.high for item in FIELDS], dtype=np.float32)
        self.observation_spaces = {name: spaces.Box(low, high, dtype=np.float32) for name in self.possible_agents}
        self.action_spaces = {name: self._action_space() for name in self.possible_agents}

    def _action_space(self) -> spaces.Space[Any]:
        spec = self._lanes.action_spec
        return (
            spaces.Discrete(spec.num_actions) if spec.num_actions else spaces.Box(-1.0, 1.0, (spec.size,), np.float32)
        )

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """The observation space of an agent (the same object each time)."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """The action space of an agent (the same object each time)."""
        return self.action_spaces[agent]

    @property
    def lanes(self) -> BatchedEVQuota:
        """The batched environment underneath, for inspection: state, last settled half hour."""
        return self._lanes

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], dict[str, dict[str, Any]]]:
        """Start an episode. Without a seed, the next episode of the last seed (of a random one the first time).

        Args:
            options: `{"lane": i}` plays lane i of that seed: the same bits as lane i of a batch.
        """
        if seed is None and self._seed is not None:
            self._episode += 1
        else:
            self._seed, self._episode = secrets.randbits(63) if seed is None else seed, 0
        self._lanes.first_lane = int((options or {}).get("lane", 0))
        observation = self._lanes.reset(self._seed, self._episode)
        self.agents = list(self.possible_agents)
        return self._observations(observation), {name: {} for name in self.agents}

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[dict[str, Observation], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """One step; ActionError for actions outside their space."""
        if not self.agents:
            raise ActionError("step: the episode is over, call reset() first")
        result = self._lanes.step(self._joint_action(actions))
        over = bool(result.truncated[0])
        names = self.agents
        if over:
            self.agents = []
        return (
            self._observations(result.observation),
            dict(zip(names, result.reward[0].tolist(), strict=True)),
            dict.fromkeys(names, False),
            dict.fromkeys(names, over),
            {name: {} for name in names},
        )

    def _observations(self, observation: torch.Tensor) -> dict[str, Observation]:
        rows = np.ascontiguousarray(observation[0].numpy())
        return dict(zip(self.possible_agents, rows, strict=True))

    def _joint_action(self, actions: dict[str, Any]) -> torch.Tensor:
        """`[1, N]` int64 or `[1, N, 4]` float32."""
        missing = [name for name in self.agents if name not in actions]
        unknown = [name for name in actions if name not in self.agents]
        if missing or unknown:
            raise ActionError(f"actions: missing {missing}, unknown {unknown}; allowed are exactly {self.agents}")
        rows = [self._checked(name, actions[name]) for name in self.agents]
        return torch.from_numpy(np.array(rows)[None])

    def _checked(self, name: str, action: Any) -> Any:
        """One agent's action as an int64 or as `[4]` float32."""
        spec = self._lanes.action_spec
        if spec.num_actions:
            whole = isinstance(action, (int, np.integer)) or (
                isinstance(action, np.ndarray) and action.ndim == 0 and np.issubdtype(action.dtype, np.integer)
            )
            if not whole or isinstance(action, bool) or not 0 <= int(action) < spec.num_actions:
                raise ActionError(f"{name}: action {action!r}, allowed are integers 0 .. {spec.num_actions - 1}")
            return np.int64(action)
        try:
            row = np.asarray(action, dtype=np.float32)
        except (TypeError, ValueError):
            row = np.zeros(0, dtype=np.float32)
        if row.shape != (spec.size,) or not bool((np.abs(row) <= 1.0).all()):  # written so that NaN fails
            raise ActionError(f"{name}: action {action!r}, allowed are {spec.size} numbers in [-1, 1]")
        return row

    def render(self) -> None:
        """Nothing: there is no render mode."""

    def close(self) -> None:
        """Nothing to free."""


def parallel_env(**kwargs: Any) -> EVQuota:
    """The environment as a ParallelEnv."""
    return EVQuota(**kwargs)


def env(**kwargs: Any) -> AECEnv[str, Observation, Any]:
    """The environment as an AECEnv, through PettingZoo's own conversion."""
    return parallel_to_aec(parallel_env(**kwargs))
