"""What the rules of every market say of a chain: its accounts, its seed and lane, and who seals.

A market adds its own rules, and what a reader and a verification need of it: how many records its blocks have, how they
are replayed, and how accounts and kinds are called (the abstract methods of `ChainRules`). The
writing side, which needs torch, is `gridmarl.ledger.packers`. Markets by name: `gridmarl.ledger.markets`.

Canonical JSON: UTF-8, keys sorted, no whitespace, integers only (no floats), every key present.
"""

from __future__ import annotations

import json
import reprlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import gridmarl
from gridmarl.errors import ConfigError, LedgerError
from gridmarl.json_depth import require_shallow
from gridmarl.ledger.block import CONSENSUS_CODES
from gridmarl.ledger.election import MAX_CONFIRMATIONS, MAX_VALIDATORS, MIN_PBFT_VALIDATORS
from gridmarl.ledger.hashing import HASH_BYTES, genesis_hash
from gridmarl.ledger.nonce import MAX_DIFFICULTY_BITS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from enum import IntEnum

    from gridmarl.ledger.block import Block

FORMAT = "gridmarl-ledger"
FORMAT_VERSION = 2
MAX_BALANCE_UTOK = 1 << 62
MAX_GENESIS_BYTES = 1 << 27  # a million prosumers with long balances, batteries and addresses need 121 MB
SHORT = reprlib.Repr()  # a file's values in messages: neither their length nor their depth may be the file's choice
SHORT.maxlevel, SHORT.maxstring, SHORT.maxlong, SHORT.maxother = 2, 60, 60, 60
Range = tuple[int, int]
_CHOICES = {"consensus": tuple(CONSENSUS_CODES)}
_RANGES: dict[str, Range] = {
    "seed": (0, (1 << 64) - 1),
    "lane": (0, (1 << 63) - 1),
    "validators": (1, MAX_VALIDATORS),
    "difficulty_bits": (0, MAX_DIFFICULTY_BITS),
    "confirmations": (0, MAX_CONFIRMATIONS),
}
_TEXTS = ("scenario", "gridmarl_version")
_HEX_DIGITS = frozenset("0123456789abcdef")


class BlockReplay(Protocol):
    """State of a replay between the blocks of one chain; plain Python integers.

    Attributes:
        balances: of all accounts, µtok, after the last block.
        totals: energy by name, Wh, over the blocks so far.
    """

    balances: list[int]
    totals: dict[str, int]

    def apply(self, height: int, inputs: bytes, transactions: bytes) -> None:
        """Check one block and move on to the state after it; LocatedError at the first record and field wrong."""
        ...

    def finish(self) -> None:
        """Check what can only be known after the last block; LocatedError."""
        ...

    def check_inputs(self, height: int, block: Block) -> None:
        """LocatedError at an input record that contradicts the block's transactions, which are authentic."""
        ...


