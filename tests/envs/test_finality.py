"""Strict finality and the credit bank: the three implementations agree, money is conserved, and cheating is located."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from gridmarl.contracts import two_stage as contract
from gridmarl.envs.two_stage_dr import batched
from gridmarl.envs.two_stage_dr import step as stages
from gridmarl.envs.two_stage_dr.actions import action_spec
from gridmarl.envs.two_stage_dr.batched import BatchedTwoStageDR
from gridmarl.envs.two_stage_dr.env import TwoStageDR
from gridmarl.envs.two_stage_dr.generator import reset
from gridmarl.envs.two_stage_dr.observe import FIELDS, fields_of, observation_scales, observe
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.envs.two_stage_dr.rules import ledger_rules
from gridmarl.envs.two_stage_dr.state import State
from gridmarl.errors import ConfigError, LedgerError
from gridmarl.ledger import LaneChains, Rules, verify
from gridmarl.ledger.export import transaction_rows
from gridmarl.ledger.packing import pack_transactions
from gridmarl.ledger.reader import LedgerReader
from gridmarl.ledger.stats import ledger_stats
from gridmarl.scenarios.scenario import Scenario, default_scenario, toy_scenario
from gridmarl.train.deviations.best_response import require_separable
from gridmarl.train.deviations.lanes import Market
from gridmarl.train.rollout import play
from tests.envs.drawn import Scripted, drawn_params, drawn_scenarios
from tests.envs.helpers import assert_hour_balances, random_actions
from tests.envs.test_compiled import assert_same
from tests.envs.test_device import _fake
from tests.envs.test_oracle import assert_same_episode
from tests.ledger_env.sealed import seal

TOKEN = 10**6
STRICT: dict[str, dict[str, Any]] = {
    "final at once": {"local_credit_utok": 0, "initial_balance_utok": 20 * TOKEN},
    "six blocks": {"finality_lag_hours": 6, "local_credit_utok": 30 * TOKEN, "credit_interest_ppm": 1_000},
    "no limit": {"finality_lag_hours": 5, "credit_interest_ppm": 300_000, "stage2": "learned"},
    "battery": {
        "finality_lag_hours": 3, "local_credit_utok": 5 * TOKEN, "credit_interest_ppm": 50, "num_prosumers": 4,
        "battery_capacity_wh": 3_000, "battery_power_w": 1_500, "action_space": "discrete", "price_levels": 3,
        "quantity_levels": 3, "initial_balance_utok": 40 * TOKEN,
    },
    "beyond the horizon": {"finality_lag_hours": 40, "local_credit_utok": 0, "initial_balance_utok": 60 * TOKEN},
}  # fmt: skip


def params_of(name: str, **changes: Any) -> TwoStageDRParams:
    return TwoStageDRParams.from_dict({"horizon_hours": 14, "finality": "strict"} | STRICT[name] | changes)


def test_what_goes_with_instant_finality_only() -> None:
    for name, value, allowed in (
        ("finality_lag_hours", 1, "0"), ("credit_interest_ppm", 1, "0"), ("local_credit_utok", 0, "null"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=f"^{name}: {value} with finality 'instant', allowed is {allowed}$"):
            TwoStageDRParams.from_dict({name: value})
        rules: dict[str, Any] = {"num_prosumers": 1, "horizon_hours": 2, "initial_balances": (0,) * 4, name: value}
        with pytest.raises(ConfigError, match=f"^{name} = {value}; (0|None) is allowed under instant finality"):
            Rules(**rules)
        assert Rules(**rules, finality="strict").transactions_per_block == 11
    for credit in (-1, 10**18 + 1):
        with pytest.raises(ConfigError, match=f"^local_credit_utok: {credit}, allowed are 0 .. {10**18}, or null"):
            TwoStageDRParams(finality="strict", local_credit_utok=credit)
    with pytest.raises(ConfigError, match=r"^local_credit_utok: 1\.5, allowed is an integer or null"):
        TwoStageDRParams.from_dict({"finality": "strict", "local_credit_utok": 1.5})
    with pytest.raises(ConfigError, match=r"^ledger: 'off', allowed with .* strict finality are accounts, sealed"):
        BatchedTwoStageDR(params_of("six blocks"), ledger="off")


@pytest.mark.parametrize("name", sorted(STRICT))
def test_the_oracle_agrees(name: str) -> None:
    env = BatchedTwoStageDR(params_of(name), num_envs=3)
    assert_same_episode(env, np.random.default_rng(6), 31)


@settings(max_examples=25, deadline=None)
@given(
    params=drawn_params(),
    scenario=drawn_scenarios(),
    lag=st.integers(0, 8),
    credit=st.none() | st.sampled_from([0, 1, TOKEN, 10**18]),
    money=st.sampled_from([0, TOKEN, 30 * TOKEN, 10**18]),
    ppm=st.sampled_from([0, 1, 10_000, 10**6]),
    seed=st.integers(0, 2**32),
)
def test_the_oracle_agrees_on_drawn_markets(
    params: TwoStageDRParams, scenario: Scenario, lag: int, credit: int | None, money: int, ppm: int, seed: int
) -> None:
    """Small markets of every kind, rich and poor, negative prices included."""
    params = replace(
        params, finality="strict", finality_lag_hours=lag, local_credit_utok=credit, initial_balance_utok=money,
        credit_interest_ppm=ppm,
    )  # fmt: skip
    assert_same_episode(BatchedTwoStageDR(params, scenario, num_envs=2), np.random.default_rng(seed), seed)


def test_nothing_held_back_and_nothing_charged_is_instant_finality() -> None:
    """Neither limit nor interest: every bit that both have is the same, at any lag."""
    plain = BatchedTwoStageDR(TwoStageDRParams(horizon_hours=14), num_envs=4)
    strict = BatchedTwoStageDR(TwoStageDRParams(horizon_hours=14, finality="strict", finality_lag_hours=6), num_envs=4)
    assert torch.equal(plain.reset(3), strict.reset(3)[..., : len(FIELDS)])
    rng = np.random.default_rng(0)
    for _ in range(30):
        actions = random_actions(plain, rng, extreme=0.2)
        one, other = plain.step(actions), strict.step(actions)
        assert torch.equal(one.observation, other.observation[..., : len(FIELDS)])
        assert torch.equal(one.reward, other.reward)
        assert torch.equal(plain.state.balances, strict.state.balances)
    assert plain.state.receipts is None
    assert plain.settled is not None
    assert plain.settled.credit is None


@pytest.mark.parametrize("name", sorted(STRICT))
def test_money_is_conserved_over_episodes(name: str) -> None:
    """Accounts and what is not final of them live on from episode to episode, and the first observation says so."""
    env = BatchedTwoStageDR(params_of(name), num_envs=20)
    total = env.params.num_prosumers * env.params.initial_balance_utok
    observation = env.reset(5)
    rng = np.random.default_rng(1)
    refused = owed = 0
    for _ in range(2 * env.params.horizon_hours * env.params.steps_per_hour + 5):
        shown = (env.state.spendable_utok.to(torch.float32) * (1 / TOKEN)).T
        assert torch.equal(observation[..., -1], shown)
        before = env.state.balances
        observation = env.step(random_actions(env, rng, extreme=0.3)).observation
        if env.settled is not None:
            assert_hour_balances(env.settled, before)
            credit, market = env.settled.credit, env.settled.market
            assert credit is not None
            change = env.settled.balances[: env.num_agents] - before[: env.num_agents]
            assert torch.equal(change, env.settled.received_utok)
            assert torch.equal(env.settled.balances.sum(0), torch.full((20,), total))
            owed += int((credit.principal_utok > 0).sum())
            if market.refused is not None:
                refused += int(market.refused.sum())
                assert not bool(market.buy_fill_wh[market.refused].any())
    assert owed > 0
    assert (refused > 0) == (env.params.local_credit_utok is not None)


@pytest.mark.parametrize("name", ["six blocks", "battery"])
def test_a_lane_is_the_single_run_and_resumes(name: str) -> None:
    batch = BatchedTwoStageDR(params_of(name), num_envs=4)
    single = BatchedTwoStageDR(params_of(name), first_lane=2)
    assert torch.equal(batch.reset(42)[2:3], single.reset(42))
    rng = np.random.default_rng(0)
    for step in range(24):
        actions = random_actions(batch, rng, extreme=0.2)
        if step == 17:
            resumed = BatchedTwoStageDR(params_of(name), first_lane=2)
            resumed.load_state_dict(single.state_dict())
            single = resumed
        assert torch.equal(batch.step(actions).observation[2:3], single.step(actions[2:3]).observation)
        assert torch.equal(batch.state.balances[:, 2:3], single.state.balances)


def street(*, credit: int | None, money: int, lag: int = 0, ppm: int = 0) -> BatchedTwoStageDR:
    """A home without sun and one with plenty; two hours at import price 20,000 and export price 11,000 µtok/Wh."""
    scenario = toy_scenario([12_000] * 4, [[1_000, 100]] * 4, [[0, 3_000]] * 4)
    params = TwoStageDRParams(
        num_prosumers=2, horizon_hours=4, forecast_error_permille=0, pv_scale_permille=1000, demand_min_permille=1000,
        demand_max_permille=1000, finality="strict", finality_lag_hours=lag, local_credit_utok=credit,
        initial_balance_utok=money, credit_interest_ppm=ppm,
    )  # fmt: skip
    env = BatchedTwoStageDR(params, scenario)
    env.reset(0)
    return env


def one_hour(env: BatchedTwoStageDR) -> stages.Settled:
    """Buyers pay at most the import price, sellers ask at least the export price."""
    env.step(torch.tensor([[[1.0, 0.0, -1.0]] * env.num_agents]))
    assert env.settled is not None
    return env.settled


def test_an_order_that_is_not_prepaid_is_served_upstream() -> None:
    env = street(credit=0, money=0)
    homes = env.state.home.d_min_wh[:, 0].tolist()
    hour = one_hour(env)
    assert hour.market.refused is not None
    assert hour.market.refused[:, 0].tolist() == [wh > 0 for wh in homes]
    assert int(hour.market.volume_wh) == 0
    assert hour.flows.wh[2, :, 0].tolist() == homes, "imported"
    assert int(hour.market.price) == 11_000, "the book holds supply only"
    rich = one_hour(street(credit=None, money=0))
    assert int(rich.market.volume_wh) == sum(homes)
    assert torch.equal(rich.market.shortage_wh, hour.market.shortage_wh)
    assert torch.equal(rich.load_wh, hour.load_wh), "nobody stays without energy"


def test_the_limit_is_the_dearest_that_the_order_can_cost() -> None:
    """One micro-token less than limit price times quantity and it is out; credit counts like money."""
    wanted = int(street(credit=None, money=0).state.home.d_min_wh[0, 0])
    cost = 20_000 * wanted
    assert wanted > 0
    for credit, money in ((0, cost), (cost, 0), (cost - 7, 7)):
        for short in (0, 1):
            hour = one_hour(street(credit=credit, money=max(0, money - short) if money else money))
            if money:
                assert hour.market.refused is not None
                assert bool(hour.market.refused[0, 0]) is bool(short)
    hour = one_hour(street(credit=cost - 1, money=0))
    assert hour.market.refused is not None
    assert bool(hour.market.refused[0, 0])


def test_interest_on_what_is_owed() -> None:
    """The buyer owes its bills; interest compounds, and each hour's is rounded down."""
    env = street(credit=None, money=0, ppm=10_000)
    owed = 0
    for _ in range(4):
        settled = one_hour(env)
        credit, flow = settled.credit, settled.flows
        assert credit is not None
        bill = int(flow.wh[0, 0, 0] * flow.price[0, 0] + flow.wh[2, 0, 0] * flow.price[2, 0])
        assert bill > 0
        owed += bill
        assert credit.principal_utok[0, 0] == owed
        assert credit.interest_utok[0, 0] == owed // 100
        owed += owed // 100
        assert settled.balances[0, 0] == -owed


