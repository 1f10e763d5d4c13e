"""Markets whose chains can be read, by the name in the genesis. Another one adds a class of rules, and a row here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gridmarl.errors import LedgerError
from gridmarl.ledger.chain_rules import SHORT, parse_genesis
from gridmarl.ledger.genesis import Rules
from gridmarl.ledger.quota_genesis import QuotaRules

if TYPE_CHECKING:
    from gridmarl.ledger.chain_rules import ChainRules

MARKETS: dict[str, type[ChainRules]] = {rules.market: rules for rules in (Rules, QuotaRules)}


def read_rules(data: bytes) -> ChainRules:
    """The rules in a genesis, of whichever market.

    Raises:
        LedgerError: as `ChainRules.from_bytes`, or a market that is not known.
    """
    content = parse_genesis(data)
    name = content.get("market", Rules.market)  # without a name, the two-stage rules say what is missing
    if type(name) is not str or name not in MARKETS:
        raise LedgerError(f"genesis: market {SHORT.repr(name)}; {', '.join(MARKETS)} are allowed")
    return MARKETS[name].from_content(content, data)
