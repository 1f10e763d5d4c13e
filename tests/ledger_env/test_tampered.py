"""An environment that cheats is caught by the replay, which names block, record and field."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gridmarl.contracts import two_stage as contract
from gridmarl.envs.two_stage_dr import step as stages
from gridmarl.envs.two_stage_dr.params import TwoStageDRParams
from gridmarl.ledger import Location, verify
from tests.ledger_env.sealed import params_of, seal

CHEATED = 7  # hour
Cheat = Callable[[Any], Any]


def in_one_hour(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, cheat: Cheat) -> None:
    """Pass what `module.name` returns through `cheat` the eighth time it is called, once an hour."""
    honest = getattr(module, name)
    calls: list[None] = []

    def cheating(*args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        result = honest(*args, **kwargs)
        return cheat(result) if len(calls) == CHEATED + 1 else result

    monkeypatch.setattr(module, name, cheating)


def found(path: Path, params: TwoStageDRParams | None = None, told: TwoStageDRParams | None = None) -> Location:
    """What the replay finds wrong with two lanes' episode, of which the first is written."""
    params = params or params_of("battery")
    seal(params, path, lanes=[0, 1], written=0, hours=params.horizon_hours, told=told)
    verdict = verify(path)
    assert not verdict.ok
    assert verdict.error is not None
    assert verdict.blocks == verdict.error.block, "all before is verified, nothing after"
    return verdict.error


def first_lane(tensor: Tensor, index: int, change: int) -> Tensor:
    changed = tensor.clone()
    changed[index, 0] += change
    return changed


def test_honest_play_verifies(tmp_path: Path) -> None:
    seal(params_of("battery"), tmp_path / "ledger", lanes=[0, 1], written=0, hours=24)
    assert verify(tmp_path / "ledger").ok


def test_the_other_lane_is_not_blamed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_one_hour(monkeypatch, stages, "settle", lambda hour: hour._replace(balances=first_lane(hour.balances, 0, 1)))
    seal(params_of("battery"), tmp_path / "ledger", lanes=[0, 1], written=1, hours=24)
    assert verify(tmp_path / "ledger").ok


@pytest.mark.parametrize("made", [False, True])
def test_one_micro_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, made: bool) -> None:
    """Moved from prosumer 3 to prosumer 1, or made from nothing: the accounts do not have the root they should."""

    def cheat(hour: stages.Settled) -> stages.Settled:
        balances = first_lane(hour.balances, 1, 1)
        return hour._replace(balances=balances if made else first_lane(balances, 3, -1))

    in_one_hour(monkeypatch, stages, "settle", cheat)
    where = found(tmp_path / "ledger")
    assert (where.block, where.section, where.field) == (CHEATED, "header", "state_root")


def test_one_watt_hour_given_to_a_friend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A clearing that lets one buyer have what belongs to another; all sums are as they should be."""
    moved: list[int] = []

    def cheat(market: Any) -> Any:
        filled = market.buy_fill_wh[:, 0]
        victim = int(filled.argmax())
        friend = (victim + 1) % len(filled)
        moved.extend(sorted((victim, friend)))
        fills = first_lane(first_lane(market.buy_fill_wh, victim, -1), friend, 1)
        return market._replace(buy_fill_wh=fills)

    in_one_hour(monkeypatch, stages, "clear", cheat)
    where = found(tmp_path / "ledger")
    assert (where.block, where.section, where.record) == (CHEATED, "transactions", moved[0])
    assert (where.record_name, where.field) == (f"LOCAL_BUY of prosumer {moved[0]}", "energy_wh")
    assert abs(int(where.expected or 0) - int(where.seen or 0)) == 1


@pytest.mark.parametrize(("name", "change"), [("price", 1), ("price", -1), ("dr_price", 1), ("shortage_wh", 1)])
def test_a_signal_that_is_off_by_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, change: int) -> None:
    def cheat(market: Any) -> Any:
        return market._replace(**{name: getattr(market, name) + change})

    in_one_hour(monkeypatch, stages, "clear", cheat)
    where = found(tmp_path / "ledger")
    assert (where.block, where.section, where.record, where.record_name) == (CHEATED, "inputs", 0, "SIGNAL")
    assert where.field == name
    assert int(where.seen or 0) - int(where.expected or 0) == change


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (1, "LOCAL_SELL"), (2, "IMPORT"), (3, "EXPORT"), (4, "REDUCTION"), (5, "SHORTFALL"), (6, "SURPLUS"),
        (7, "PENALTY"),
    ],
)  # fmt: skip
def test_one_watt_hour_more_in_any_flow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: int, name: str) -> None:
    def cheat(flow: contract.Flows) -> contract.Flows:
        changed = flow.wh.clone()
        changed[kind, 4, 0] += 1
        return flow._replace(wh=changed)

    in_one_hour(monkeypatch, contract, "flows", cheat)
    where = found(tmp_path / "ledger")
    assert (where.block, where.section, where.record) == (CHEATED, "transactions", 10 * kind + 4)
    assert (where.record_name, where.field) == (f"{name} of prosumer 4", "energy_wh")


def test_reductions_accepted_from_a_friend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first offers accepted in full instead of a share of all."""

    def first_come(offered: Tensor, shortage: Tensor, start: int) -> Tensor:
        before = offered.cumsum(0) - offered
        return torch.minimum(offered, (shortage - before).clamp(min=0))

    monkeypatch.setattr(contract, "accept_reductions", first_come)
    params = TwoStageDRParams(dr_settlement="additive", participation_permille=1000, alpha_permille=3000)
    where = found(tmp_path / "ledger", params)
    assert where.section == "inputs"
    assert where.record_name is not None
    assert where.record_name.startswith("METER of prosumer ")
    assert where.field == "load_wh"


