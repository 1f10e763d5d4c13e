"""TwoStageDR as a PettingZoo ParallelEnv: prosumers of a local market bid, a shortage is met by demand response, all
settles.

## Description
Each hour has two stages. Stage 1: prosumers bid for their consumption and offer their forecast generation; a
merit-order auction clears the local book at one price between export and import price. Stage 2: if demand exceeds
local supply, taking part prosumers reduce consumption at the demand-response price `pi_DR = min(alpha * pi, import
price)`. Then everything settles in exact integer money. All rules with every rounding: docs/market-rules.md.

## Agents
`prosumer_0 .. prosumer_{P-1}`; with `operator=True` also `operator`, who chooses alpha each hour.

## Observation
Prosumer: Box float32, one entry per field of `observe.FIELDS` (name, unit, scale and meaning there; `gridmarl list`
prints them), with `finality="strict"` one more: its spendable money. Operator: Box float32 of `OPERATOR_FIELDS`: public
prices and totals only.

## Action
Prosumer: Box(-1, 1) or Discrete, see `actions.py`. Operator: Box(-1, 1, (1,)): alpha from 1 to `alpha_max_permille`.
NaN, wrong shape or out of space: ActionError.

## Reward
Prosumer: `u(d) - discomfort - payments + revenue + reduction payments - penalties - interest` of the hour, in tokens.
Operator: social welfare of the hour in tokens (it is non-profit). With `stage2="learned"` the first step of an hour
brings 0.

## End
Truncation after `horizon_hours` (never termination). Backlog returns and batteries are restored by then.

## Arguments
The fields of `TwoStageDRParams`, plus `scenario` (None: the calibrated default).

## Rendering
`render_mode`: "rgb_array" (`[520, 800, 3]` uint8), "ansi" (text, at most 100 columns) or "human" (a window, drawn by
`reset` and by every step that settles an hour). A frame shows the hour settled last: supply and demand curves with the
clearing point, prices and load so far, and the balances; see `render.py`.

## Differences from the paper (chapter 7)
1. Read literally, the final settlement (5)-(8) maximises `sum(pi rho' + pi_DR d_DR' - pi d_new')` with each variable
   free between 0 and its bound and nothing tying them together. Its optimum for positive prices is `rho' = rho`,
   `d_DR' = d_DR`, `d_new' = 0`: sell all, take all rewards, and serve nobody. We settle with the power balance
   instead: local supply + import = demand + export.
2. Additive reading of (5): `d_new` pays `pi` and `d_DR` earns `pi_DR` on top, so a reduced Wh is worth `pi + pi_DR`,
   up to twice the import price; curtailment goes too far. `dr_settlement="two_settlement"` (default) buys the stage-1
   quantity at `pi` and sells the reduction back at `pi_DR`. Both are implemented and compared
   (docs/decisions/dr-settlement.md).
3. The price is clamped to [export, import] and the reductions to the shortage; without local supply the price is the
   import price.
4. The chapter moves funds "from the accounts of the sellers to those of buyers"; here buyers pay sellers.
5. Shifted energy has a return hour (the cheapest published import price before its deadline) and a discomfort cost;
   the chapter leaves both open. The penalty for a forecast error is a share of the mean of local and upstream price,
   both ways.
6. The chapter's printed algorithm writes the market price's symbol for the discount factor and max for argmax; we use
   Q-learning's.

## Versions
v0: first version.
"""

from __future__ import annotations

import secrets
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import logger, spaces
from numpy.typing import NDArray
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.conversions import parallel_to_aec

from gridmarl.envs.rendering.modes import RENDER_FPS, RENDER_MODES, checked_render_mode
from gridmarl.envs.rendering.screen import Pixels, Screen
from gridmarl.envs.two_stage_dr.batched import ENV_ID, BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.observe import FIELDS, fields_of
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.render import MarketView
from gridmarl.errors import ActionError, OverdraftError
from gridmarl.scenarios.scenario import Scenario
from gridmarl.units import PERMILLE, UTOK_PER_TOKEN