def test_receipts_by_kind() -> None:
    """Kind by kind what is positive, against a plain loop; at negative prices the payer receives."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        wh = torch.from_numpy(rng.integers(0, 50, (8, 3, 2)))
        base = torch.from_numpy(rng.integers(-9, 10, (8, 2)))
        price = base[[0, 0, 1, 2, 3, 1, 2, 4]]
        flow = contract.Flows(wh, price, torch.zeros((2, 2), dtype=torch.int64))
        signs = (-1, 1, -1, 1, 1, -1, 1, -1)
        for i in range(3):
            for lane in range(2):
                amounts = [s * int(wh[k, i, lane]) * int(price[k, lane]) for k, s in enumerate(signs)]
                assert int(contract.prosumer_receipts(flow)[i, lane]) == sum(max(0, each) for each in amounts)
                assert int(contract.prosumer_payments(flow)[i, lane]) == sum(amounts)


def test_only_strict_finality_shows_spendable_money() -> None:
    strict = TwoStageDR(horizon_hours=3, finality="strict", initial_balance_utok=7 * TOKEN)
    plain = TwoStageDR(horizon_hours=3, initial_balance_utok=7 * TOKEN)
    seen, _ = strict.reset(seed=1)
    assert seen["prosumer_0"].shape == (len(FIELDS) + 1,)
    assert seen["prosumer_0"][-1] == 7.0
    assert strict.observation_space("prosumer_0").contains(seen["prosumer_0"])
    assert plain.reset(seed=1)[0]["prosumer_0"].shape == (len(FIELDS),)
    field = fields_of(strict.params)[-1]
    assert (field.name, field.unit) == ("spendable_tok", "token")
    assert field.meaning.startswith("private")
    assert strict.lanes.observation_fields == fields_of(strict.params)
    assert fields_of(plain.params) is FIELDS


def test_the_lag_is_counted_in_blocks() -> None:
    """What comes in is spendable when exactly so many blocks have followed."""
    for lag in range(4):
        env = street(credit=None, money=0, lag=lag)
        earned: list[int] = []
        paid = 0
        for hour in range(3):
            flow = one_hour(env).flows
            income = int(contract.prosumer_receipts(flow)[1, 0])
            earned.append(income)
            paid += income - int(contract.prosumer_payments(flow)[1, 0])
            final = sum(earned[: max(0, hour + 1 - lag)])
            assert int(env.state.spendable_utok[1, 0]) == final - paid


@pytest.mark.parametrize("name", sorted(STRICT))
def test_no_host_synchronisation(name: str) -> None:
    params = params_of(name)
    host = default_scenario()
    with FakeTensorMode():
        scenario = _fake(host)
        spec, scales = action_spec(params, "cuda:0"), observation_scales("cuda:0", params)
        shape = (5, params.num_prosumers)
        discrete = spec.num_actions > 0
        actions = torch.zeros(shape if discrete else (*shape, spec.size), device="cuda:0")
        actions = actions.to(torch.int64) if discrete else actions
        state = reset(params, scenario, 1, 5)
        for _ in range(3 * params.steps_per_hour):
            state, result = stages.step(params, spec, scenario, state, actions)
            assert observe(params, state, scales).shape == (*shape, len(FIELDS) + 1)
            if result.settled is not None:
                record = stages.hour_record(result.settled)
                assert {item.device.type for item in record if isinstance(item, torch.Tensor)} == {"cuda"}
                assert pack_transactions(record, range(5)).shape[1] == 9 * params.num_prosumers + 2


def test_compiled_equals_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """One graph without a break, by the backend that compiles no C++: with it this takes two minutes."""
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda *args, **kwargs: real(*args, backend="aot_eager", **kwargs))
    monkeypatch.setattr(batched, "missing_compiler", lambda device: None)
    params = params_of("six blocks", horizon_hours=5, num_prosumers=3, finality_lag_hours=3)
    eager, compiled = (BatchedTwoStageDR(params, num_envs=9, compile=compile) for compile in (False, True))
    assert torch.equal(eager.reset(3), compiled.reset(3))
    rng = np.random.default_rng(0)
    for _ in range(12):
        actions = random_actions(eager, rng, extreme=0.3)
        one, other = eager.step(actions), compiled.step(actions)
        assert torch.equal(one.observation, other.observation)
        assert torch.equal(one.reward, other.reward)
        assert_same(eager, compiled)


def test_accounts_are_kept_whatever_the_caller_says() -> None:
    """Who steps without accounts (a search over deviations, say) gets the same market."""
    env = BatchedTwoStageDR(params_of("six blocks"), num_envs=2)
    env.reset(1)
    actions = torch.ones(2, 10, 3)
    arguments = (env.params, env.action_spec, env.scenario, env.state, 0, False, actions, None)
    states: list[State] = [stages.step_at(*arguments, keep)[0] for keep in (True, False)]
    for item in fields(State):
        one, other = (getattr(state, item.name) for state in states)
        assert not isinstance(one, torch.Tensor) or torch.equal(one, other), item.name
    assert bool(states[1].balances.any())


@pytest.mark.parametrize("name", sorted(STRICT))
def test_sealed_hours_verify(name: str, tmp_path: Path) -> None:
    params = params_of(name)
    seal(params, tmp_path / "ledger", lanes=[0, 1], written=1, hours=20)
    verdict = verify(tmp_path / "ledger")
    assert verdict.ok, str(verdict)
    assert verdict.residual_utok == 0
    assert verdict.transactions == 20 * (9 * params.num_prosumers + 2)
    stats = ledger_stats(tmp_path / "ledger")
    assert (list(stats.kinds)[-1].name, stats.transactions) == ("INTEREST", verdict.transactions)
    assert (stats.kinds[list(stats.kinds)[-1]].amount_utok > 0) == (params.credit_interest_ppm > 0)
    with LedgerReader.open(tmp_path / "ledger") as reader:
        block, rules = reader.block(12), reader.rules
    rows = list(transaction_rows([block], rules, 12))
    assert b"".join(row.to_record() for row in rows) == block.transactions
    assert rows[-1].kind == "INTEREST"
    assert any(row.principal_utok for row in rows[-params.num_prosumers :])


def cheated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: Any, name: str, cheat: Any) -> Any:
    """What the replay finds wrong when the eighth result of a function passes through `cheat`."""
    honest, calls = getattr(module, name), []

    def cheating(*args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        return cheat(honest(*args, **kwargs)) if len(calls) == 8 else honest(*args, **kwargs)

    monkeypatch.setattr(module, name, cheating)
    seal(params_of("six blocks"), tmp_path / "ledger", lanes=[0], written=0, hours=14)
    where = verify(tmp_path / "ledger").error
    assert where is not None
    assert where.block == 7
    return where


@pytest.mark.parametrize(("field", "column"), [("principal_utok", "principal_utok"), ("interest_utok", "amount_utok")])
def test_a_debt_that_is_off_by_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, field: str, column: str) -> None:
    def cheat(credit: contract.Credit) -> contract.Credit:
        changed = getattr(credit, field).clone()
        changed[4, 0] += 1
        return credit._replace(**{field: changed})

    where = cheated(monkeypatch, tmp_path, contract, "charge_interest", cheat)
    assert (where.section, where.record, where.field) == ("transactions", 8 * 10 + 2 + 4, column)
    assert where.record_name == "INTEREST of prosumer 4"
    assert int(where.seen) - int(where.expected) == 1


def test_a_buyer_that_need_not_prepay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A clearing that lets everybody into the book: price, volume or fills are not those of the rules."""
    where = cheated(monkeypatch, tmp_path, contract, "may_buy", torch.ones_like)
    assert where.section in ("inputs", "transactions")