@pytest.mark.parametrize(
    ("name", "total", "field"),
    [("charge_wh", "buy_wh", "charge_wh"), ("discharge_wh", "sell_wh", "discharge_wh")],
)
def test_a_battery_beyond_its_power(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, total: str, field: str
) -> None:
    def cheat(orders: Any) -> Any:
        more = {part: first_lane(getattr(orders, part), 2, 2_000) for part in (name, total)}
        other = "discharge_wh" if name == "charge_wh" else "charge_wh"
        none = getattr(orders, other).clone()
        rest = "sell_wh" if name == "charge_wh" else "buy_wh"
        spared = getattr(orders, rest).clone()
        spared[2, 0] -= none[2, 0]
        none[2, 0] = 0
        return orders._replace(**more, **{other: none, rest: spared})

    in_one_hour(monkeypatch, stages, "collect_orders", cheat)
    where = found(tmp_path / "ledger")
    assert (where.block, where.section, where.record) == (CHEATED, "inputs", 1 + 10 + 2)
    assert (where.record_name, where.field) == ("METER of prosumer 2", field)


def test_shifted_energy_that_never_returns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Forgiven in one hour: known when the episode is complete, and blamed on that hour."""
    forgiven: list[int] = []
    honest: Callable[..., Any] = stages.collect_orders
    calls: list[None] = []

    def cheating(*args: Any, **kwargs: Any) -> Any:
        orders = honest(*args, **kwargs)
        calls.append(None)
        due = orders.returned_wh[:, 0]
        if forgiven or not bool(due.any()):
            return orders
        who = int(due.argmax())
        forgiven.extend((len(calls) - 1, who))
        amount = int(due[who])
        less = {name: first_lane(getattr(orders, name), who, -amount) for name in ("returned_wh", "buy_wh")}
        return orders._replace(**less)

    monkeypatch.setattr(stages, "collect_orders", cheating)
    params = TwoStageDRParams(horizon_hours=24, dr_settlement="additive", participation_permille=1000)
    seal(params, tmp_path / "ledger", lanes=[0, 1], written=0, hours=24)
    where = verify(tmp_path / "ledger").error
    assert where is not None
    hour, who = forgiven
    assert (where.block, where.section, where.field) == (hour, "inputs", "returned_wh")
    assert where.record_name == f"METER of prosumer {who}"


@pytest.mark.parametrize(
    ("changes", "section", "name", "field"),
    [
        ({"penalty_permille": 101}, "transactions", "PENALTY of prosumer 0", "price_utok_per_wh"),
        ({"alpha_permille": 1201}, "inputs", "SIGNAL", "alpha_permille"),
        ({"price_rule": "marginal_pair"}, "inputs", "SIGNAL", "price"),
        ({"battery_power_w": 2_500}, "inputs", None, None),
        ({"dr_settlement": "additive"}, "transactions", "REDUCTION of prosumer 0", "price_utok_per_wh"),
    ],
)
def test_other_rules_than_the_genesis_says(
    changes: dict[str, Any], section: str, name: str | None, field: str | None, tmp_path: Path
) -> None:
    told = params_of("battery")
    where = found(tmp_path / "ledger", TwoStageDRParams.from_dict(told.to_dict() | changes), told)
    assert where.section == section
    assert where.record is not None
    if name is not None:
        assert (where.record_name, where.field) == (name, field)
    else:
        assert where.field in ("charge_wh", "discharge_wh")