OPERATOR = "operator"
OPERATOR_FIELDS = FIELDS[:6] + tuple(item for item in FIELDS if item.name == "stage")

Observation = NDArray[np.float32]


class TwoStageDR(ParallelEnv[str, Observation, Any]):
    """The market for PettingZoo; a thin adapter over one lane of the batched environment. See the module's page.

    Args:
        scenario: prices and homes; None: the calibrated default.
        render_mode: "human", "rgb_array", "ansi", or None; ConfigError for any other.
        on_hour: called with each settled hour's record (the ledger's input).
        **params: fields of `TwoStageDRParams`; unknown ones raise ConfigError.
    """

    metadata: ClassVar[dict[str, Any]] = {
        "name": ENV_ID,
        "render_modes": list(RENDER_MODES),
        "render_fps": RENDER_FPS,
        "is_parallelizable": True,
    }

    def __init__(
        self,
        scenario: Scenario | None = None,
        *,
        render_mode: str | None = None,
        on_hour: Any = None,
        **params: Any,
    ) -> None:
        self.params = TwoStageDRParams.from_dict(params)
        self.render_mode = checked_render_mode(render_mode)
        self._screen = None if self.render_mode is None else Screen(self.render_mode, ENV_ID)
        self._view = MarketView(self.params)
        self._lanes = BatchedTwoStageDR(self.params, scenario, auto_reset=False, on_hour=on_hour)
        self._prosumers = list(self._lanes.agent_names)
        self.possible_agents = [*self._prosumers, OPERATOR] if self.params.operator else list(self._prosumers)
        self.agents: list[str] = []
        self._seed: int | None = None
        self._episode = 0
        self.observation_spaces = {name: self._observation_space(name) for name in self.possible_agents}
        self.action_spaces = {name: self._action_space(name) for name in self.possible_agents}

    def _observation_space(self, agent: str) -> spaces.Space[Any]:
        shown = OPERATOR_FIELDS if agent == OPERATOR else fields_of(self.params)
        low = np.array([item.low for item in shown], dtype=np.float32)
        high = np.array([item.high for item in shown], dtype=np.float32)
        return spaces.Box(low, high, dtype=np.float32)

    def _action_space(self, agent: str) -> spaces.Space[Any]:
        if agent == OPERATOR:
            return spaces.Box(-1.0, 1.0, (1,), np.float32)
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
    def lanes(self) -> BatchedTwoStageDR:
        """The batched environment underneath, for inspection: state, last settled hour."""
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
        if self._screen is not None:
            self._view.start(self._lanes.state)
            self._show_window()
        return self._observations(observation), {name: {} for name in self.agents}

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[
        dict[str, Observation],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """One step of the hour; ActionError for actions outside their space, OverdraftError past the credit limit."""
        if not self.agents:
            raise ActionError("step: the episode is over, call reset() first")
        result = self._lanes.step(self._prosumer_actions(actions), self._alpha(actions))
        if self.params.credit_limit_utok is not None and bool(self._lanes.state.overdrawn.any()):
            raise OverdraftError(f"an account fell below -{self.params.credit_limit_utok} µtok (credit_limit_utok)")
        if self._screen is not None and self._lanes.settled is not None:
            self._view.record(self._lanes.settled)
            self._show_window()
        reward = dict(zip(self._prosumers, result.reward[0].tolist(), strict=True))
        if self.params.operator:
            reward[OPERATOR] = self._welfare_tokens()
        over = bool(result.truncated[0])
        names = self.agents
        observations = self._observations(result.observation)
        if over:
            self.agents = []
        return (
            observations,
            reward,
            dict.fromkeys(names, False),
            dict.fromkeys(names, over),
            {name: {} for name in names},
        )

    def _observations(self, observation: torch.Tensor) -> dict[str, Observation]:
        rows = np.ascontiguousarray(observation[0].numpy())
        out = dict(zip(self._prosumers, rows, strict=True))
        if self.params.operator:
            stage = [index for index, item in enumerate(FIELDS) if item.name == "stage"]
            out[OPERATOR] = rows[0][list(range(6)) + stage]
        return out

    def _prosumer_actions(self, actions: dict[str, Any]) -> torch.Tensor:
        missing = [name for name in self.agents if name not in actions]
        unknown = [name for name in actions if name not in self.agents]
        if missing or unknown:
            raise ActionError(f"actions: missing {missing}, unknown {unknown}; allowed are exactly {self.agents}")
        spec = self._lanes.action_spec
        if spec.num_actions:
            return torch.from_numpy(self._discrete(actions, spec.num_actions))
        return torch.from_numpy(self._continuous(actions, self._prosumers, spec.size))

    def _discrete(self, actions: dict[str, Any], count: int) -> NDArray[np.int64]:
        rows = np.array([actions[name] for name in self._prosumers])
        if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer) or rows.min() < 0 or rows.max() >= count:
            for name in self._prosumers:
                if not self.action_spaces[name].contains(actions[name]):
                    raise ActionError(f"{name}: action {actions[name]!r}, allowed are integers 0 .. {count - 1}")
        return rows.astype(np.int64)[None]

    def _continuous(self, actions: dict[str, Any], names: list[str], size: int) -> NDArray[np.float32]:
        try:
            rows = np.array([actions[name] for name in names], dtype=np.float32)
        except (TypeError, ValueError):
            rows = np.zeros(0, dtype=np.float32)
        # written so that NaN fails
        if rows.shape != (len(names), size) or not bool((np.abs(rows) <= 1.0).all()):
            for name in names:
                value = np.asarray(actions[name], dtype=np.float64)
                if value.shape != (size,) or not bool((np.abs(value) <= 1.0).all()):
                    raise ActionError(f"{name}: action {actions[name]!r}, allowed are {size} numbers in [-1, 1]")
        return rows[None]

    def _alpha(self, actions: dict[str, Any]) -> torch.Tensor | None:
        if not self.params.operator:
            return None
        share = float(self._continuous(actions, [OPERATOR], 1)[0, 0, 0])
        span = self.params.alpha_max_permille - PERMILLE
        return torch.tensor([PERMILLE + int((share + 1.0) / 2.0 * span)], dtype=torch.int64)

    def _welfare_tokens(self) -> float:
        settled = self._lanes.settled
        if settled is None:
            return 0.0
        flow = settled.flows
        upstream = flow.upstream_wh[0] * settled.import_price - flow.upstream_wh[1] * settled.export_price
        return int(settled.comfort_utok.sum() - upstream.sum()) / UTOK_PER_TOKEN

    def render(self) -> Pixels | str | None:
        """The current frame: `[520, 800, 3]` uint8, text, or None where it is in a window or there is no render mode.

        Raises:
            ConfigError: before the first reset, or there is nowhere to open a window.
        """
        if self._screen is None:
            logger.warn(
                "You are calling render method without specifying any render mode. Allowed at construction, as "
                f"render_mode, are {', '.join(RENDER_MODES)}"
            )
            return None
        return self._screen.show(self._view)

    def _show_window(self) -> None:
        """Windows follow the market by themselves, as Gymnasium has it."""
        if self._screen is not None and self.render_mode == "human":
            self._screen.show(self._view)

    def close(self) -> None:
        """Free the window and the figure; more than once does no harm."""
        if self._screen is not None:
            self._screen.close()


def parallel_env(**kwargs: Any) -> TwoStageDR:
    """The environment as a ParallelEnv."""
    return TwoStageDR(**kwargs)


def env(**kwargs: Any) -> AECEnv[str, Observation, Any]:
    """The environment as an AECEnv, through PettingZoo's own conversion."""
    return parallel_to_aec(parallel_env(**kwargs))
