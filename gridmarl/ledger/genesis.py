"""Genesis: the rules of a market as canonical JSON, whose derive-key BLAKE3 hash is the parent of block 0.

Canonical JSON: UTF-8, keys sorted, no whitespace, integers only (no floats), every key present.
"""

from __future__ import annotations

import json
import reprlib
from dataclasses import dataclass, fields
from typing import Any

import gridmarl
from gridmarl.errors import ConfigError, LedgerError
from gridmarl.json_depth import require_shallow
from gridmarl.ledger.block import CONSENSUS_CODES
from gridmarl.ledger.election import MAX_CONFIRMATIONS, MAX_VALIDATORS, MIN_PBFT_VALIDATORS
from gridmarl.ledger.hashing import HASH_BYTES, genesis_hash
from gridmarl.ledger.nonce import MAX_DIFFICULTY_BITS
from gridmarl.ledger.records import transaction_count
from gridmarl.units import MAX_BOOK_WH

FORMAT = "gridmarl-ledger"
FORMAT_VERSION = 2
MARKET = "two-stage-dr"
MAX_PROSUMERS = 1_000_000
MAX_HOURS = (1 << 31) - 1
MAX_BALANCE_UTOK = 1 << 62
MAX_GENESIS_BYTES = 1 << 27  # a million prosumers with long balances, batteries and addresses need 121 MB
_SHORT = reprlib.Repr()  # a file's values in messages: neither their length nor their depth may be the file's choice
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxlong, _SHORT.maxother = 2, 60, 60, 60
_FIXED: dict[str, Any] = {"format": FORMAT, "version": FORMAT_VERSION, "market": MARKET}
_CHOICES = {
    "price_rule": ("uniform", "marginal_pair"),
    "dr_settlement": ("two_settlement", "additive"),
    "consensus": tuple(CONSENSUS_CODES),
    "finality": ("instant", "strict"),
}
_RANGES = {
    "num_prosumers": (1, MAX_PROSUMERS),
    "horizon_hours": (1, MAX_HOURS),
    "k_permille": (0, 1000),
    "alpha_permille": (1000, 1_000_000),
    "penalty_permille": (0, 1_000_000),
    "shift_share_permille": (0, 1000),
    "shift_deadline_hours": (0, MAX_HOURS),
    "battery_efficiency_permille": (1, 1000),
    "credit_limit_utok": (0, MAX_BALANCE_UTOK),
    "finality_lag_hours": (0, MAX_HOURS),
    "local_credit_utok": (0, MAX_BALANCE_UTOK),
    "credit_interest_ppm": (0, 1_000_000),
    "seed": (0, (1 << 64) - 1),
    "lane": (0, (1 << 63) - 1),
    "validators": (1, MAX_VALIDATORS),
    "difficulty_bits": (0, MAX_DIFFICULTY_BITS),
    "confirmations": (0, MAX_CONFIRMATIONS),
}
_OPTIONAL = ("alpha_permille", "credit_limit_utok", "local_credit_utok", "battery_initial_wh")
_PER_PROSUMER = ("battery_capacity_wh", "battery_power_w", "battery_initial_wh")
_TEXTS = ("scenario", "gridmarl_version")
_HEX_DIGITS = frozenset("0123456789abcdef")


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Rules of one two-stage market, as far as a replay needs them (docs/market-rules.md).

    Attributes:
        alpha_permille: factor of the demand-response price; None if the operator chooses it every hour.
        battery_capacity_wh, battery_power_w: one value for all prosumers or one for each.
        battery_initial_wh: charge at the start of every episode, restored at its end; None if the ledger does not fix
            it (then replay checks power and exclusiveness only).
        initial_balances: `[P+3]`, µtok.
        credit_limit_utok: the most a prosumer may owe at the end of an hour, in µtok; None for no limit. Market,
            operator and upstream have no limit.
        finality: "strict": money received is spendable when `finality_lag_hours` blocks have followed, local buying is
            prepaid from spendable money and `local_credit_utok` (None: without limit), and hours end with interest.
        credit_interest_ppm: interest for an hour on spendable money below zero, parts per million.
        scenario: name of the scenario or data set.
        consensus: who seals; see `gridmarl.ledger.sealing`.
        validators: how many may seal: one, which is the operator, or the first so many prosumers. PBFT needs four.
        sealers: public keys of the validators in hexadecimal, Ed25519; empty: the chain is unsigned.
        addresses: `[P+3]` of the accounts in hexadecimal: hashes of public keys (`gridmarl.ledger.keys`); may be empty.
        difficulty_bits: zero bits that hashes must begin with under proof of work; else 0.
        confirmations: blocks that must follow until a block is final under proof of work and of stake; else 0.

    Raises:
        ConfigError: a field has the wrong type or lies outside its range.
    """

    num_prosumers: int
    horizon_hours: int
    initial_balances: tuple[int, ...]
    k_permille: int = 500
    price_rule: str = "uniform"
    dr_settlement: str = "two_settlement"
    alpha_permille: int | None = 1000
    penalty_permille: int = 0
    shift_share_permille: int = 0
    shift_deadline_hours: int = 0
    battery_capacity_wh: int | tuple[int, ...] = 0
    battery_power_w: int | tuple[int, ...] = 0
    battery_efficiency_permille: int = 1000
    battery_initial_wh: int | tuple[int, ...] | None = 0
    credit_limit_utok: int | None = None
    finality: str = "instant"
    finality_lag_hours: int = 0
    local_credit_utok: int | None = None
    credit_interest_ppm: int = 0
    seed: int = 0
    lane: int = 0
    scenario: str = ""
    consensus: str = "proof_of_authority"
    validators: int = 1
    sealers: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    difficulty_bits: int = 0
    confirmations: int = 0
    gridmarl_version: str = gridmarl.__version__

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} = {_SHORT.repr(getattr(self, name))}; allowed are {', '.join(allowed)}")
        for name, (low, high) in _RANGES.items():
            if not (name in _OPTIONAL and getattr(self, name) is None):
                _check_integer(name, getattr(self, name), low, high)
        for name in _TEXTS:
            if type(getattr(self, name)) is not str or not _encodable(getattr(self, name)):
                raise ConfigError(
                    f"{name} = {_SHORT.repr(getattr(self, name))}; a text without lone surrogates is allowed"
                )
        for name in _PER_PROSUMER:
            value = getattr(self, name)
            if not (name in _OPTIONAL and value is None):
                _check_list(name, value, self.num_prosumers, 0, MAX_BOOK_WH, scalar=True)
        _check_list(
            "initial_balances", self.initial_balances, self.num_prosumers + 3, -MAX_BALANCE_UTOK, MAX_BALANCE_UTOK
        )
        self._check_finality()
        self._check_consensus()
        _check_hex("sealers", self.sealers, self.validators)
        _check_hex("addresses", self.addresses, self.num_prosumers + 3)

    def _check_finality(self) -> None:
        for name, without in (("finality_lag_hours", 0), ("local_credit_utok", None), ("credit_interest_ppm", 0)):
            if not self.has_interest and getattr(self, name) != without:
                raise ConfigError(f"{name} = {getattr(self, name)}; {without} is allowed under instant finality")

    @property
    def has_interest(self) -> bool:
        """Whether every block ends with records of interest (strict finality)."""
        return self.finality == "strict"

    @property
    def transactions_per_block(self) -> int:
        """Records in the transaction section of a block."""
        return transaction_count(self.num_prosumers, interest=self.has_interest)

    def _check_consensus(self) -> None:
        least = MIN_PBFT_VALIDATORS if self.consensus == "pbft" else 1
        if not least <= self.validators <= self.num_prosumers:
            allowed = f"{least} .. num_prosumers (here {self.num_prosumers}) are allowed under {self.consensus}"
            raise ConfigError(f"validators = {self.validators}; {allowed}")
        unused = [] if self.consensus == "proof_of_work" else ["difficulty_bits"]
        unused += [] if self.consensus in ("proof_of_work", "proof_of_stake") else ["confirmations"]
        for name in unused:
            if getattr(self, name):
                raise ConfigError(f"{name} = {getattr(self, name)}; 0 is allowed under {self.consensus}")

    @property
    def signature_slots(self) -> int:
        """Signatures in every block: none, that of the sealer, or under PBFT one for the vote of each validator."""
        if not self.sealers:
            return 0
        return self.validators if self.consensus == "pbft" else 1

    @property
    def sealer_accounts(self) -> tuple[int, ...]:
        """`[validators]` accounts of the validators: prosumers, or of a single one the operator."""
        return (self.num_prosumers + 1,) if self.validators == 1 else tuple(range(self.validators))

    def per_prosumer(self, name: str) -> tuple[int, ...]:
        """`[P]` values of a battery field that is not None."""
        value = getattr(self, name)
        return value if isinstance(value, tuple) else (value,) * self.num_prosumers

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        content = _FIXED | {item.name: getattr(self, item.name) for item in fields(self)}
        return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    def hash(self) -> bytes:
        """Genesis hash, 32 bytes."""
        return genesis_hash(self.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> Rules:
        """Rules of canonical JSON.

        Raises:
            LedgerError: longer than `MAX_GENESIS_BYTES`, not JSON, not canonical, unknown or missing keys, or a value
                that is not allowed.
        """
        if len(data) > MAX_GENESIS_BYTES:
            raise LedgerError(f"genesis: {len(data)} bytes; {MAX_GENESIS_BYTES} are allowed")
        try:
            text = data.decode()
            require_shallow(text)
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise LedgerError(f"genesis: not JSON ({error})") from error
        if not isinstance(content, dict):
            raise LedgerError("genesis: not a JSON object")
        version = content.get("version")
        if type(version) is int and 0 < version < FORMAT_VERSION:
            earlier = "written by an earlier gridmarl: read it with that, or run again"
            raise LedgerError(f"genesis: version {version}, {FORMAT_VERSION} is allowed; {earlier}")
        known = {item.name for item in fields(cls)} | set(_FIXED)
        if set(content) != known:
            raise LedgerError(
                f"genesis: unknown keys {_SHORT.repr(sorted(set(content) - known))}, "
                f"missing keys {sorted(known - set(content))}"
            )
        for name, value in _FIXED.items():
            if content.pop(name) != value:
                raise LedgerError(f"genesis: {name} must be {value!r}")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
        }
        try:
            rules = cls(**values)
        except ConfigError as error:
            raise LedgerError(f"genesis: {error}") from error
        if rules.to_bytes() != data:
            raise LedgerError("genesis: not canonical JSON")
        return rules


def _encodable(value: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def _check_integer(name: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ConfigError(f"{name} = {_SHORT.repr(value)}; integers {low} .. {high} are allowed")


def _check_list(name: str, value: object, length: int, low: int, high: int, *, scalar: bool = False) -> None:
    if scalar and not isinstance(value, tuple):
        _check_integer(name, value, low, high)
        return
    if not isinstance(value, tuple) or len(value) != length:
        size = len(value) if isinstance(value, tuple) else type(value).__name__
        raise ConfigError(f"{name}: {size} values; a tuple of {length} is allowed")
    for index, item in enumerate(value):
        _check_integer(f"{name}[{index}]", item, low, high)


def _check_hex(name: str, value: object, length: int) -> None:
    """Nothing, or `length` different texts of 64 hexadecimal digits in lower case."""
    if value == ():
        return
    if not isinstance(value, tuple) or len(value) != length:
        size = len(value) if isinstance(value, tuple) else type(value).__name__
        raise ConfigError(f"{name}: {size} values; a tuple of {length} or none is allowed")
    for index, item in enumerate(value):
        if type(item) is not str or len(item) != 2 * HASH_BYTES or not set(item) <= _HEX_DIGITS:
            raise ConfigError(f"{name}[{index}] = {_SHORT.repr(item)}; 64 digits of 0-9a-f are allowed")
    if len(set(value)) < length:
        raise ConfigError(f"{name}: two are the same; different ones are allowed")