def test_a_debt_that_is_forgotten(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Money received counts at once: the principal is too small."""
    where = cheated(monkeypatch, tmp_path, contract, "prosumer_receipts", lambda receipts: torch.zeros_like(receipts))
    assert where.field in ("principal_utok", "amount_utok")


@pytest.mark.parametrize(
    "changes",
    [{"finality_lag_hours": 5}, {"local_credit_utok": 0}, {"credit_interest_ppm": 999}, {"initial_balance_utok": 1}],
)
def test_other_rules_than_the_genesis_says(changes: dict[str, int], tmp_path: Path) -> None:
    told = params_of("six blocks")
    seal(params_of("six blocks", **changes), tmp_path / "ledger", lanes=[0], written=0, hours=14, told=told)
    assert not verify(tmp_path / "ledger").ok


def test_hours_with_and_without_interest_do_not_mix() -> None:
    for first, second in (("strict", "instant"), ("instant", "strict")):
        rules = ledger_rules(TwoStageDRParams(finality=first), default_scenario(), 0)  # type: ignore[arg-type]
        env = BatchedTwoStageDR(TwoStageDRParams(finality=second), on_hour=LaneChains(rules, [0]).append)  # type: ignore[arg-type]
        env.reset(0)
        with pytest.raises(LedgerError, match=re.escape(f"under {first} finality; strict finality has some")):
            env.step(torch.zeros(1, 10, 3))


def test_the_operator_earns_the_interest() -> None:
    """Its account as comparisons count it is its account; welfare is what it is without interest."""
    env = BatchedTwoStageDR(params_of("no limit"), num_envs=2, auto_reset=False)
    env.reset(12)
    episode = play(env, Scripted(env, np.random.default_rng(3)), 12)
    assert episode.operator_utok.sum(0).tolist() == env.state.balances[-2].tolist()
    total = episode.received_utok.sum((0, 1)) + episode.operator_utok.sum(0) + episode.upstream_utok.sum(0)
    assert not total.any()


def test_hours_are_not_searched_one_by_one() -> None:
    """A purchase of this hour decides which orders the next takes."""
    params = TwoStageDRParams(finality="strict", shift_share_permille=0, forecast_error_permille=0)
    with pytest.raises(ConfigError, match=r"^finality: 'strict', allowed is 'instant'"):
        require_separable(params)


def test_deviations_are_searched_in_what_the_prosumers_see() -> None:
    """A policy for strict finality meets its spendable money in the copies of the lanes, too."""
    env = BatchedTwoStageDR(params_of("six blocks"), num_envs=3)
    market = Market.of(env.params, env.scenario, 4, 3)
    assert torch.equal(market.observe(market.start(0)), env.reset(4))
    state, _ = market.step(market.start(0), torch.ones(3, 10, 3))
    assert torch.equal(market.observe(state), env.step(torch.ones(3, 10, 3)).observation)
    assert bool(market.observe(state)[..., -1].any())
