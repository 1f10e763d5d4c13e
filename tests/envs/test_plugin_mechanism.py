"""The market cleared by a mechanism of somebody else's: found by name, checked, and never sealed unchecked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gridmarl.agents.registry import make_agent
from gridmarl.clearing import registry
from gridmarl.clearing.book import Clearing
from gridmarl.clearing.registry import Mechanism, register_mechanism
from gridmarl.clearing.uniform import clear_uniform
from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.env import parallel_env
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.rules import ledger_rules
from gridmarl.errors import ConfigError
from gridmarl.protocols import AgentContext
from gridmarl.testing import check_environment
from gridmarl.testing.actions import random_actions
from gridmarl.train.ledger_run import play_sealed
from gridmarl.train.options import MarketOptions
from tests.train.command_line import SMALL_LEARNER, gridmarl, strict_json

SMALL = {"num_prosumers": 4, "horizon_hours": 12}
LANES = 6


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))
    monkeypatch.setattr(registry, "_LOADED", {})


def sellers_price(*book: Any) -> Clearing:
    """A k-double auction in which sellers get the whole surplus: k = 1."""
    return clear_uniform(*book, k_permille=1000)


def no_trade(*book: Any) -> Clearing:
    """Nothing is ever traded; the price is the cap."""
    _, buy_wh, _, sell_wh, _, cap, _ = book
    zero = torch.zeros_like(cap)
    return Clearing(cap, torch.zeros_like(buy_wh), torch.zeros_like(sell_wh), zero, cap, cap)


def market(rule: str, **changes: Any) -> BatchedTwoStageDR:
    options = {name: changes.pop(name) for name in ("ledger", "compile", "on_hour") if name in changes}
    return BatchedTwoStageDR(
        TwoStageDRParams.from_dict({**SMALL, "price_rule": rule, **changes}), num_envs=LANES, **options
    )


def play(env: BatchedTwoStageDR, seed: int = 3) -> list[tuple[Tensor, Tensor]]:
    """Reward and balances of an episode of random actions."""
    env.reset(seed)
    shown = []
    for step in range(env.params.horizon_hours * env.params.steps_per_hour):
        result = env.step(random_actions(env.action_spec, env.num_envs, env.num_agents, seed, step))
        shown.append((result.reward, env.state.balances))
    return shown


@pytest.mark.parametrize(
    "changes", [{}, {"stage2": "learned"}, {"action_space": "discrete"}, {"dr_settlement": "additive"}]
)
def test_a_plugin_that_does_as_ours_gives_the_same_bits(changes: dict[str, Any]) -> None:
    register_mechanism("sellers_price", sellers_price)
    theirs, ours = market("sellers_price", **changes), market("uniform", k_permille=1000, **changes)
    for (reward, balances), (expected, expected_balances) in zip(play(theirs), play(ours), strict=True):
        assert torch.equal(reward, expected)
        assert torch.equal(balances, expected_balances)


def test_a_plugin_changes_the_market_and_money_is_conserved() -> None:
    register_mechanism("no_trade", no_trade)
    env = market("no_trade")
    env.reset(0)
    env.step(random_actions(env.action_spec, LANES, 4, 0, 0))
    assert env.settled is not None
    assert torch.equal(env.settled.market.price, env.settled.import_price)
    assert not env.settled.market.volume_wh.any()
    check_environment(
        lambda num_envs, lane: BatchedTwoStageDR(env.params, num_envs=num_envs, first_lane=lane),
        balances=lambda env: env.state.balances,  # type: ignore[attr-defined]
    )


def test_through_pettingzoo() -> None:
    register_mechanism("sellers_price", sellers_price)
    env = parallel_env(price_rule="sellers_price", **SMALL)
    env.reset(seed=0)
    _, rewards, *_ = env.step({name: env.action_space(name).sample() for name in env.agents})
    assert len(rewards) == 4


def test_a_plugin_of_a_package_is_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "third_party_clearing.py").write_text(
        "from gridmarl.clearing.uniform import clear_uniform\n"
        "def cheap(*book):\n    return clear_uniform(*book, k_permille=0)\n",
        encoding="utf-8",
    )
    info = tmp_path / "third_party_clearing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: third-party-clearing\nVersion: 1.0\n", encoding="utf-8"
    )
    (info / "entry_points.txt").write_text(
        "[gridmarl.mechanisms]\ncheap = third_party_clearing:cheap\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    env, ours = market("cheap"), market("uniform", k_permille=0)

    def no_more(group: str) -> Any:
        raise AssertionError(f"{group}: looked up again")

    monkeypatch.setattr(registry, "entry_points", no_more)
    assert all(torch.equal(one[0], two[0]) for one, two in zip(play(env), play(ours), strict=True))


def test_unknown_name_lists_ours_first_then_theirs() -> None:
    register_mechanism("a_rule", sellers_price)
    for value in ("fair", 3, None, ["uniform"]):
        with pytest.raises(ConfigError, match=r"^price_rule: .*, allowed are uniform, marginal_pair, a_rule$"):
            TwoStageDRParams.from_dict({"price_rule": value})


# --- mechanisms that are not as they should be


def loses_a_wh(*book: Any) -> Clearing:
    right = clear_uniform(*book)
    return right._replace(sell_fill_wh=(right.sell_fill_wh - 1).clamp(min=0))


def in_floats(*book: Any) -> Clearing:
    right = clear_uniform(*book)
    return right._replace(price=right.price.to(torch.float64))


def one_column(*book: Any) -> Clearing:
    right = clear_uniform(*book)
    return right._replace(price=right.price[:1])


def takes_too_little(buy_price: Tensor, buy_wh: Tensor) -> Clearing:
    raise AssertionError("never called")


def divides_by_zero(*book: Any) -> Clearing:
    raise ZeroDivisionError("by zero")


@pytest.mark.parametrize(
    ("mechanism", "message"),
    [
        (loses_a_wh, "ConformanceError: energy: "),
        (in_floats, "ConformanceError: dtype: price is torch.float64"),
        (one_column, "ConformanceError: shape: price is "),
        (takes_too_little, "TypeError: "),
        (divides_by_zero, "ZeroDivisionError: by zero"),
    ],
)
def test_what_does_not_conform_is_refused_at_once(mechanism: Mechanism, message: str) -> None:
    register_mechanism("theirs", mechanism)
    with pytest.raises(ConfigError, match=f"^price_rule: 'theirs' fails on small books: {message}"):
        market("theirs")


def late(spoil: Callable[[Clearing, Any], Clearing]) -> Mechanism:
    """Right on books of small prices, as the suite's are, and wrong in the market's."""

    def clear(*book: Any) -> Clearing:
        right = clear_uniform(*book)
        return spoil(right, book) if int(book[5].abs().max()) > 1_000 else right

    return clear


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda right, book: right._replace(buy_fill_wh=right.buy_fill_wh + 1), "energy: what is bought"),
        (lambda right, book: right._replace(volume_wh=right.volume_wh + 1), "energy: volume"),
        (lambda right, book: right._replace(buy_fill_wh=-right.buy_fill_wh, sell_fill_wh=-right.sell_fill_wh,
                                            volume_wh=-right.volume_wh), "quantity: a buy is filled beyond"),
        (lambda right, book: right._replace(price=book[5] + 1), "limit price|price range"),
        (lambda right, book: right._replace(price=right.price.to(torch.int32)), "dtype: price"),
        (lambda right, book: right._replace(price=right.price[0]), "shape: price"),
    ],
)  # fmt: skip
def test_what_goes_wrong_later_is_refused_before_it_settles(spoil: Any, message: str) -> None:
    register_mechanism("theirs", late(spoil))
    env = market("theirs")
    agent = truthful(env)
    observation = env.reset(0)
    seen = []

    def whole_day() -> None:
        shown = observation
        for _ in range(12):
            seen.append(env.state)
            shown = env.step(agent.act(shown, explore=False)).observation

    with pytest.raises(ConfigError, match=f"^price_rule: 'theirs' cleared a book wrongly: ({message})"):
        whole_day()
    assert env.state is seen[-1]  # the hour in which it went wrong has left nothing behind


def truthful(env: BatchedTwoStageDR) -> Any:
    context = AgentContext(env.num_envs, env.num_agents, env.observation_fields, env.action_spec, env.device, seed=0)
    return make_agent("truthful", context)


def test_orders_are_out_of_a_plugin_s_reach() -> None:
    def empties_the_book(right: Clearing, book: Any) -> Clearing:
        book[1].zero_()
        return right

    register_mechanism("theirs", late(empties_the_book))
    theirs, ours = market("theirs"), market("uniform")
    assert all(torch.equal(one[0], two[0]) for one, two in zip(play(theirs), play(ours), strict=True))


# --- what nobody could check afterwards


def test_no_sealed_ledger_of_a_plugin_s_clearing() -> None:
    register_mechanism("sellers_price", sellers_price)
    env = market("sellers_price")
    told = "price_rule: 'sellers_price' is a plug-in's, .* allowed in a sealed ledger are uniform, marginal_pair"
    with pytest.raises(ConfigError, match=told):
        market("sellers_price", ledger="sealed")
    with pytest.raises(ConfigError, match=told):
        ledger_rules(env.params, env.scenario, 0)
    ours = replace(env.params, price_rule="uniform")
    assert ledger_rules(ours, env.scenario, 0).price_rule == "uniform"
    with pytest.raises(ConfigError, match="compile: True with price_rule 'sellers_price'"):
        market("sellers_price", compile=True)


def test_commands_say_that_there_is_no_ledger(tmp_path: Path) -> None:
    register_mechanism("sellers_price", sellers_price)
    folder = tmp_path / "run"
    settings = ("--days", "1", "--set", "num_prosumers=3", "horizon_hours=4", "price_rule=sellers_price")
    steps = ("--steps", "8", "--lanes", "4", "--eval-lanes", "1", "--eval-every", "0")
    outcome = gridmarl("train", *settings, *steps, *SMALL_LEARNER, "--run-dir", folder)
    assert (outcome.code, outcome.err) == (0, "")
    assert "no ledger: the replay cannot check clearing by price_rule sellers_price" in outcome.out
    assert not list(folder.rglob("ledger*.bin"))
    assert strict_json(folder / "summary.json")["rows"]
    outcome = gridmarl("train", *settings, *steps, *SMALL_LEARNER, "--ledger", "sealed", "--run-dir", tmp_path / "no")
    assert outcome.code == 2
    assert "allowed in a sealed ledger are uniform, marginal_pair" in outcome.err
    assert not (tmp_path / "no").exists()


def test_an_earlier_ledger_does_not_pass_for_this_run_s(tmp_path: Path) -> None:
    register_mechanism("sellers_price", sellers_price)
    path = tmp_path / "ledger.bin"
    for rule, kept in (("uniform", True), ("sellers_price", False)):
        env = market(rule)
        play_sealed(MarketOptions(), env.params, env.scenario, truthful(market(rule)), 0, path)
        assert path.exists() is kept
