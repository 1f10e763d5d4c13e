"""Brackets that nest too deep are refused before a parser recurses, whatever recursion a library has allowed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from gridmarl.json_depth import MAX_DEPTH, require_shallow

_READ = """
import sys
from gridmarl.errors import LedgerError
from gridmarl.ledger.bao_verify import read_proof
from gridmarl.ledger.batch_proof import BatchProof
from gridmarl.ledger.chain_proof import ChainProof
from gridmarl.ledger.genesis import Rules
from gridmarl.ledger.proof import InclusionProof

sys.setrecursionlimit(100_000)  # as py-evm does
readers = (
    InclusionProof.from_json, BatchProof.from_json, ChainProof.from_json, read_proof,
    lambda text: Rules.from_bytes(text.encode()),
)
texts = (
    "[" * 90_000,
    '{"a":' * 90_000,
    '{"format": ' + "[" * 90_000 + "]" * 90_000 + "}",
    '"' + chr(92) + '"' * 500_000 + "[" * 100,  # a string without end, which must be read once only
    '"' + (chr(92) + '"') * 500_000 + "[" * 100,
)
for text in texts:
    for reader in readers:
        try:
            reader(text)
        except (LedgerError, ValueError) as error:
            print(type(error).__name__)
"""


def test_no_reader_of_the_ledger_recurses_without_bound() -> None:
    """In a process of its own: where one does, the process ends by a signal."""
    done = subprocess.run([sys.executable, "-c", _READ], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-300:]
    assert len(done.stdout.split()) == 25


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_the_greatest_depth(opening: str) -> None:
    closing = {"[": "]", '{"a":': "}"}[opening]
    require_shallow(opening * MAX_DEPTH + "1" + closing * MAX_DEPTH)
    with pytest.raises(ValueError, match="deeper than 64"):
        require_shallow(opening * (MAX_DEPTH + 1) + "1" + closing * (MAX_DEPTH + 1))


def test_brackets_in_strings_and_side_by_side_do_not_count() -> None:
    require_shallow(json.dumps({"text": "[" * 1000 + '\\"' + "{" * 1000, "lists": [[]] * 1000}))
    with pytest.raises(ValueError, match="deeper"):
        require_shallow('["\\\\",' + "[" * 100)  # the backslash is escaped, the string ends
