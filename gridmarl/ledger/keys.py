"""Keys of a ledger: Ed25519 private keys of validators and participants, addresses, signing, verification.

Signatures are Ed25519 (RFC 8032, package `cryptography`) over `SEAL_PREFIX` and the block's identity, so that a
signature of a block is none of anything else. An address is the derive-key BLAKE3 hash of a public key: names stay out
of the ledger.

| file of a key ring   | JSON, mode 0600, never overwritten                                            |
|----------------------|-------------------------------------------------------------------------------|
| format, version      | `gridmarl-keys`, 1                                                            |
| validators           | private keys of the validators, 32 bytes each in hexadecimal                  |
| participants         | private keys of all accounts, in their order                                  |
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from struct import pack
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from gridmarl.errors import ConfigError, LedgerError, MissingExtraError
from gridmarl.json_depth import require_shallow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KEY_BYTES = 32
SECRET_BYTES = 32
SEAL_PREFIX = b"gridmarl 2025-11 ledger v2 seal of a block\0"
ADDRESS_CONTEXT = "gridmarl 2025-11 ledger v2 address of a public key"
KEYS_CONTEXT = "gridmarl 2025-11 ledger v2 private key of a key ring"
KEYS_FILE = "keys.json"
_FORMAT: dict[str, Any] = {"format": "gridmarl-keys", "version": 1}
_ROLES = ("validators", "participants")
_MAX_FILE_BYTES = 1 << 27
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def _ed25519() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingExtraError("signatures need cryptography: pip install cryptography") from error
    return ed25519


def address_of(public_key: bytes) -> str:
    """Address of a public key: 32 bytes in hexadecimal."""
    return blake3(public_key, derive_key_context=ADDRESS_CONTEXT).hexdigest()


@dataclass(frozen=True)
class KeyRing:
    """Private keys, 32 bytes each, none twice; never shown by `repr`.

    Attributes:
        validators: of those who seal, in the order of the genesis' `sealers`.
        participants: of all accounts, in the order of the genesis' `addresses`.

    Raises:
        ConfigError: a key is not 32 bytes, or occurs twice.
    """

    validators: tuple[bytes, ...] = field(repr=False)
    participants: tuple[bytes, ...] = field(repr=False)

    def __post_init__(self) -> None:
        keys = (*self.validators, *self.participants)
        if any(type(key) is not bytes or len(key) != KEY_BYTES for key in keys):
            raise ConfigError(f"key ring: a key is not {KEY_BYTES} bytes")
        if len(set(keys)) < len(keys):
            raise ConfigError("key ring: a key occurs twice; different ones are allowed")

    @classmethod
    def generate(cls, num_accounts: int, validators: int) -> KeyRing:
        """New keys from the operating system's random numbers."""
        return cls(*(tuple(os.urandom(KEY_BYTES) for _ in range(count)) for count in (validators, num_accounts)))

    @classmethod
    def derived(cls, secret: bytes, num_accounts: int, validators: int) -> KeyRing:
        """Keys that follow from a secret (derive-key BLAKE3 of secret, role and number): the same ones every time.

        Whoever knows the secret can sign. A seed of a run is public, and so no secret.

        Raises:
            ConfigError: the secret is shorter than 32 bytes.
        """
        if len(secret) < SECRET_BYTES:
            raise ConfigError(f"secret: {len(secret)} bytes; {SECRET_BYTES} or more are allowed")

        def keys(role: int, count: int) -> tuple[bytes, ...]:
            numbered = (secret + pack("<QQ", role, index) for index in range(count))
            return tuple(blake3(each, derive_key_context=KEYS_CONTEXT).digest() for each in numbered)

        return cls(keys(0, validators), keys(1, num_accounts))

    @cached_property
    def public_keys(self) -> tuple[str, ...]:
        """Public keys of the validators, in hexadecimal: the genesis' `sealers`."""
        return tuple(key.public_key().public_bytes_raw().hex() for key in self._private)

    @cached_property
    def addresses(self) -> tuple[str, ...]:
        """Addresses of the accounts: the genesis' `addresses`."""
        private = (_ed25519().Ed25519PrivateKey.from_private_bytes(key) for key in self.participants)
        return tuple(address_of(key.public_key().public_bytes_raw()) for key in private)

    @cached_property
    def _private(self) -> list[Ed25519PrivateKey]:
        return [_ed25519().Ed25519PrivateKey.from_private_bytes(key) for key in self.validators]

    def sign(self, validator: int, block_hash: bytes) -> bytes:
        """Signature of a validator over a block's identity, 64 bytes; the same bytes every time."""
        return self._private[validator].sign(SEAL_PREFIX + block_hash)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file that only its owner may read; whole or not at all, and never over another.

        Raises:
            LedgerError: the file exists or cannot be written.
        """
        content = _FORMAT | {role: [key.hex() for key in getattr(self, role)] for role in _ROLES}
        path = Path(path)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
                file.write(json.dumps(content) + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(part, path)  # unlike a rename, refuses to replace
        except OSError as error:
            raise LedgerError(f"keys {path}: cannot be written ({error.strerror})") from error
        finally:
            with suppress(OSError):
                part.unlink()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> KeyRing:
        """Read a file of `save`.

        Raises:
            LedgerError: missing, readable by others than its owner, or malformed. The message shows no key.
        """
        name = os.fspath(path)
        try:
            found = os.stat(path)
            if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_FILE_BYTES:
                raise LedgerError(f"keys {name}: not a file of keys")
            if found.st_mode & _OTHERS:
                mode = stat.S_IMODE(found.st_mode)
                raise LedgerError(f"keys {name}: mode {mode:04o} lets others read it; allowed is 0600 (chmod 600)")
            text = Path(path).read_text(encoding="utf-8")
            require_shallow(text)
            content = json.loads(text)
        except OSError as error:
            raise LedgerError(f"keys {name}: cannot be read ({error.strerror})") from error
        except (ValueError, RecursionError):
            raise LedgerError(f"keys {name}: not JSON") from None
        if not isinstance(content, dict) or set(content) != {*_FORMAT, *_ROLES}:
            raise LedgerError(f"keys {name}: allowed is an object with {', '.join((*_FORMAT, *_ROLES))}")
        for field_name, value in _FORMAT.items():
            if content[field_name] != value:
                raise LedgerError(f"keys {name}: {field_name} must be {value!r}")
        try:
            return cls(*(tuple(bytes.fromhex(key) for key in content[role]) for role in _ROLES))
        except (TypeError, ValueError):
            raise LedgerError(
                f"keys {name}: allowed are different keys of {2 * KEY_BYTES} hexadecimal digits"
            ) from None


class Verifier:
    """Checks signatures of the validators whose public keys a genesis names."""

    def __init__(self, sealers: Sequence[str]) -> None:
        self._sealers = [bytes.fromhex(key) for key in sealers]
        self._public: dict[int, Ed25519PublicKey] = {}

    def valid(self, validator: int, block_hash: bytes, signature: bytes) -> bool:
        """Whether a validator has signed a block's identity."""
        ed25519 = _ed25519()
        from cryptography.exceptions import InvalidSignature

        try:
            if validator not in self._public:
                self._public[validator] = ed25519.Ed25519PublicKey.from_public_bytes(self._sealers[validator])
            self._public[validator].verify(signature, SEAL_PREFIX + block_hash)
        except (InvalidSignature, ValueError):  # a ValueError: the public key is none
            return False
        return True
