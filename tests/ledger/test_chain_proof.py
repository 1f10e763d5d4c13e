"""Proofs of blocks and transactions in a chain, consistency of two heads, and the kept probes of both verifiers."""

from __future__ import annotations

import ast
import copy
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from gridmarl.errors import ConfigError, LedgerError
from gridmarl.ledger import bao_verify, chain_proof, proof, prove
from gridmarl.ledger.chain_proof import ChainProof, check_proof, prove_consistency, prove_in_chain
from tests.ledger import probes
from tests.ledger.builders import honest_blocks, honest_file, save
from tests.ledger.probes import Probe
from tests.oracles.ledger_play import Play
from tests.train.command_line import gridmarl

PLAY = Play(P=3, H=3)  # 26 transactions in a block: two chunks
EPISODES = 3
TRANSACTIONS = 26
Verifier = Callable[[Probe], tuple[int, bytes]]


@pytest.fixture(scope="module")
def hashes() -> list[bytes]:
    return [each.hash for each in honest_blocks(PLAY, episodes=EPISODES)[1]]


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("ledger") / "ledger.bin", honest_file(PLAY, episodes=EPISODES))


def hash_of(digits: str | None) -> bytes | None:
    return None if digits is None else bytes.fromhex(digits)


def with_package(probe: Probe, module: ModuleType = chain_proof) -> tuple[int, bytes]:
    head, old = bytes.fromhex(probe.head), hash_of(probe.old)
    proven = module.check_proof(probe.proof.encode(), head, count=probe.count, old=old)
    return proven.height, proven.record or b""


def alone(probe: Probe, module: ModuleType = bao_verify) -> tuple[int, bytes]:
    return module.verify_proof(probe.proof, bytes.fromhex(probe.head), probe.count, hash_of(probe.old))


def disagreement(probe: Probe, verify: Verifier) -> str:
    """How a verdict differs from the probe's; empty if it does not."""
    expected = (probe.height, bytes.fromhex(probe.record or "")) if probe.valid else f"{probe.reason}: ..."
    try:
        seen: object = verify(probe)
    except (ValueError, LedgerError) as error:
        seen = f"{str(error).partition(':')[0]}: ..."
    except Exception as error:
        seen = f"crash: {error!r}"
    return "" if seen == expected else f"{probe.name}: {seen}; {expected} is expected"


def test_every_block_and_head(ledger: Path, hashes: list[bytes]) -> None:
    for height in range(9):
        for to in range(height, 9):
            shown = ChainProof.from_json(prove_in_chain(ledger, height, to=to).to_json())
            assert shown == prove_in_chain(ledger, height, head=hashes[to])
            assert len(shown.headers) == to - height + 1
            proven = shown.verify(hashes[to], count=to + 1)
            assert (proven.height, proven.block_hash, proven.count) == (height, hashes[height], to + 1)
            assert (proven.index, proven.record) == (None, None)
            earlier = prove_consistency(ledger, height, to)
            assert earlier.verify(hashes[to], count=to + 1, old=hashes[height]) == proven
            for wrong in set(range(9)) - {to}:
                with pytest.raises(LedgerError, match=f"header {to - height}, hash"):
                    shown.verify(hashes[wrong])
                with pytest.raises(LedgerError, match=f"header {to - height}, height"):
                    shown.verify(hashes[to], count=wrong + 1)
            for wrong in set(range(9)) - {height}:
                with pytest.raises(LedgerError, match="old"):
                    earlier.verify(hashes[to], old=hashes[wrong])
    assert prove_in_chain(ledger, 2).head == prove_consistency(ledger, 2).head == hashes[8]


def test_every_transaction(ledger: Path, hashes: list[bytes]) -> None:
    sealed = honest_blocks(PLAY, episodes=EPISODES)[1]
    for index in range(TRANSACTIONS):
        record = sealed[4].block.transactions[64 * index : 64 * index + 64]
        shown = ChainProof.from_json(prove_in_chain(ledger, 4, index, to=6).to_json())
        proven = shown.verify(hashes[6], count=7)
        assert (proven.height, proven.count, proven.index, proven.record) == (4, 7, index, record)
        inclusion = prove(ledger, 4, index).to_json().encode()
        assert check_proof(inclusion, hashes[4], count=5).record == record
        with pytest.raises(LedgerError, match="header 0, hash"):
            check_proof(inclusion, hashes[5])


