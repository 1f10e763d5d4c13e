"""Tabular Q-learning (Watkins, 1989) on a coarse view of the observation: one table per agent, all in one tensor.

The view is the product of a few named fields, each cut into bins; which ones, and where, is an option. The default is
for TwoStageDR: the hour in eight parts, whether the community was short in the last hour (its demand-response price was
positive), and where the import price lies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from gridmarl.agents.outside_option import MODES, OutsideOption
from gridmarl.agents.registry_options import check_choice, check_integer, check_number, from_options
from gridmarl.errors import ConfigError
from gridmarl.protocols import AgentContext, Transition
from gridmarl.random import MASK, Purpose, below, draw, lane_keys

_WHAT = "tabular_q"
_WORDS = 4  # random words per Philox draw
_MAX_ENTRIES = 50_000_000
_UNITS_PER_TOKEN = 2**24  # 10,000 lanes with errors of 50 million tokens each stay below 2**63

# Field and edges, in the field's unit: value < first edge is bin 0, first <= value < second is bin 1, and so on.
View = tuple[tuple[str, tuple[float, ...]], ...]
DEFAULT_VIEW: View = (
    ("hour_of_day", (3.0, 6.0, 9.0, 12.0, 15.0, 18.0, 21.0)),
    ("last_dr_price_utok_per_wh", (1.0,)),
    # About the quartiles in the calibrated default.
    ("import_price_utok_per_wh", (13_000.0, 13_250.0, 13_500.0)),
)


@dataclass(frozen=True)
class TabularConfig:
    """Settings of `TabularQ`. "Step" is one step of one lane; a learn call of `E` lanes counts `E` steps.

    Attributes:
        view: pairs of a field's name and its edges (in the field's unit, increasing); empty: the fields of the default
            that the environment shows (none: one state).
        discount: weight of the next step's value.
        bootstrap_truncation: continue the value through the horizon.
        learning_rate: least step size. An entry visited `n` times moves by `max(1 / n, learning_rate)` of the error:
            the mean of what was seen first, then a moving average.
        initial_value: of all entries, tokens; above what can be earned makes agents try everything.
        epsilon_start, epsilon_end, exploration_steps: share of random actions, falling linearly over this many steps.
        outside_option: see gridmarl.agents.outside_option.
        log_every: learn calls between two readings of the error (each one waits for the device).
    """

    view: tuple[Any, ...] = ()
    discount: float = 0.9
    bootstrap_truncation: bool = False
    learning_rate: float = 0.02
    initial_value: float = 0.0
    epsilon_start: float = 1.0
    epsilon_end: float = 0.05
    exploration_steps: int = 50_000
    outside_option: str = "subtract"
    log_every: int = 100

    def __post_init__(self) -> None:
        """Raises ConfigError naming the field, the value and what is allowed."""
        check_choice(_WHAT, "bootstrap_truncation", self.bootstrap_truncation, (True, False))
        check_choice(_WHAT, "outside_option", self.outside_option, MODES)
        check_integer(_WHAT, "log_every", self.log_every, 1)
        check_integer(_WHAT, "exploration_steps", self.exploration_steps, 0)
        for name in ("discount", "epsilon_start", "epsilon_end"):
            check_number(_WHAT, name, getattr(self, name), 0.0, 1.0)
        check_number(_WHAT, "learning_rate", self.learning_rate, 0.0, 1.0, above=True)
        check_number(_WHAT, "initial_value", self.initial_value, -math.inf, math.inf)
        if self.epsilon_end > self.epsilon_start:
            raise ConfigError(
                f"{_WHAT}: epsilon_end={self.epsilon_end} with epsilon_start={self.epsilon_start}; allowed is "
                "epsilon_end <= epsilon_start"
            )


def _checked_view(view: Sequence[Any], context: AgentContext) -> View:
    """Pairs of name and edges; ConfigError names what is wrong with them."""
    names = [item.name for item in context.observation_fields]
    if not view:
        return tuple((name, edges) for name, edges in DEFAULT_VIEW if name in names)
    checked = []
    for item in view:
        if not isinstance(item, tuple | list) or len(item) != 2 or not isinstance(item[1], tuple | list):
            raise ConfigError(f"{_WHAT}: view={view!r}; allowed are pairs of a field's name and a list of edges")
        name, edges = item
        if name not in names:
            raise ConfigError(f"{_WHAT}: view names the field {name!r}; allowed are {', '.join(names)}")
        for edge in edges:
            check_number(_WHAT, f"edge of {name}", edge, -math.inf, math.inf)
        if not edges or any(a >= b for a, b in pairwise(edges)):
            raise ConfigError(f"{_WHAT}: edges of {name}={edges!r}; allowed is an increasing list of numbers")
        checked.append((name, tuple(float(edge) for edge in edges)))
    return tuple(checked)


class TabularQ:
    """Tabular Q-learning for discrete actions; an `Agent` (see gridmarl.protocols). Options: `TabularConfig`.

    Agents learn apart, each from all lanes. Lanes that hit the same entry in one step are one batch: all their targets
    `r + discount * max_a Q(next)` are formed from the table before the step, and the entry moves once, towards their
    mean. The sum over lanes is one of integers (errors in 2**-24 tokens), so the lanes' order changes no bit of it, on
    any device. An entry hit `k` times moves as far as `k` moves towards that mean one after the other would:
    `1 - (1 - learning_rate)^k` of the way, or `k / visits` while that is more.

    Raises:
        ConfigError: unknown or refused options, a continuous action space, or a table of over 50 million entries.
    """

    name = "tabular_q"
    learns = True

    def __init__(self, context: AgentContext) -> None:
        self.config = config = from_options(TabularConfig, context.options, _WHAT)
        spec, self.device = context.action_spec, context.device
        if spec.kind != "discrete" or spec.num_actions < 1:
            raise ConfigError(f"{_WHAT}: action_spec.kind={spec.kind!r}; allowed is 'discrete' (a grid of actions)")
        self.num_envs, self.num_agents, self.num_actions = context.num_envs, context.num_agents, spec.num_actions
        self.view = _checked_view(config.view, context)
        self.num_states = math.prod(len(edges) + 1 for _, edges in self.view)
        entries = self.num_agents * self.num_states * self.num_actions
        if entries > _MAX_ENTRIES:
            raise ConfigError(
                f"{_WHAT}: {self.num_agents} agents x {self.num_states} states x {self.num_actions} actions; allowed "
                f"are up to {_MAX_ENTRIES} entries"
            )
        self._columns = []  # field, edges on the observation's scale
        for name, edges in self.view:
            index = context.field_index(name)
            scaled = torch.tensor(edges, dtype=torch.float64) * context.observation_fields[index].scale
            self._columns.append((index, scaled.to(torch.float32).to(self.device)))
        self._outside = OutsideOption(context, config.outside_option, config.discount)
        shape = (self.num_agents, self.num_states, self.num_actions)
        # Float64, so that means over many visits stay exact to far below a millionth.
        self.table = torch.full(shape, float(config.initial_value), dtype=torch.float64, device=self.device)
        self.visits = torch.zeros(shape, dtype=torch.int64, device=self.device)
        self._agents = torch.arange(self.num_agents, device=self.device)
        self._keys = lane_keys(context.seed, self.num_envs, device=self.device)
        self._words: tuple[int, Tensor] | None = None
        self._explorations = 0  # act(explore=True) calls
        self._learn_calls = 0

    @property
    def epsilon(self) -> float:
        """Share of random actions now, by the linear schedule."""
        config = self.config
        steps = self._learn_calls * self.num_envs
        if steps >= config.exploration_steps:
            return config.epsilon_end
        return config.epsilon_start + steps / config.exploration_steps * (config.epsilon_end - config.epsilon_start)

    def states(self, observation: Tensor) -> Tensor:
        """State 0 .. num_states-1 of each agent, `[E, P]` int64, for `[E, P, F]` observations; first field slowest."""
        state = torch.zeros(observation.shape[:-1], dtype=torch.int64, device=observation.device)
        for index, edges in self._columns:
            values = observation[..., index].contiguous()
            state = state * (edges.shape[0] + 1) + torch.bucketize(values, edges, right=True)
        return state

    def act(self, observation: Tensor, *, explore: bool) -> Tensor:
        """Greedy actions `[E, P]` int64 (the first of equals); with `explore`, epsilon-greedy."""
        greedy = self.table[self._agents, self.states(observation)].argmax(dim=-1)
        if not explore:
            return greedy
        period, part = divmod(self._explorations, _WORDS // 2)
        if self._words is None or self._words[0] != period:
            words = draw(self._keys, period, Purpose.EXPLORE, num_agents=self.num_agents)
            self._words = (period, words.transpose(1, 2))
        self._explorations += 1
        choose, pick = self._words[1][2 * part], self._words[1][2 * part + 1]
        return torch.where(choose < int(self.epsilon * (MASK + 1)), below(pick, self.num_actions), greedy)

    def learn(self, transition: Transition) -> dict[str, float]:
        """One update of every entry that was visited; mean absolute error and epsilon every `log_every` calls."""
        config = self.config
        ended = (transition.terminated | transition.truncated).unsqueeze(-1)
        terminal = transition.terminated.unsqueeze(-1) if config.bootstrap_truncation else ended
        following = transition.next_observation
        reward = self._outside.shape(transition.reward, transition.observation, following, terminal)
        later = self.table[self._agents, self.states(following)].amax(dim=-1).masked_fill(terminal, 0.0)
        where = (self._agents.expand_as(transition.action), self.states(transition.observation), transition.action)
        error = reward.to(torch.float64) + config.discount * later - self.table[where]
        self._move(where, error)
        self._learn_calls += 1
        if self._learn_calls % config.log_every:
            return {}
        return {"td_error": float(error.abs().mean()), "epsilon": self.epsilon}

    def _move(self, where: tuple[Tensor, Tensor, Tensor], error: Tensor) -> None:
        """Move each visited entry towards the mean of its targets."""
        hits = torch.zeros_like(self.visits).index_put_(where, torch.ones_like(where[2]), accumulate=True)
        fixed = (error * _UNITS_PER_TOKEN).round().to(torch.int64)
        total = torch.zeros_like(self.visits).index_put_(where, fixed, accumulate=True).to(torch.float64)
        self.visits += hits
        some = hits.clamp(min=1).to(torch.float64)
        constant = 1.0 - (1.0 - self.config.learning_rate) ** some
        rate = torch.maximum(some / self.visits.clamp(min=1), constant)
        self.table += rate * total / (some * _UNITS_PER_TOKEN)  # 0 where nothing was hit

    def state_dict(self) -> dict[str, Any]:
        """Table, visits and counters: everything for a bit-identical continuation."""
        return {
            "table": self.table.clone(),
            "visits": self.visits.clone(),
            "explorations": self._explorations,
            "learn_calls": self._learn_calls,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()`.

        Raises:
            ConfigError: the saved table has another shape.
        """
        if state["table"].shape != self.table.shape:
            raise ConfigError(
                f"{_WHAT}: saved table has shape {tuple(state['table'].shape)}; allowed is {tuple(self.table.shape)}"
            )
        self.table.copy_(state["table"])
        self.visits.copy_(state["visits"])
        self._explorations, self._learn_calls = state["explorations"], state["learn_calls"]
