"""Where in a ledger something is wrong: block, section, record and field, with what was expected and seen."""

from __future__ import annotations

from dataclasses import dataclass

from gridmarl.errors import LedgerError

FILE, GENESIS, HEADER, SIGNATURES = "file", "genesis", "header", "signatures"
INPUTS, TRANSACTIONS, TRAILER = "inputs", "transactions", "trailer"


@dataclass(frozen=True)
class Location:
    """Attributes:
    section: "file" (magic and version), "genesis", "header", "signatures", "inputs", "transactions" or "trailer".
    block: height, None outside the blocks.
    record: index of the record (of signatures: the slot) in its section, None where not derivable.
    record_name: such as "METER of prosumer 3" or "LOCAL_BUY".
    field: name of the field, None where not derivable.
    expected, seen: values as text (hashes in hexadecimal).
    reason: one sentence.
    """

    section: str
    reason: str
    block: int | None = None
    record: int | None = None
    record_name: str | None = None
    field: str | None = None
    expected: str | None = None
    seen: str | None = None

    def __str__(self) -> str:
        where = [] if self.block is None else [f"block {self.block}"]
        where.append(self.section)
        if self.record is not None:
            where.append(f"record {self.record}" + (f" ({self.record_name})" if self.record_name else ""))
        if self.field is not None:
            where.append(f"field {self.field}")
        values = "" if self.expected is None else f": expected {self.expected}, seen {self.seen}"
        return f"{', '.join(where)}: {self.reason}{values}"


class LocatedError(LedgerError):
    """A LedgerError that knows its Location."""

    def __init__(self, location: Location) -> None:
        super().__init__(str(location))
        self.location = location


def text(value: object) -> str:
    """A value as it stands in a Location."""
    return value.hex() if isinstance(value, bytes) else str(value)


def mismatch(
    section: str, reason: str, *, block: int | None, field: str, expected: object, seen: object
) -> LocatedError:
    """Error of a field whose value differs from the expected one."""
    return LocatedError(Location(section, reason, block=block, field=field, expected=text(expected), seen=text(seen)))