def test_a_proof_grows_by_one_header_per_block(ledger: Path) -> None:
    sizes = [len(prove_in_chain(ledger, 0, to=to).to_json()) for to in range(9)]
    assert {after - before for before, after in pairwise(sizes)} == {2 * 256 + len('"", ')}


def test_every_bit_of_a_header_and_path_matters(ledger: Path, hashes: list[bytes]) -> None:
    shown = prove_in_chain(ledger, 2, 20, to=4)
    draw = random.Random(3)
    for at in range(256):
        number = draw.randrange(3)
        headers = [bytearray(header) for header in shown.headers]
        headers[number][at] ^= 1 << draw.randrange(8)
        with pytest.raises(LedgerError, match=f"header {number}, hash"):
            ChainProof(shown.format, tuple(map(bytes, headers)), shown.index, shown.path).verify(hashes[4])


def test_what_cannot_be_proven_is_refused(ledger: Path, hashes: list[bytes], tmp_path: Path) -> None:
    for height in (-1, 9):
        with pytest.raises(ConfigError, match=f"block = {height}; 0 .. 8"):
            prove_in_chain(ledger, height)
    for to in (-1, 2, 9):
        with pytest.raises(ConfigError, match=f"to = {to}; 3 .. 8"):
            prove_consistency(ledger, 3, to)
    with pytest.raises(ConfigError, match="block from 3 to 8"):
        prove_in_chain(ledger, 3, head=hashes[2])
    with pytest.raises(ConfigError, match="one of the two"):
        prove_in_chain(ledger, 3, head=hashes[4], to=4)
    for index in (-1, TRANSACTIONS):
        with pytest.raises(LedgerError, match=f"transaction {index}"):
            prove_in_chain(ledger, 3, index)
    empty = save(tmp_path / "empty.bin", ledger.read_bytes()[: -len(ledger.read_bytes()) + 400])
    with pytest.raises(LedgerError):
        prove_in_chain(empty, 0)


def test_a_file_whose_blocks_do_not_hang_together_proves_nothing(ledger: Path, tmp_path: Path) -> None:
    blocks = [each.block for each in honest_blocks(PLAY, episodes=EPISODES)[1]]
    content = ledger.read_bytes()
    broken = content.replace(blocks[5].header, blocks[5].header[:140] + bytes(4) + blocks[5].header[144:])
    path = save(tmp_path / "broken.bin", broken)
    with pytest.raises(LedgerError, match="header 1, hash"):
        prove_consistency(path, 4, 7)
    assert prove_consistency(path, 6).headers == prove_consistency(ledger, 6).headers
    record = blocks[5].transactions[64:128]
    path = save(tmp_path / "forged.bin", content.replace(record, record[:63] + b"\1"))
    with pytest.raises(LedgerError, match="path, root"):
        prove_in_chain(path, 5, 2)
    assert prove_in_chain(path, 5).headers == prove_in_chain(ledger, 5).headers


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(LedgerError, match="json"):
        check_proof(b"\xff\xfe{", bytes(32))


def test_the_kept_probes_are_those_of_the_command() -> None:
    written = probes.contents()
    assert {path.name for path in probes.FOLDER.glob("*.json")} == set(written)
    for name, content in written.items():
        assert (probes.FOLDER / name).read_text(encoding="utf-8") == content, "python -m tests.ledger.probes"
    for kind in probes.KINDS:
        names = [probe.name for probe in probes.probes(kind)]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("verify", [with_package, alone])
def test_probes(verify: Verifier) -> None:
    kept = probes.kept()
    assert sum(probe.valid for probe in kept) > 30
    assert sum(not probe.valid for probe in kept) > 250
    assert [found for probe in kept if (found := disagreement(probe, verify))] == []


def raises(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.body[0], ast.Raise)


def weakened(tree: ast.Module, functions: set[str]) -> Iterator[tuple[str, ast.Module]]:
    """The module without one check, or without one of the conditions that a check joins by `or` or chains."""
    numbered = list(ast.walk(tree))
    inside = {id(node) for each in numbered if isinstance(each, ast.FunctionDef) and each.name in functions
              for node in ast.walk(each)}  # fmt: skip
    for at, node in enumerate(numbered):
        if id(node) in inside and raises(node):
            assert isinstance(node, ast.If)
            place = f"line {node.lineno}: {ast.unparse(node.test)}"
            for name, test in [("all", ast.Constant(False)), *parts(node.test)]:
                other = copy.deepcopy(tree)
                target = list(ast.walk(other))[at]
                assert isinstance(target, ast.If)
                target.test = ast.copy_location(test, node)
                yield f"{place} [{name}]", ast.fix_missing_locations(other)