@dataclass(frozen=True, kw_only=True)
class ChainRules(ABC):
    """Rules of one market's chain.

    Attributes:
        market: name of the market in the genesis.
        stake_kind: position among the kinds of transactions of what counts as stake, by member.
        signal_prices: fields of a block's first input record that are prices, µtok/Wh.
        initial_balances: of all accounts, µtok.
        scenario: name of the scenario or data set.
        consensus: who seals; see `gridmarl.ledger.sealing`.
        validators: how many may seal: one, which is the operator, or the first so many members. PBFT needs four.
        sealers: public keys of the validators in hexadecimal, Ed25519; empty: the chain is unsigned.
        addresses: of all accounts in hexadecimal: hashes of public keys (`gridmarl.ledger.keys`); may be empty.
        difficulty_bits: zero bits that hashes must begin with under proof of work; else 0.
        confirmations: blocks that must follow until a block is final under proof of work and of stake; else 0.
    """

    market: ClassVar[str]
    stake_kind: ClassVar[int]
    signal_prices: ClassVar[tuple[str, ...]]

    initial_balances: tuple[int, ...]
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

    @property
    @abstractmethod
    def num_members(self) -> int:
        """Accounts `0 .. n-1`, of those who trade."""

    @property
    @abstractmethod
    def num_accounts(self) -> int:
        """All accounts."""

    @property
    @abstractmethod
    def operator_account(self) -> int:
        """Account of the market's operator, who seals where there is one validator."""

    @property
    @abstractmethod
    def blocks_per_episode(self) -> int:
        """Periods of an episode: block `height` is of period `height % blocks_per_episode`."""

    @property
    @abstractmethod
    def inputs_per_block(self) -> int:
        """Records in the input section of a block."""

    @property
    @abstractmethod
    def transactions_per_block(self) -> int:
        """Records in the transaction section of a block."""

    @property
    @abstractmethod
    def transaction_kinds(self) -> tuple[IntEnum, ...]:
        """Kinds that the transaction section holds, in order."""

    @abstractmethod
    def account_role(self, account: int) -> str:
        """Whose account it is, such as "prosumer"."""

    @abstractmethod
    def replay(self) -> BlockReplay:
        """A replay that stands before block 0."""

    @property
    def signature_slots(self) -> int:
        """Signatures in every block: none, that of the sealer, or under PBFT one for the vote of each validator."""
        if not self.sealers:
            return 0
        return self.validators if self.consensus == "pbft" else 1

    @property
    def sealer_accounts(self) -> tuple[int, ...]:
        """`[validators]` accounts of the validators: members, or of a single one the operator."""
        return (self.operator_account,) if self.validators == 1 else tuple(range(self.validators))

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        content = self._fixed() | {item.name: getattr(self, item.name) for item in fields(self)}
        return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    def hash(self) -> bytes:
        """Genesis hash, 32 bytes."""
        return genesis_hash(self.to_bytes())

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Rules of canonical JSON.

        Raises:
            LedgerError: longer than `MAX_GENESIS_BYTES`, not JSON, not canonical, unknown or missing keys, or a value
                that is not allowed.
        """
        return cls.from_content(parse_genesis(data), data)

    @classmethod
    def from_content(cls, content: Mapping[str, Any], data: bytes) -> Self:
        """Rules of parsed JSON and the bytes that it was; errors as `from_bytes`."""
        fixed, content = cls._fixed(), dict(content)
        known = {item.name for item in fields(cls)} | set(fixed)
        if set(content) != known:
            raise LedgerError(
                f"genesis: unknown keys {SHORT.repr(sorted(set(content) - known))}, "
                f"missing keys {sorted(known - set(content))}"
            )
        for name, value in fixed.items():
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

    @classmethod
    def _fixed(cls) -> dict[str, Any]:
        return {"format": FORMAT, "version": FORMAT_VERSION, "market": cls.market}

    def _check_fields(
        self, choices: Mapping[str, tuple[str, ...]], ranges: Mapping[str, Range], optional: Sequence[str] = ()
    ) -> None:
        """Choices, integers and texts, the market's and those of every chain; `optional` ones may be None.

        Raises:
            ConfigError: a field has the wrong type or lies outside its range.
        """
        for name, allowed in {**choices, **_CHOICES}.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} = {SHORT.repr(getattr(self, name))}; allowed are {', '.join(allowed)}")
        for name, (low, high) in {**ranges, **_RANGES}.items():
            if not (name in optional and getattr(self, name) is None):
                check_integer(name, getattr(self, name), low, high)
        for name in _TEXTS:
            if type(getattr(self, name)) is not str or not _encodable(getattr(self, name)):
                raise ConfigError(
                    f"{name} = {SHORT.repr(getattr(self, name))}; a text without lone surrogates is allowed"
                )

    def _check_accounts(self) -> None:
        """ConfigError unless there is one balance for each account."""
        check_list("initial_balances", self.initial_balances, self.num_accounts, -MAX_BALANCE_UTOK, MAX_BALANCE_UTOK)

    def _check_sealing(self, members: str) -> None:
        """ConfigError unless validators, keys and work fit the consensus; `members` names the field of their number."""
        least = MIN_PBFT_VALIDATORS if self.consensus == "pbft" else 1
        if not least <= self.validators <= self.num_members:
            allowed = f"{least} .. {members} (here {self.num_members}) are allowed under {self.consensus}"
            raise ConfigError(f"validators = {self.validators}; {allowed}")
        unused = [] if self.consensus == "proof_of_work" else ["difficulty_bits"]
        unused += [] if self.consensus in ("proof_of_work", "proof_of_stake") else ["confirmations"]
        for name in unused:
            if getattr(self, name):
                raise ConfigError(f"{name} = {getattr(self, name)}; 0 is allowed under {self.consensus}")
        _check_hex("sealers", self.sealers, self.validators)
        _check_hex("addresses", self.addresses, self.num_accounts)


def parse_genesis(data: bytes) -> dict[str, Any]:
    """The JSON object of a genesis, of any market.

    Raises:
        LedgerError: longer than `MAX_GENESIS_BYTES`, not a JSON object, or of an earlier version.
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
    return content


def _encodable(value: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def check_integer(name: str, value: object, low: int, high: int) -> None:
    """ConfigError unless it is an integer (no bool) within bounds."""
    if type(value) is not int or not low <= value <= high:
        raise ConfigError(f"{name} = {SHORT.repr(value)}; integers {low} .. {high} are allowed")


def check_list(name: str, value: object, length: int, low: int, high: int, *, scalar: bool = False) -> None:
    """ConfigError unless it is a tuple of so many integers within bounds or, if `scalar`, one of them."""
    if scalar and not isinstance(value, tuple):
        check_integer(name, value, low, high)
        return
    if not isinstance(value, tuple) or len(value) != length:
        size = len(value) if isinstance(value, tuple) else type(value).__name__
        raise ConfigError(f"{name}: {size} values; a tuple of {length} is allowed")
    for index, item in enumerate(value):
        check_integer(f"{name}[{index}]", item, low, high)


def _check_hex(name: str, value: object, length: int) -> None:
    """Nothing, or `length` different texts of 64 hexadecimal digits in lower case."""
    if value == ():
        return
    if not isinstance(value, tuple) or len(value) != length:
        size = len(value) if isinstance(value, tuple) else type(value).__name__
        raise ConfigError(f"{name}: {size} values; a tuple of {length} or none is allowed")
    for index, item in enumerate(value):
        if type(item) is not str or len(item) != 2 * HASH_BYTES or not set(item) <= _HEX_DIGITS:
            raise ConfigError(f"{name}[{index}] = {SHORT.repr(item)}; 64 digits of 0-9a-f are allowed")
    if len(set(value)) < length:
        raise ConfigError(f"{name}: two are the same; different ones are allowed")
