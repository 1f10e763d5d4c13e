"""Key rings: random and derived keys, addresses, files that only their owner may read, signatures."""

from __future__ import annotations

import builtins
import json
import os
import stat

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gridmarl.errors import ConfigError, LedgerError, MissingExtraError
from gridmarl.ledger.keys import ADDRESS_CONTEXT, SEAL_PREFIX, KeyRing, Verifier, address_of

SECRET = bytes(range(32))


def test_generated_keys_are_new_each_time():
    one, other = KeyRing.generate(5, 3), KeyRing.generate(5, 3)
    keys = {*one.validators, *one.participants, *other.validators, *other.participants}
    assert len(keys) == 16
    assert all(len(key) == 32 for key in keys)
    assert (len(one.public_keys), len(one.addresses)) == (3, 5)


def test_derived_keys_follow_from_the_secret_alone():
    ring = KeyRing.derived(SECRET, 4, 2)
    assert ring == KeyRing.derived(SECRET, 4, 2)
    assert set(ring.validators).isdisjoint(KeyRing.derived(SECRET[:-1] + b"x", 4, 2).validators)
    assert KeyRing.derived(SECRET, 9, 8).validators[:2] == ring.validators
    for length in (0, 8, 31):
        with pytest.raises(ConfigError, match=f"secret: {length} bytes; 32 or more"):
            KeyRing.derived(bytes(length), 4, 2)


def test_public_keys_and_addresses_are_those_of_ed25519_and_blake3():
    ring = KeyRing.derived(SECRET, 2, 1)
    public = [Ed25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw() for key in ring.participants]
    assert ring.addresses == tuple(blake3(key, derive_key_context=ADDRESS_CONTEXT).hexdigest() for key in public)
    assert address_of(public[0]) == ring.addresses[0]
    (sealer,) = ring.public_keys
    assert (
        bytes.fromhex(sealer)
        == Ed25519PrivateKey.from_private_bytes(ring.validators[0]).public_key().public_bytes_raw()
    )


def test_keys_are_never_shown():
    ring = KeyRing.derived(SECRET, 2, 1)
    assert ring.validators[0].hex() not in repr(ring)
    assert repr(ring.validators[0]) not in repr(ring)


@pytest.mark.parametrize("keys", [((b"x" * 31,), ()), (("x" * 32,), ()), ((b"x" * 32,), (b"x" * 32,))])
def test_keys_of_wrong_length_or_twice_are_refused(keys):
    with pytest.raises(ConfigError, match="key ring"):
        KeyRing(*keys)


def test_signatures_hold_for_one_block_one_key_and_one_purpose():
    ring, block = KeyRing.derived(SECRET, 2, 2), bytes(32)
    verifier, signature = Verifier(ring.public_keys), ring.sign(0, block)
    assert signature == ring.sign(0, block)
    assert verifier.valid(0, block, signature)
    assert not verifier.valid(1, block, signature)
    assert not verifier.valid(0, b"\1" + block[1:], signature)
    bare = Ed25519PrivateKey.from_private_bytes(ring.validators[0])
    assert bare.sign(SEAL_PREFIX + block) == signature
    assert not verifier.valid(0, block, bare.sign(block))
    for odd in (b"", bytes(63), bytes(64), b"\xff" * 64, signature + b"\0"):
        assert not verifier.valid(0, block, odd)
    assert not Verifier(("ff" * 32,)).valid(0, block, signature)  # not a point of the curve


def test_a_file_round_trip_that_only_the_owner_may_read(tmp_path):
    ring, path = KeyRing.generate(5, 2), tmp_path / "keys.json"
    before = os.umask(0)
    try:
        ring.save(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert KeyRing.load(path) == ring
    assert [each.name for each in tmp_path.iterdir()] == ["keys.json"]


def test_a_file_is_never_overwritten(tmp_path):
    path = tmp_path / "keys.json"
    KeyRing.generate(5, 2).save(path)
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="cannot be written"):
        KeyRing.generate(5, 2).save(path)
    assert path.read_bytes() == before
    with pytest.raises(LedgerError, match="cannot be written"):
        KeyRing.generate(5, 2).save(tmp_path / "none" / "keys.json")
    assert [each.name for each in tmp_path.iterdir()] == ["keys.json"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o644])
def test_a_file_that_others_may_read_is_refused(tmp_path, mode):
    path = tmp_path / "keys.json"
    KeyRing.generate(5, 2).save(path)
    path.chmod(mode)
    with pytest.raises(LedgerError, match=rf"mode {mode:04o} lets others .*chmod 600"):
        KeyRing.load(path)


def test_malformed_files_are_refused_without_showing_keys(tmp_path):
    ring, path = KeyRing.generate(2, 1), tmp_path / "keys.json"
    ring.save(path)
    content = json.loads(path.read_text())
    private = ring.validators[0].hex()
    changes = [
        {"format": "other"}, {"version": 2}, {"validators": [private[:-2]]}, {"validators": [private, private]},
        {"validators": [private[:-1] + "g"]}, {"validators": 5}, {"validators": [5]}, {"more": 1},
    ]  # fmt: skip
    texts = [json.dumps(content | change) for change in changes]
    texts += ["", "[]", "{}", "[" * 100_000, path.read_text()[:-9], json.dumps(content)[:-1] + ', "version": 2}']
    for text in texts:
        path.write_text(text)
        with pytest.raises(LedgerError, match=r"keys .*keys\.json: ") as told:
            KeyRing.load(path)
        assert private[:16] not in str(told.value)
    for odd in (tmp_path, tmp_path / "none"):
        with pytest.raises(LedgerError, match="keys "):
            KeyRing.load(odd)


def test_a_missing_package_is_named(monkeypatch):
    original = builtins.__import__

    def refuse(name, *rest):
        if name.startswith("cryptography"):
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match="signatures need cryptography: pip install cryptography"):
        _ = KeyRing.generate(1, 1).public_keys