def parts(test: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    """The condition with one of its parts left out."""
    if isinstance(test, ast.BoolOp):
        for left_out in range(len(test.values)):
            values = [value for number, value in enumerate(test.values) if number != left_out]
            rest = values[0] if len(values) == 1 else ast.BoolOp(test.op, values)
            yield f"without {ast.unparse(test.values[left_out])}", rest
    if isinstance(test, ast.UnaryOp) and isinstance(test.operand, ast.Compare) and len(test.operand.ops) == 2:
        low, high = test.operand.left, test.operand.comparators[0]
        first = ast.Compare(low, test.operand.ops[:1], [high])
        second = ast.Compare(high, test.operand.ops[1:], test.operand.comparators[1:])
        yield "upper bound only", ast.UnaryOp(ast.Not(), second)
        yield "lower bound only", ast.UnaryOp(ast.Not(), first)


CHECKED = [
    (bao_verify, alone, {"verify_record", "verify_chain", "_once", "unhex", "read_proof", "verify_proof"}),
    (chain_proof, with_package, {"verify", "from_json", "_verify_headers"}),
    (proof, with_package, {"_without_duplicates", "proof_object", "require_keys", "hex_bytes", "proof_index",
                           "from_object"}),
]  # fmt: skip


@pytest.mark.parametrize(("module", "verify", "functions"), CHECKED, ids=["alone", "chain_proof", "proof"])
def test_no_check_can_be_left_out(
    module: ModuleType, verify: Verifier, functions: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every check of a verifier, taken out of it, is missed by at least one probe."""
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    assert not any(disagreement(probe, verify) for probe in probes.kept())
    kept = sorted(probes.kept(), key=lambda probe: (probe.valid, len(probe.proof)))
    missed, tried = [], 0
    for name, changed in weakened(tree, functions):
        tried += 1
        with monkeypatch.context() as patch:
            copied = ModuleType(module.__name__)
            patch.setitem(sys.modules, module.__name__, copied)
            exec(compile(changed, str(module.__file__), "exec"), copied.__dict__)
            if module is proof:  # chain_proof holds these by name
                for each in ("InclusionProof", "hex_bytes", "proof_index", "proof_object", "require_keys"):
                    patch.setattr(chain_proof, each, getattr(copied, each))
            used = chain_proof if module is proof else copied
            if not any(disagreement(probe, lambda probe, used=used: verify(probe, used)) for probe in kept):
                missed.append(name)
    assert tried >= len(functions)
    assert missed == []


def run_alone(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The stand-alone verifier, copied into a folder, without site-packages or this repository."""
    program = save(folder / "verifier.py", Path(bao_verify.__file__).read_bytes())
    command = [sys.executable, "-I", "-S", "-W", "error", str(program), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env={})


def test_the_verifier_runs_alone(tmp_path: Path) -> None:
    chosen = [probe for probe in probes.kept() if probe.name in ("valid", "headers reversed", "path empty")]
    assert len(chosen) == 9
    for probe in chosen:
        (tmp_path / "proof.json").write_text(probe.proof, encoding="utf-8")
        options = ["--count", str(probe.count)] if probe.count is not None else []
        options += ["--old", probe.old] if probe.old is not None else []
        outcome = run_alone(tmp_path, "proof.json", "--head", probe.head, *options)
        assert (outcome.returncode, outcome.stderr) == (0 if probe.valid else 1, "")
        if probe.valid:
            assert outcome.stdout == "ok: block 2" + (f", record {probe.record}" if probe.record else "") + "\n"
        else:
            assert outcome.stdout.startswith(f"NOT PROVEN: {probe.reason}: ")
    for arguments in (("none.json", "--head", "00"), ("proof.json", "--head", "GG"), ("proof.json",)):
        refused = run_alone(tmp_path, *arguments)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "Traceback" not in refused.stderr


def test_commands(ledger: Path, hashes: list[bytes], tmp_path: Path) -> None:
    folder, head = ledger.parent, hashes[8].hex()
    fourth, sixth = hashes[4].hex(), hashes[6].hex()
    make_transaction = ["prove", folder, "--block", 4, "--tx", 5]
    ways: list[tuple[list[object], list[object], str]] = [
        (make_transaction, ["--head", fourth, "--count", 5], "transaction 5 of block 4"),
        ([*make_transaction, "--head", head], ["--head", head, "--count", 9], "transaction 5 of block 4"),
        ([*make_transaction, "--to", 8], ["--head", head], "transaction 5 of block 4"),
        (["prove", folder, "--block", 4], ["--head", head, "--count", 9], "block 4"),
        (["prove", folder, "--block", 4, "--to", 6], ["--head", sixth], "block 4"),
        (["consistency", folder, "--from", 4, "--to", 8], ["--head", head, "--old", fourth], "block 4"),
        (["consistency", folder, "--from", 4], ["--head", head, "--old", fourth], "block 4"),
    ]
    path = tmp_path / "proof.json"
    for make, known, expected in ways:
        made = gridmarl("ledger", *make)
        assert (made.code, made.err) == (0, "")
        path.write_text(made.out, encoding="utf-8")
        good = gridmarl("ledger", "check", path, *known)
        assert (good.code, good.err) == (0, "")
        assert good.out.startswith(f"ok: {expected}")
        assert fourth in good.out
        assert ("\n  amount_utok: " in good.out) == ("--tx" in make)
        for digits in (hashes[0].hex(), "0" * 64):
            bad = gridmarl("ledger", "check", path, "--head", digits, *known[2:])
            assert (bad.code, bad.err) == (1, "")
            assert bad.out.startswith("NOT PROVEN: header ")


def test_what_the_commands_refuse(ledger: Path, hashes: list[bytes], tmp_path: Path) -> None:
    head, path = hashes[8].hex(), tmp_path / "proof.json"
    path.write_text(prove_in_chain(ledger, 4).to_json(), encoding="utf-8")
    for arguments in (["--head", head, "--count", 8], ["--head", head, "--old", head], ["--head", hashes[7].hex()]):
        outcome = gridmarl("ledger", "check", path, *arguments)
        assert (outcome.code, outcome.err, outcome.out[:12]) == (1, "", "NOT PROVEN: ")
    refused: list[list[object]] = [
        ["check", path, "--head", "12"],
        ["check", path, "--head", head.upper()],
        ["check", path, "--head", head, "--old", "x"],
        ["check", tmp_path / "none", "--head", head],
        ["prove", ledger, "--block", 4, "--head", "zz"],
        ["prove", ledger, "--block", 4, "--head", "0" * 64],
        ["prove", ledger, "--block", 9],
        ["prove", ledger, "--block", 4, "--to", 3],
        ["prove", ledger, "--block", 4, "--to", 8, "--head", head],
        ["consistency", ledger, "--from", 9],
    ]
    for arguments in refused:
        outcome = gridmarl("ledger", *arguments)
        assert (outcome.code, outcome.out, outcome.err.count("\n")) == (2, "", 1)


def test_every_probe_ends_in_a_verdict_of_the_command(tmp_path: Path) -> None:
    """Also a record of no known kind, and text that only looks like a number."""
    path = tmp_path / "proof.json"
    for probe in probes.kept()[::7]:
        if all(digits is None or len(digits) == 64 for digits in (probe.head, probe.old)):
            path.write_text(probe.proof, encoding="utf-8")
            options = ["--old", probe.old] if probe.old is not None else []
            options += [f"--count={probe.count}"] if probe.count is not None else []
            outcome = gridmarl("ledger", "check", path, "--head", probe.head, *options)
            assert (outcome.code, outcome.err) == (0 if probe.valid else 1, ""), probe.name
            proven = f"ok: {'transaction' if probe.record else 'block'} "
            assert outcome.out.startswith(proven if probe.valid else f"NOT PROVEN: {probe.reason}: ")


def test_json_of_a_proof_is_one_line(ledger: Path) -> None:
    for shown in (prove_in_chain(ledger, 1, 2), prove_in_chain(ledger, 1), prove_consistency(ledger, 1)):
        line = shown.to_json()
        assert "\n" not in line
        assert line == json.dumps(json.loads(line), sort_keys=True)
        assert ChainProof.from_json(line) == shown
