"""Every bit of a small file, flipped: always detected, and block and section (and record, where named) are right."""

from __future__ import annotations

import pytest

from gridmarl.ledger import verify_bytes
from tests.ledger.builders import SMALL, SMALL_QUOTA, honest_blocks, honest_file, truth


@pytest.mark.parametrize("play", [SMALL, SMALL_QUOTA], ids=["two-stage-dr", "ev-quota"])
def test_every_single_bit_flip_is_detected_and_located(play):
    rules, sealed = honest_blocks(play)
    data = bytearray(honest_file(play))
    assert verify_bytes(bytes(data)).ok
    named = dict.fromkeys(("inputs", "transactions"), 0)
    total = dict(named)
    for offset in range(len(data)):
        block, section, record = truth(rules, len(sealed), offset)
        for bit in range(8):
            data[offset] ^= 1 << bit
            verdict = verify_bytes(bytes(data))
            data[offset] ^= 1 << bit
            error = verdict.error
            assert not verdict.ok
            assert (error.block, error.section) == (block, section), (offset, bit, str(error))
            assert verdict.blocks == (2 if section == "trailer" else block or 0)
            if error.record is not None:
                assert error.record == record, (offset, bit, str(error))
            if section in total:
                total[section] += 1
                named[section] += error.record is not None
    assert named["transactions"] == total["transactions"]  # replay of authentic inputs gives every transaction
    assert named["inputs"] >= 0.8 * total["inputs"]  # limit prices and offered reductions are not always derivable
