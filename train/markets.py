"""What each environment brings to the commands: functions by name, loaded when a command asks for them.

An environment that is to be trained, evaluated, compared, reported on, swept and rendered has an entry here. What an
environment of another package shares with the two-stage market, its commands can play.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from gridmarl.envs.registry import environment
from gridmarl.errors import ConfigError


@dataclass(frozen=True)
class MarketEntry:
    """The commands of one environment, each as "module:attribute".

    Attributes:
        env: name in the registry of environments.
        agents: what one of its agents is called.
        period: what one settled step is called.
        horizon: the parameter that says how many periods an episode has.
        truthful: agent of the registry that is truthful here.
        count: the parameter that says how many agents there are.
        own: parameters that say what a policy may choose from; they are each run's own matter.
        references: names of the rows that a comparison has beside the policies.
        measures: columns of metrics.csv that a sweep keeps, besides `return`.
        parameters: `(MarketOptions) -> params`, by the options of a command.
        changes: `(MarketOptions) -> dict`, the parameters that options beside --config and --set change; refuses
            options that are another environment's.
        scenario: `(MarketOptions, params) -> scenario`.
        train: `(Train) -> int`.
        compare: `(Compare) -> int`, the comparison of an environment.
        evaluate: `(Evaluate) -> int`, of one policy.
        compare_policies: of runs and saved policies, see `gridmarl.train.compare_runs.compare_policies`.
        report: `(Sources, Wanted) -> Content`, what the page of `gridmarl report` shows.
        trials: a `gridmarl.train.sweep.trial.Trials`.
        play: `(env, agent, seed, on_period) -> object`, one episode; `on_period` gets what each period settled.
    """

    env: str
    agents: str
    period: str
    horizon: str
    truthful: str
    count: str
    own: tuple[str, ...]
    references: tuple[str, ...]
    measures: tuple[str, ...]
    parameters: str
    changes: str
    scenario: str
    train: str
    compare: str
    evaluate: str
    compare_policies: str
    report: str
    trials: str
    play: str

    def load(self, command: str) -> Any:
        """The function or object behind the name of a command."""
        module, _, name = getattr(self, command).partition(":")
        return getattr(import_module(module), name)


_TWO_STAGE = MarketEntry(
    env="two-stage-dr",
    agents="prosumer",
    period="hour",
    horizon="horizon_hours",
    truthful="truthful",
    count="num_prosumers",
    own=("action_space", "single_price", "price_levels", "quantity_levels"),
    references=("no market", "zero-intelligence", "truthful", "inflate", "aggregator"),
    measures=("eval_gains_share", "eval_return", "eval_efficiency", "eval_price_tok_per_kwh"),
    parameters="gridmarl.train.two_stage:parameters",
    changes="gridmarl.train.two_stage:changes",
    scenario="gridmarl.train.two_stage:scenario",
    train="gridmarl.train.train_command:run_train",
    compare="gridmarl.train.compare:run_compare",
    evaluate="gridmarl.train.compare_runs:evaluate_policy",
    compare_policies="gridmarl.train.compare_runs:compare_policies",
    report="gridmarl.train.report.content:gather",
    trials="gridmarl.train.two_stage:TRIALS",
    play="gridmarl.train.rollout:play",
)
_EV_QUOTA = MarketEntry(
    env="ev-quota",
    agents="station",
    period="half hour",
    horizon="horizon_half_hours",
    truthful="quota_truthful",
    count="num_stations",
    own=("action_space", "declare_levels", "trade_levels", "price_levels", "charge_levels"),
    references=("uncoordinated", "no trade", "truthful", "patient", "all over-declare", "coordinator"),
    measures=("eval_gains_share", "eval_return", "eval_unserved_kwh", "eval_overload_kwh"),
    parameters="gridmarl.train.quota.market:quota_parameters",
    changes="gridmarl.train.quota.market:quota_changes",
    scenario="gridmarl.train.quota.market:quota_scenario",
    train="gridmarl.train.quota.training:train_quota",
    compare="gridmarl.train.quota.command:compare_quota",
    evaluate="gridmarl.train.quota.compare_runs:evaluate_policy",
    compare_policies="gridmarl.train.quota.compare_runs:compare_policies",
    report="gridmarl.train.quota.report:gather",
    trials="gridmarl.train.quota.training:TRIALS",
    play="gridmarl.train.quota.watching:watch_day",
)
_ENTRIES = {entry.env: entry for entry in (_TWO_STAGE, _EV_QUOTA)}


def market_entry(name: str) -> MarketEntry:
    """The entry of an environment's name or PettingZoo id.

    Raises:
        ConfigError: no such environment, or one that no command can play yet; lists what exists.
    """
    known = environment(name)
    found = _ENTRIES.get(known.name)
    if found is None and not known.commands:
        raise ConfigError(f"env: {name!r} is not for this command; allowed here: {', '.join(sorted(_ENTRIES))}")
    return found or _TWO_STAGE
