"""Genesis: canonical bytes, unknown keys and bad values rejected."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from blake3 import blake3

from gridmarl.errors import ConfigError, LedgerError
from gridmarl.ledger import Rules
from gridmarl.ledger.hashing import GENESIS_CONTEXT
from tests.oracles.ledger_play import Play, rules_of

RULES = Rules(**rules_of(Play(P=2), battery_capacity_wh=(5, 6), scenario="Zürich", lane=3, seed=9))


def test_canonical_round_trip():
    data = RULES.to_bytes()
    assert Rules.from_bytes(data) == RULES
    content = json.loads(data)
    assert content["market"] == "two-stage-dr"
    assert data == json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert RULES.hash() == blake3(data, derive_key_context=GENESIS_CONTEXT).digest()


@pytest.mark.parametrize(
    "change",
    [
        {"num_prosumers": 0}, {"num_prosumers": 2.0}, {"num_prosumers": True}, {"horizon_hours": -1},
        {"k_permille": 1001}, {"price_rule": "other"}, {"dr_settlement": None}, {"alpha_permille": 999},
        {"penalty_permille": None}, {"shift_share_permille": 1001}, {"shift_deadline_hours": 1.5},
        {"battery_capacity_wh": (1,)}, {"battery_power_w": -1}, {"battery_efficiency_permille": 0},
        {"initial_balances": (0,) * 4}, {"initial_balances": [0] * 5}, {"initial_balances": (0, 0, 0, 0, "1")},
        {"credit_limit_utok": -1}, {"seed": -1}, {"lane": 1 << 63}, {"scenario": 5}, {"scenario": "\ud800"},
        {"consensus": "proof_of_luck"}, {"validators": 0}, {"validators": 3}, {"validators": True},
        {"validators": 2, "consensus": "pbft"}, {"difficulty_bits": 1}, {"confirmations": 1},
        {"confirmations": 1, "price_rule": "uniform"}, {"difficulty_bits": 25, "consensus": "proof_of_work"},
        {"confirmations": -1, "consensus": "proof_of_stake"}, {"sealers": ("ab" * 32,) * 2}, {"sealers": ["ab" * 32]},
        {"sealers": ("AB" * 32,)}, {"sealers": ("ab" * 31,)}, {"sealers": ("0x" + "ab" * 31,)}, {"sealers": (5,)},
        {"sealers": ("ab" * 32,) * 2, "validators": 2}, {"addresses": ("ab" * 32,)}, {"addresses": ("ab" * 32,) * 5},
        {"addresses": "ab"},
    ],
)  # fmt: skip
def test_bad_values_are_rejected_by_name(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        Rules(**rules_of(Play(P=2), **change))


def test_slots_and_accounts_of_sealers_follow_from_the_rules():
    keys = tuple(f"{each:064x}" for each in range(9))

    def rules(consensus: str, validators: int, signed: bool) -> Rules:
        sealers = keys[:validators] if signed else ()
        return Rules(**rules_of(Play(P=5), consensus=consensus, validators=validators, sealers=sealers))

    for consensus in ("proof_of_authority", "proof_of_stake", "proof_of_work", "pbft"):
        for validators in (1, 4, 5) if consensus != "pbft" else (4, 5):
            made = rules(consensus, validators, signed=True)
            assert made.signature_slots == (validators if consensus == "pbft" else 1)
            assert made.sealer_accounts == ((6,) if validators == 1 else tuple(range(validators)))
            assert Rules.from_bytes(made.to_bytes()) == made
            assert rules(consensus, validators, signed=False).signature_slots == 0
    named = replace(made, addresses=keys[:8])
    assert Rules.from_bytes(named.to_bytes()) == named
    assert len({made.hash(), named.hash(), replace(made, sealers=keys[1:6]).hash()}) == 3


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{}", b"[]", b"1", b"\xff", b"[" * 100_000, b'{"format":' + b"9" * 10_000 + b"}",
        RULES.to_bytes() + b" ", b" " + RULES.to_bytes(),
        RULES.to_bytes().replace(b'"version":2', b'"version":true'),
        RULES.to_bytes().replace(b'"version":2', b'"version":3'),
        RULES.to_bytes().replace(b'"lane":3', b'"lane":3.0'),
        RULES.to_bytes().replace(b'"lane":3', b'"lane":3,"lane":3'),
        RULES.to_bytes().replace(b'"lane":3', b'"lane":3,"extra":0'),
        RULES.to_bytes().replace(b'"lane":3,', b""),
        RULES.to_bytes().replace("ü".encode(), b"\\u00fc"),
        RULES.to_bytes().replace("ü".encode(), b"\\ud800"),
    ],
    ids=range(17),
)  # fmt: skip
def test_malformed_bytes_are_rejected(data):
    with pytest.raises(LedgerError, match="genesis"):
        Rules.from_bytes(data)
