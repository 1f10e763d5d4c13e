"""Policies that play the same held-out episodes of one market: truthful bidding, the contenders, the benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeVar

import numpy as np
import torch

from gridmarl.agents.registry import make_agent
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.metrics import mean_and_interval
from gridmarl.protocols import Agent, AgentContext
from gridmarl.scenarios.scenario import Scenario
from gridmarl.train.comparison import Profile, Row, market_profile, market_row, plan_profile, plan_row
from gridmarl.train.deviations.exploitability import Exploitability, Method, exploitability, exploitability_parts
from gridmarl.train.options import MarketOptions
from gridmarl.train.planning import Benchmarks, plan_benchmarks
from gridmarl.train.rollout import Episode, play
from gridmarl.train.stage_bar import stage_bar

HEURISTICS = (("zero-intelligence", "zero_intelligence"), ("truthful", "truthful"), ("inflate", "inflate"))
"""Name in tables, name in the registry."""


@dataclass(frozen=True)
class Contender:
    """A policy by name, once per seed that it was trained with.

    Attributes:
        params: the market's own kind, with the action space that the policy was made for.
        policies: by seed, what builds the policy for a number of lanes.
    """

    name: str
    params: Any
    policies: dict[int, Callable[[int], Agent]]


@dataclass(frozen=True)
class Reference:
    """Truthful bidding in the episodes of a contest, and the benchmarks of these."""

    truthful: Episode
    benchmarks: Benchmarks


Exploit = Literal["off", "search", "learn", "both"]
"""Whether, and how, gains of deviating alone are measured; see train/deviations/exploitability.py."""


@dataclass
class Contest:
    """Outcome: rows in the order of the tables; hourly profiles (of several seeds: their mean); rows by seed."""

    reference: Reference
    rows: list[Row] = field(default_factory=list)
    profiles: dict[str, Profile] = field(default_factory=dict)
    by_seed: dict[str, dict[int, Row]] = field(default_factory=dict)
    exploitability: dict[str, Exploitability] = field(default_factory=dict)


def agent_for(options: MarketOptions, params: Any, scenario: Any, name: str, lanes: int, **agent_options: Any) -> Agent:
    """An agent by name, built for `lanes` lanes of a market, whose parameters and scenario are of its own kind."""
    env = options.make_env(params, scenario, lanes)
    context = AgentContext(
        num_envs=lanes,
        num_agents=env.num_agents,
        observation_fields=env.observation_fields,
        action_spec=env.action_spec,
        device=env.device,
        seed=options.seed,
    )
    return make_agent(name, context, **agent_options)


def heuristic(options: MarketOptions, params: TwoStageDRParams, scenario: Scenario, name: str, shown: str) -> Contender:
    """A registered policy that does not learn, in the continuous action space."""
    continuous = replace(params, action_space="continuous")
    return Contender(
        shown, continuous, {options.seed: lambda lanes: agent_for(options, continuous, scenario, name, lanes)}
    )


def reference(options: MarketOptions, params: TwoStageDRParams, scenario: Scenario, lanes: int, seed: int) -> Reference:
    """Play truthful bidding in `lanes` episodes and solve the benchmarks of these."""
    continuous = replace(params, action_space="continuous")
    env = options.batched(continuous, scenario, lanes, auto_reset=False)
    truthful = play(env, agent_for(options, continuous, scenario, "truthful", lanes), seed)
    with stage_bar("central planner", lanes, "lanes", options.progress) as advance:
        return Reference(truthful, plan_benchmarks(params, truthful, advance))


def hold(
    options: MarketOptions,
    scenario: Scenario,
    contenders: Sequence[Contender],
    given: Reference,
    lanes: int,
    seed: int,
) -> Contest:
    """Play every contender in the episodes of the reference."""
    benchmarks = given.benchmarks
    contest = Contest(given, [plan_row("no market", benchmarks.no_market, benchmarks, central=False)])
    for contender in contenders:
        if contender.name == "truthful":
            episodes = {options.seed: given.truthful}
        else:
            episodes = {
                trained: _evaluate(options, contender, scenario, policy(lanes), lanes, seed)
                for trained, policy in contender.policies.items()
            }
        rows = {trained: market_row(contender.name, episode, benchmarks) for trained, episode in episodes.items()}
        contest.rows.append(mean_row(contender.name, list(rows.values())))
        contest.profiles[contender.name] = _mean_profile([market_profile(episode) for episode in episodes.values()])
        contest.by_seed[contender.name] = rows
    contest.rows.append(plan_row("aggregator", benchmarks.first_best, benchmarks, central=True))
    contest.profiles["aggregator"] = plan_profile(benchmarks.first_best)
    return contest


def _evaluate(
    options: MarketOptions, contender: Contender, scenario: Scenario, agent: Agent, lanes: int, seed: int
) -> Episode:
    env = options.batched(contender.params, scenario, lanes, auto_reset=False)
    hours = contender.params.horizon_hours
    with stage_bar(f"evaluation of {contender.name}", hours, "hours", options.progress) as advance:
        return play(env, agent, seed, on_hour=lambda _: advance())


AnyRow = TypeVar("AnyRow", bound=Any)


def mean_row(name: str, rows: Sequence[AnyRow]) -> AnyRow:
    """Mean of the rows of several seeds; `gains_share_interval` becomes the 95 % interval over the seeds.

    Rows are of a dataclass with `name`, `gains_share` and `gains_share_interval` and any numbers beside them.
    """
    if len(rows) == 1:
        alone: AnyRow = replace(rows[0], name=name)
        return alone
    columns = [asdict(row) for row in rows]
    values: dict[str, Any] = {}
    for key, first in columns[0].items():
        found = [column[key] for column in columns]
        if isinstance(first, dict):
            values[key] = {part: float(np.mean([item[part] for item in found])) for part in first}
        elif isinstance(first, list):
            values[key] = [float(value) for value in np.mean(found, axis=0)]
        elif key != "name":
            values[key] = None if None in found else float(np.mean(found))
    if values["gains_share"] is not None:
        _, values["gains_share_interval"] = mean_and_interval(np.array([column["gains_share"] for column in columns]))
    mean: AnyRow = type(rows[0])(name=f"{name} ({len(rows)} seeds)", **values)
    return mean


def _mean_profile(profiles: Sequence[Profile]) -> Profile:
    return Profile(
        price=np.mean([item.price for item in profiles], axis=0),
        load_before_kwh=np.mean([item.load_before_kwh for item in profiles], axis=0),
        load_after_kwh=np.mean([item.load_after_kwh for item in profiles], axis=0),
    )


def measure_exploitability(
    options: MarketOptions, scenario: Scenario, contender: Contender, lanes: int, seed: int, method: Method
) -> Exploitability:
    """What each prosumer would gain by deviating alone from a policy (of several seeds: the first one's)."""
    agent = next(iter(contender.policies.values()))(lanes)
    return measured(options, contender.params, scenario, agent, contender.name, lanes, seed, method)


def measured(
    options: MarketOptions,
    params: TwoStageDRParams,
    scenario: Scenario,
    agent: Agent,
    name: str,
    lanes: int,
    seed: int,
    method: Method,
) -> Exploitability:
    """See `exploitability`, with a progress bar."""
    parts = exploitability_parts(params, method)
    on_device = scenario.to(torch.device(options.device))
    with stage_bar(f"exploitability of {name}", parts, "parts", options.progress) as advance:
        return exploitability(params, on_device, agent, seed, lanes=lanes, method=method, on_progress=advance)
