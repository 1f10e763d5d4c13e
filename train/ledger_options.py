"""How a run's `ledger.bin` is sealed: who seals, how many may, and whether they sign."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import tyro

from gridmarl.consensus.registry import blocks_to_finality
from gridmarl.errors import ConfigError
from gridmarl.ledger.chain_rules import ChainRules
from gridmarl.ledger.election import MAX_VALIDATORS
from gridmarl.ledger.genesis import Rules
from gridmarl.ledger.keys import KEYS_FILE, KeyRing

DIFFICULTY_BITS = 12
CONFIRMATIONS = 6
AUTHORITY: Final = "proof_of_authority"
AnyRules = TypeVar("AnyRules", bound=ChainRules)
Consensus = Literal["proof_of_authority", "proof_of_stake", "proof_of_work", "pbft"]


@dataclass(kw_only=True)
class LedgerOptions:
    """Sealing of the ledger that a command writes."""

    consensus: Annotated[Consensus, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = AUTHORITY
    """Who seals: proof_of_authority (default), proof_of_stake, proof_of_work or pbft."""
    validators: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Prosumers or stations that seal; 1: the operator. Default: 1 under proof_of_authority, else all."""
    sign: Annotated[Literal["on", "off"], tyro.conf.arg(help_behavior_hint="")] = "on"
    """Sign by keys.json of the run, made if missing. (default: on)"""

    def sealing_fields(self, num_members: int) -> dict[str, Any]:
        """Fields of a market's rules that say who seals: consensus, validators, difficulty_bits, confirmations."""
        validators = self.validators
        if validators is None:
            validators = 1 if self.consensus == AUTHORITY else min(num_members, MAX_VALIDATORS)
        return {
            "consensus": self.consensus,
            "validators": validators,
            "difficulty_bits": DIFFICULTY_BITS if self.consensus == "proof_of_work" else 0,
            "confirmations": CONFIRMATIONS if self.consensus in ("proof_of_work", "proof_of_stake") else 0,
        }

    def finality_lag_hours(self, num_prosumers: int) -> int:
        """Hours until money is final, by who seals; a block is an hour."""
        fields = self.sealing_fields(num_prosumers)
        sizes = {name: fields[name] for name in ("validators", "confirmations")}
        return blocks_to_finality(self.consensus, **sizes)

    def sealing(self, num_prosumers: int) -> dict[str, Any]:
        """`sealing_fields` of a two-stage market.

        Raises:
            ConfigError: so many validators are not allowed.
        """
        fields = self.sealing_fields(num_prosumers)
        Rules(num_prosumers=num_prosumers, horizon_hours=1, initial_balances=(0,) * (num_prosumers + 3), **fields)
        return fields

    def signed(self, folder: Path, rules: AnyRules) -> tuple[AnyRules, KeyRing | None]:
        """Rules that name the keys of a run, and the keys: those in its folder, else new ones, which are kept there.

        Where nothing is signed, the rules as they are, and None.

        Args:
            rules: of the chain, with the fields of `sealing_fields`.

        Raises:
            ConfigError: the keys in the folder are of other numbers of validators or accounts.
            LedgerError: they cannot be read or written.
        """
        if self.sign == "off":
            return rules, None
        path, validators, accounts = folder / KEYS_FILE, rules.validators, rules.num_accounts
        if not path.exists():
            KeyRing.generate(accounts, validators).save(path)
        keys = KeyRing.load(path)
        if (len(keys.validators), len(keys.participants)) != (validators, accounts):
            raise ConfigError(
                f"keys: {path} holds those of {len(keys.validators)} validators and {len(keys.participants)} accounts; "
                f"allowed are those of {validators} and {accounts}, or a folder without keys"
            )
        return replace(rules, sealers=keys.public_keys, addresses=keys.addresses), keys
