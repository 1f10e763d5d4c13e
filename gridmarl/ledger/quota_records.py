"""Layout of the 64-byte records of charging quotas (docs/quota-rules.md); word 0 as in `gridmarl.ledger.fields`.

| word | transaction (kinds 21..25)   | QUOTA_SIGNAL (121) | DECLARATION (122) | QUOTA_ORDER (123) | QUOTA_METER (124) |
|------|------------------------------|--------------------|-------------------|-------------------|-------------------|
| 0    | kind, flags 0, period        | same               | same              | same              | same              |
| 1    | payer (u32), payee (u32)<<32 | M published margin | d declared        | price             | u used, metered   |
| 2    | energy, Wh                   | margin as it came  | deposit, µtok     | quantity bought   | Q final quota     |
| 3    | price, µtok/Wh, or 0         | tariff             | q first quota     | quantity sold     | 0                 |
| 4    | amount, µtok                 | R granted          | 0                 | 0                 | 0                 |
| 5    | lane                         | scarce, 0 or 1     | station           | station           | station           |
| 6    | sequence number in block     | V volume traded    | lane              | lane              | lane              |
| 7    | 0                            | mean auction price | 0                 | 0                 | 0                 |

Energy in Wh, prices in µtok/Wh. Input section of a block: one QUOTA_SIGNAL, `N` DECLARATIONs, `N` QUOTA_ORDERs, `N`
QUOTA_METERs, each of stations `0..N-1`. Transaction section: kind-major, `5N` records, those of zero energy included.

| kind | flow            | payer -> payee | energy     | amount                                       |
|------|-----------------|----------------|------------|----------------------------------------------|
| 21   | QUOTA_PAYMENT   | station -> DSO | bought     | what the auction makes the buyer pay         |
| 22   | QUOTA_INCOME    | DSO -> station | sold       | what the auction pays the seller             |
| 23   | CHARGING_FEE    | station -> DSO | u          | u times the tariff                           |
| 24   | OVERUSE_PENALTY | station -> DSO | `[u - Q]+` | energy times the penalty rate                |
| 25   | FORFEITURE      | station -> DSO | `[Q - u]+` | energy times the forfeited share of the rate |

The price is amount / energy where that is a whole number (and there is energy), else 0: so energy times price is the
amount wherever a price stands. An order that meets several others at different prices (`pairwise`) may have none. The
DSO's account passes what is paid for quotas on to those who sold them. Deposits leave a balance and come back within a
round: they stand in the DECLARATIONs, and between blocks in no balance.
"""

from __future__ import annotations

from enum import IntEnum

from gridmarl.ledger.fields import TRANSACTION, Field, layout

STATION_KINDS = 5
DSO_PAYS = 1
"""Position of the one kind that the DSO pays and stations receive, QUOTA_INCOME, among the kinds."""


class QuotaKind(IntEnum):
    """Record kinds: 21..25 the flows of money, 121.. the inputs."""

    QUOTA_PAYMENT = 21
    QUOTA_INCOME = 22
    CHARGING_FEE = 23
    OVERUSE_PENALTY = 24
    FORFEITURE = 25
    QUOTA_SIGNAL = 121
    DECLARATION = 122
    QUOTA_ORDER = 123
    QUOTA_METER = 124


INPUT_KINDS = (QuotaKind.DECLARATION, QuotaKind.QUOTA_ORDER, QuotaKind.QUOTA_METER)
"""Kinds of the stations' inputs, in order."""

FIELDS: dict[int, tuple[Field, ...]] = {
    **{int(kind): TRANSACTION for kind in tuple(QuotaKind)[:STATION_KINDS]},
    QuotaKind.QUOTA_SIGNAL: layout(
        "margin_wh", "actual_margin_wh", "tariff", "granted_wh", "scarce", "volume_wh", "price"
    ),
    QuotaKind.DECLARATION: layout(
        "declared_wh", "deposit_utok", "quota_wh", "reserved_4", "station", "lane", "reserved_7"
    ),
    QuotaKind.QUOTA_ORDER: layout("price", "buy_wh", "sell_wh", "reserved_4", "station", "lane", "reserved_7"),
    QuotaKind.QUOTA_METER: layout("used_wh", "quota_wh", "reserved_3", "reserved_4", "station", "lane", "reserved_7"),
}


def quota_input_count(num_stations: int) -> int:
    """Records in the input section of a block: `1 + 3N`."""
    return 1 + 3 * num_stations


def quota_transaction_count(num_stations: int) -> int:
    """Records in the transaction section of a block: `5N`."""
    return STATION_KINDS * num_stations


def quota_input_name(index: int, num_stations: int) -> str:
    """Name of an input record, such as `DECLARATION of station 3`."""
    if index == 0:
        return QuotaKind.QUOTA_SIGNAL.name
    section, station = divmod(index - 1, num_stations)
    return f"{INPUT_KINDS[section].name} of station {station}"


def quota_transaction_name(index: int, num_stations: int) -> str:
    """Name of a transaction record, such as `CHARGING_FEE of station 3`."""
    kind, station = divmod(index, num_stations)
    return f"{QuotaKind(QuotaKind.QUOTA_PAYMENT + kind).name} of station {station}"
