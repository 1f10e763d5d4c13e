"""State machines of contracts: a table of transitions, who may call them, and when.

States live on the host (all lanes of a batch walk through a contract together), amounts in tensors elsewhere. A machine
keeps nothing: `after` maps a state and a call to the next state, so a contract's state can be copied, stored, compiled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Generic, NoReturn, TypeVar

from gridmarl.contracts.errors import (
    AlreadyDoneError,
    IllegalTransitionError,
    TooEarlyError,
    TooLateError,
    WrongCallerError,
)
from gridmarl.errors import ConfigError

S = TypeVar("S", bound=Enum)
NO_SCHEDULE: Mapping[str, int] = {}


@dataclass(frozen=True)
class Transition(Generic[S]):
    """One row of a contract's table.

    Attributes:
        source: state in which the call exists.
        call: name of the call.
        target: state after it.
        callers: roles that may make it.
        opens: name of the time from which it may be made; None: at once.
        closes: name of the deadline, the first time at which it may not be made; None: never.
    """

    source: S
    call: str
    target: S
    callers: tuple[str, ...]
    opens: str | None = None
    closes: str | None = None


class Machine(Generic[S]):
    """A contract's table of transitions.

    Args:
        name: of the contract, for messages.
        initial: state in which a contract begins.
        transitions: the rows; a state without rows is an end.

    Raises:
        ConfigError: two rows for one call in one state, or a state that cannot be reached.
    """

    def __init__(self, name: str, initial: S, transitions: Iterable[Transition[S]]) -> None:
        self.name, self.initial = name, initial
        self.transitions = tuple(transitions)
        self._rows = {(row.source, row.call): row for row in self.transitions}
        if len(self._rows) != len(self.transitions):
            raise ConfigError(f"contract {name}: two transitions of one call in one state; allowed is one")
        lost = set(type(initial)) - self._reach(initial)
        if lost:
            names = ", ".join(sorted(state.name for state in lost))
            raise ConfigError(f"contract {name}: states {names} cannot be reached from {initial.name}")

    def after(self, state: S, call: str, caller: str, now: int = 0, schedule: Mapping[str, int] = NO_SCHEDULE) -> S:
        """State after a call.

        Args:
            state: where the contract stands.
            caller: role of who calls.
            now: time of the call (a block height, an hour).
            schedule: times by the names that the transitions use.

        Raises:
            IllegalTransitionError: no such call in this state; AlreadyDoneError if it was made before.
            WrongCallerError: the role may not make this call.
            TooEarlyError, TooLateError: outside the call's window.
            ConfigError: the schedule lacks a time that the call needs.
        """
        row = self._rows.get((state, call))
        if row is None:
            self._refuse_call(state, call, caller)
        if caller not in row.callers:
            raise WrongCallerError(f"{self._says(state, call, caller)}; allowed is {' or '.join(row.callers)}")
        if row.opens is not None and now < self._time(row.opens, schedule):
            allowed = f"time {schedule[row.opens]} ({row.opens}) or later"
            raise TooEarlyError(f"{self._says(state, call, caller)} at time {now}; allowed is {allowed}")
        if row.closes is not None and now >= self._time(row.closes, schedule):
            allowed = f"before time {schedule[row.closes]} ({row.closes})"
            raise TooLateError(f"{self._says(state, call, caller)} at time {now}; allowed is {allowed}")
        return row.target

    def table(self) -> str:
        """The transitions as lines of a Markdown table, as they stand in the docstring of the contract's module."""
        lines = ["| state | call | by | from | before | next |", "|---|---|---|---|---|---|"]
        for row in self.transitions:
            times = [name or "-" for name in (row.opens, row.closes)]
            cells = [row.source.name, row.call, " or ".join(row.callers), *times, row.target.name]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)

    def _says(self, state: S, call: str, caller: str) -> str:
        return f"contract {self.name}: {call} by {caller} in state {state.name}"

    def _time(self, name: str, schedule: Mapping[str, int]) -> int:
        if name not in schedule:
            raise ConfigError(f"contract {self.name}: no time {name!r} in the schedule {sorted(schedule)}")
        return schedule[name]

    def _refuse_call(self, state: S, call: str, caller: str) -> NoReturn:
        here = [f"{row.call} by {' or '.join(row.callers)}" for row in self.transitions if row.source is state]
        allowed = "; ".join(here) or "nothing, it has ended"
        made = any(row.call == call and state in self._reach(row.target) for row in self.transitions)
        again = any(row.call == call and row.source in self._reach(state) for row in self.transitions)
        kind = AlreadyDoneError if made and not again else IllegalTransitionError
        raise kind(f"{self._says(state, call, caller)}; allowed here: {allowed}")

    def _reach(self, start: S) -> set[S]:
        """States that can be reached from a state, itself included."""
        found, open_ = {start}, [start]
        while open_:
            state = open_.pop()
            following = {row.target for row in self.transitions if row.source is state} - found
            found |= following
            open_ += following
        return found
