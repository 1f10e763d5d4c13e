"""Tables of transitions: every state and call of every contract, and the tables in the docstrings."""

from __future__ import annotations

from enum import Enum
from types import ModuleType
from typing import Any

import pytest

from gridmarl.contracts import credit, deposit, escrow, quota, two_stage
from gridmarl.contracts.errors import (
    AlreadyDoneError,
    ContractError,
    IllegalTransitionError,
    TooEarlyError,
    TooLateError,
    WrongCallerError,
)
from gridmarl.contracts.machine import Machine, Transition
from gridmarl.contracts.two_stage import Phase, next_phase
from gridmarl.errors import ConfigError

CONTRACTS: list[tuple[ModuleType, Machine[Any]]] = [
    (deposit, deposit.DEPOSIT),
    (escrow, escrow.ESCROW),
    (credit, credit.CREDIT),
    (two_stage, two_stage.HOUR),
    (quota, quota.ROUND),
]


class Door(Enum):
    OPEN = 0
    SHUT = 1
    GONE = 2


def door(*rows: Transition[Door]) -> Machine[Door]:
    return Machine("door", Door.OPEN, rows)


SHUT = Transition(Door.OPEN, "shut", Door.SHUT, ("owner", "guest"), opens="noon", closes="dusk")
BREAK = Transition(Door.SHUT, "break", Door.GONE, ("owner",))


@pytest.mark.parametrize(("module", "machine"), CONTRACTS)
def test_the_docstring_has_the_table(module: ModuleType, machine: Machine[Any]) -> None:
    assert machine.table() in str(module.__doc__)


@pytest.mark.parametrize(("module", "machine"), CONTRACTS)
def test_every_call_in_every_state_by_everybody(module: ModuleType, machine: Machine[Any]) -> None:
    """What the table has works, within its window only; everything else is an error."""
    schedule = dict.fromkeys((name for row in machine.transitions for name in (row.opens, row.closes) if name), 10)
    roles = {role for row in machine.transitions for role in row.callers} | {"other"}
    calls = {row.call for row in machine.transitions} | {"steal"}
    worked = 0
    for state in type(machine.initial):
        for call in sorted(calls):
            for role in sorted(roles):
                rows = [row for row in machine.transitions if (row.source, row.call) == (state, call)]
                for now in (9, 10):
                    fits = [
                        row
                        for row in rows
                        if role in row.callers and not (row.opens and now < 10) and not (row.closes and now >= 10)
                    ]
                    if fits:
                        assert machine.after(state, call, role, now, schedule) is fits[0].target
                        worked += 1
                    else:
                        with pytest.raises(ContractError, match=f"^contract {machine.name}: {call} by {role} in state"):
                            machine.after(state, call, role, now, schedule)
    assert worked >= len(machine.transitions)


def test_each_refusal_says_why() -> None:
    machine, times = door(SHUT, BREAK), {"noon": 12, "dusk": 18}
    assert machine.after(Door.OPEN, "shut", "guest", 12, times) is Door.SHUT
    assert machine.after(Door.OPEN, "shut", "owner", 17, times) is Door.SHUT
    with pytest.raises(
        TooEarlyError, match=r"shut by guest in state OPEN at time 11; allowed is time 12 \(noon\) or later$"
    ):
        machine.after(Door.OPEN, "shut", "guest", 11, times)
    with pytest.raises(
        TooLateError, match=r"shut by guest in state OPEN at time 18; allowed is before time 18 \(dusk\)$"
    ):
        machine.after(Door.OPEN, "shut", "guest", 18, times)
    with pytest.raises(WrongCallerError, match=r"break by guest in state SHUT; allowed is owner$"):
        machine.after(Door.SHUT, "break", "guest")
    with pytest.raises(AlreadyDoneError, match=r"shut by guest in state SHUT; allowed here: break by owner$"):
        machine.after(Door.SHUT, "shut", "guest", 13, times)
    with pytest.raises(IllegalTransitionError, match=r"break by owner in state OPEN; allowed here: shut by owner or"):
        machine.after(Door.OPEN, "break", "owner")
    with pytest.raises(AlreadyDoneError, match="allowed here: nothing, it has ended"):
        machine.after(Door.GONE, "break", "owner")
    with pytest.raises(ConfigError, match=r"no time 'noon' in the schedule \['dusk'\]"):
        machine.after(Door.OPEN, "shut", "guest", 13, {"dusk": 18})


def test_not_yet_is_not_twice() -> None:
    with pytest.raises(IllegalTransitionError) as caught:
        door(SHUT, BREAK).after(Door.OPEN, "break", "owner")
    assert not isinstance(caught.value, AlreadyDoneError)


def test_tables_that_are_none() -> None:
    with pytest.raises(ConfigError, match="contract door: two transitions of one call in one state"):
        door(SHUT, BREAK, Transition(Door.OPEN, "shut", Door.GONE, ("owner",)))
    with pytest.raises(ConfigError, match="contract door: states GONE cannot be reached from OPEN"):
        door(SHUT)


def test_an_hour_settles_once() -> None:
    phase = next_phase(Phase.BIDDING, "clear")
    assert next_phase(phase, "close") is Phase.CLOSED
    phase = next_phase(phase, "settle")
    assert phase is Phase.BIDDING
    for seen, call in ((Phase.BIDDING, "settle"), (Phase.CLOSED, "settle"), (Phase.CLOSED, "clear")):
        with pytest.raises(IllegalTransitionError, match=f"^contract two-stage market: {call} by market in state"):
            next_phase(seen, call)
