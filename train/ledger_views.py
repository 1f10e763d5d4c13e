"""How `gridmarl ledger show` lays out the blocks of each market: exact decimals in kWh, token/kWh, token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gridmarl.ledger import QuotaRules, Rules
from gridmarl.ledger.quota_records import QuotaKind
from gridmarl.ledger.records import Kind

Shown = Callable[[int], str]


def fixed(value: int, decimals: int) -> str:
    """`value / 10**decimals`, exactly, thousands separated."""
    whole, part = divmod(abs(value), 10**decimals)
    return f"{'-' if value < 0 else ''}{whole:,}.{part:0{decimals}d}"


def kwh(energy_wh: int) -> str:
    """Energy in kWh."""
    return fixed(energy_wh, 3)


def tok_per_kwh(price_utok_per_wh: int) -> str:
    """Price in token/kWh: 1 µtok/Wh is 0.001 token/kWh."""
    return fixed(price_utok_per_wh, 3)


def tok(amount_utok: int) -> str:
    """Money in token."""
    return fixed(amount_utok, 6)


@dataclass(frozen=True)
class Column:
    """A field of a record."""

    heading: str
    field: str
    shown: Shown


@dataclass(frozen=True)
class Inputs:
    """A table of one kind of input records, one line for each member."""

    title: str
    kind: int
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class View:
    """A market's blocks.

    Attributes:
        period, member: what they are called.
        block: columns of the table of blocks, of a block's first input record.
        inputs: tables of the other input records.
        units: of fields of the first input record that are no prices.
    """

    period: str
    member: str
    block: tuple[Column, ...]
    inputs: tuple[Inputs, ...]
    units: dict[str, Shown] = field(default_factory=dict)


def _energies(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name.removesuffix("_wh"), name, kwh) for name in names)


VIEWS = {
    Rules.market: View(
        period="hour",
        member="prosumer",
        block=(
            Column("import", "import_price", tok_per_kwh),
            Column("export", "export_price", tok_per_kwh),
            Column("price", "price", tok_per_kwh),
            Column("DR price", "dr_price", tok_per_kwh),
            Column("traded\nkWh", "volume_wh", kwh),
            Column("shortage\nkWh", "shortage_wh", kwh),
        ),
        inputs=(
            Inputs(
                "Orders",
                Kind.ORDER,
                (
                    Column("buy at\ntoken/kWh", "buy_price", tok_per_kwh),
                    Column("buy\nkWh", "buy_wh", kwh),
                    Column("sell at\ntoken/kWh", "sell_price", tok_per_kwh),
                    Column("sell\nkWh", "sell_wh", kwh),
                ),
            ),
            Inputs(
                "Meter readings and reductions offered, kWh",
                Kind.METER,
                _energies(
                    "offered_wh", "demand_wh", "returned_wh", "charge_wh", "discharge_wh", "generation_wh", "load_wh"
                ),
            ),
        ),
        units={"alpha_permille": str, "shortage_wh": kwh, "volume_wh": kwh},
    ),
    QuotaRules.market: View(
        period="half hour",
        member="station",
        block=(
            Column("margin\nkWh", "margin_wh", kwh),
            Column("granted\nkWh", "granted_wh", kwh),
            Column("scarce", "scarce", str),
            Column("traded\nkWh", "volume_wh", kwh),
            Column("price", "price", tok_per_kwh),
            Column("tariff", "tariff", tok_per_kwh),
        ),
        inputs=(
            Inputs(
                "Declarations",
                QuotaKind.DECLARATION,
                (
                    Column("declared\nkWh", "declared_wh", kwh),
                    Column("deposit\ntoken", "deposit_utok", tok),
                    Column("quota\nkWh", "quota_wh", kwh),
                ),
            ),
            Inputs(
                "Orders",
                QuotaKind.QUOTA_ORDER,
                (
                    Column("at\ntoken/kWh", "price", tok_per_kwh),
                    Column("buy\nkWh", "buy_wh", kwh),
                    Column("sell\nkWh", "sell_wh", kwh),
                ),
            ),
            Inputs(
                "Meter readings, kWh",
                QuotaKind.QUOTA_METER,
                (Column("used", "used_wh", kwh), Column("final quota", "quota_wh", kwh)),
            ),
        ),
        units={"scarce": str} | dict.fromkeys(("margin_wh", "actual_margin_wh", "granted_wh", "volume_wh"), kwh),
    ),
}
"""By the market's name in the genesis."""
