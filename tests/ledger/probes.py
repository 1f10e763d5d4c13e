"""Probes: valid and invalid proofs of every kind, each with the verdict and the place that every verifier must name.

They are kept in `probes/`, one file per kind; `python -m tests.ledger.probes` writes them anew. The chain they speak of
is made here, byte by byte, of numbers that mean nothing: what is probed are proofs, and no rule of a market.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from blake3 import blake3

from gridmarl.ledger.proof import ChunkTree

FOLDER = Path(__file__).resolve().parent / "probes"
KINDS = ("inclusion", "transaction", "block", "consistency")
COUNTS = (50, 16, 50, 17, 1, 50)  # records: four chunks, the last short; one chunk; one and a record; one record
CONTEXT = "gridmarl 2025-11 ledger v1 block header"
HEADER = struct.Struct("<HHIQQII32s32s32s32sQQQ72s")
FIELDS = ("version", "consensus", "period", "height", "lane", "tx_count", "input_count", "parent", "tx_root",
          "input_root", "state_root", "sealer", "difficulty", "nonce", "reserved")  # fmt: skip


@dataclass(frozen=True)
class Probe:
    """A proof, what its verifier knows, and the verdict.

    `reason` is what the error begins with, up to its colon; empty where the proof is valid, and then `height` and
    `record` are what it shows.
    """

    name: str
    proof: str
    head: str
    count: int | None = None
    old: str | None = None
    valid: bool = False
    reason: str = ""
    height: int | None = None
    record: str | None = None


def digest(text: str, length: int = 32) -> bytes:
    return blake3(text.encode()).digest(length=length)


def identity(header: bytes) -> bytes:
    return blake3(header, derive_key_context=CONTEXT).digest()


class Chain:
    """Headers and record sections; `forged` gives fields of a header other values, and all hashes follow."""

    def __init__(self, name: str = "chain", forged: dict[int, dict[str, int]] | None = None) -> None:
        self.sections = [digest(f"{name} records {height}", 64 * count) for height, count in enumerate(COUNTS)]
        self.headers: list[bytes] = []
        parent = digest(f"{name} genesis")
        for height, section in enumerate(self.sections):
            inputs, state = digest(f"{name} inputs {height}"), digest(f"{name} state {height}")
            values = (1, 1, height, height, 0, COUNTS[height], 11, parent, blake3(section).digest(), inputs, state,
                      6, 0, 0, bytes(72))  # fmt: skip
            fields = dict(zip(FIELDS, values, strict=True)) | (forged or {}).get(height, {})
            self.headers.append(HEADER.pack(*fields.values()))
            parent = identity(self.headers[-1])

    def hash(self, height: int) -> str:
        return identity(self.headers[height]).hex()

    def record(self, height: int, index: int) -> str:
        return self.sections[height][64 * index : 64 * index + 64].hex()

    def path(self, height: int, index: int) -> str:
        return ChunkTree(self.sections[height]).prove(index).hex()

    def proof(self, kind: str, height: int, to: int, index: int = 0) -> dict[str, Any]:
        """A proof as the object of its JSON."""
        content: dict[str, Any] = {"format": f"gridmarl-{kind}-proof-1"}
        if kind == "inclusion":
            content |= {"header": self.headers[height].hex(), "block_hash": self.hash(height)}
        else:
            content |= {"headers": [each.hex() for each in self.headers[height : to + 1]]}
        if kind in ("inclusion", "transaction"):
            content |= {"index": index, "path": self.path(height, index)}
        return content


CHAIN, FORK = Chain(), Chain("fork")


def text(content: object) -> str:
    return json.dumps(content, sort_keys=True)


def flipped(digits: str, byte: int, bit: int = 0) -> str:
    data = bytearray.fromhex(digits)
    data[byte] ^= 1 << bit
    return data.hex()


class Case:
    """A valid proof of a kind, and the probes made of it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.with_index = kind in ("inclusion", "transaction")
        self.block, self.index = 2, 48  # in the short last chunk, which keeps the files small
        self.last = self.block if kind == "inclusion" else 5
        self.old = CHAIN.hash(self.block) if kind == "consistency" else None
        self.base = CHAIN.proof(kind, self.block, self.last, self.index)

    def valid(self, name: str, height: int, last: int, index: int = 0, content: object = None, **more: Any) -> Probe:
        """A proof of another block."""
        proof = text(content or CHAIN.proof(self.kind, height, last, index))
        record = CHAIN.record(height, index) if self.with_index else None
        known = {"old": CHAIN.hash(height) if self.old else None, "count": last + 1} | more
        return Probe(name, proof, CHAIN.hash(last), **known, valid=True, height=height, record=record)

    def raw(self, name: str, proof: str, reason: str, **known: Any) -> Probe:
        """An invalid proof given as text."""
        return Probe(name, proof, **({"head": CHAIN.hash(self.last), "old": self.old} | known), reason=reason)

    def bad(self, name: str, reason: str, *, known: dict[str, Any] | None = None, **changes: Any) -> Probe:
        """The valid proof with some values changed; None takes the key out."""
        content = {key: value for key, value in (self.base | changes).items() if value is not None}
        return self.raw(name, text(content), reason, **(known or {}))

    def headers(self, change: Callable[[str], Any], number: int = 0) -> dict[str, Any]:
        """One header changed, under the key of this kind."""
        if self.kind == "inclusion":
            return {"header": change(self.base["header"])}
        headers = list(self.base["headers"])
        headers[number] = change(headers[number])
        return {"headers": headers}


def json_probes(case: Case) -> Iterator[Probe]:
    """What is not the JSON of a proof."""
    base = text(case.base)
    yield case.raw("empty", "", "json")
    yield case.raw("text cut short", base[:-1], "json")
    yield case.raw("text after the end", base + "}", "json")
    yield case.raw("brackets nested deep", "[" * 5000, "json")
    yield case.raw("brackets nested in a key", base[:-1] + ', "x": ' + "[" * 200 + "]" * 200 + "}", "json")
    yield case.raw("format twice", base[:-1] + f', "format": {text(case.base["format"])}}}', "json")
    yield case.raw("key twice", base[:-1] + ', "x": 1, "x": 2}', "json")
    for name, value in (("list", []), ("number", 7), ("null", None), ("string", "gridmarl-block-proof-1")):
        yield case.raw(f"{name} instead of an object", text(value), "format")
    yield case.bad("format missing", "format", format=None)
    for value in ("gridmarl-block-proof-2", "", 1, True, ["gridmarl-block-proof-1"], {"gridmarl-block-proof-1": 1}):
        yield case.bad(f"format {value!r}", "format", format=value)
    for other in KINDS:
        if other != case.kind:
            reason = "old" if {case.kind, other} == {"block", "consistency"} else "keys"
            yield case.bad(f"format of {other} proofs", reason, format=f"gridmarl-{other}-proof-1")
    for key in sorted(case.base.keys() - {"format"}):
        yield case.bad(f"{key} missing", "keys", **{key: None})
    yield case.bad("unknown key", "keys", note="")
    yield case.raw("key in capitals", base.replace('"format"', '"FORMAT": "", "format"'), "keys")
    if not case.with_index:
        yield case.bad("index of a block", "keys", index=0)


def header_probes(case: Case) -> Iterator[Probe]:
    """Headers that are none, and headers altered."""
    for value in (7, True, ["00"]):
        yield case.bad(f"header is {value}", "header 0, text", **case.headers(lambda _, to=value: to))
    hexes: tuple[tuple[str, Callable[[str], str]], ...] = (
        ("in capitals", lambda digits: digits.upper()),
        ("with a space", lambda digits: digits[:2] + " " + digits[2:] + " "),
        ("of an odd number of digits", lambda digits: digits[:-1]),
        ("with another letter", lambda digits: "g" + digits[1:]),
        ("with a full-width digit", lambda digits: "０" + digits[1:]),
        ("with a prefix", lambda digits: "0x" + digits),
    )
    for name, change in hexes:
        yield case.bad(f"header {name}", "header 0, text", **case.headers(change))
    lengths: tuple[tuple[str, Callable[[str], str]], ...] = (
        ("empty", lambda digits: ""),
        ("a byte short", lambda digits: digits[:-2]),
        ("a byte long", lambda digits: digits + "00"),
    )
    for name, change in lengths:
        changes = case.headers(change)
        if case.kind == "inclusion":
            changes["block_hash"] = identity(bytes.fromhex(changes["header"])).hex()
        yield case.bad(f"header {name}", "header 0, length", **changes)
    reason = "block_hash" if case.kind == "inclusion" else "header 0, hash"
    for byte in (0, 2, 4, 8, 16, 24, 28, 32, 64, 96, 128, 160, 168, 176, 184, 255):  # one of every field
        changes = case.headers(lambda digits, at=byte: flipped(digits, at, at % 8))
        yield case.bad(f"bit of header byte {byte} flipped", reason, **changes)
        if case.kind == "inclusion":
            stated = identity(bytes.fromhex(changes["header"])).hex()
            yield case.bad(f"bit of header byte {byte} flipped, stated hash too", "header 0, hash", block_hash=stated,
                           **changes)  # fmt: skip


def index_probes(case: Case) -> Iterator[Probe]:
    """Indices of transactions."""
    yield case.valid("neighbour in the same chunk", case.block, case.last, 49, case.base | {"index": 49})
    inclusion = case.kind == "inclusion"
    single = CHAIN.proof(case.kind, 4, 5, 0)  # of a block of one record
    second = CHAIN.proof(case.kind, 1, 5, 1)
    for content, block, value, reason in (
        (single, 4, False, "index, type"), (second, 1, True, "index, type"), (single, 4, -1, "index"),
        (single, 4, 1, "index"),
    ):  # fmt: skip
        head = CHAIN.hash(block if inclusion else 5)
        yield case.raw(f"index {value} in block {block}", text(content | {"index": value}), reason, head=head)
    for value in (48.0, 1e300, "48", [48], {}, True):
        yield case.bad(f"index {value!r}", "index, type", index=value)
    yield case.raw("index null", text(case.base | {"index": None}), "index, type")
    for written in ("NaN", "Infinity", "48.0", "4.8e1"):
        changed = text(case.base).replace('"index": 48', f'"index": {written}')
        yield case.raw(f"index written {written}", changed, "index, type")
    for written in ("+48", "048", "0x30", "4" * 5000):
        changed = text(case.base).replace('"index": 48', f'"index": {written}')
        yield case.raw(f"index written {written[:9]}", changed, "json")
    for value in (-1, 50, 51, 2**32, 2**64 + 48, -(2**64), 10**30):
        yield case.bad(f"index {value}", "index", index=value)
    for value in (0, 16, 47):
        yield case.bad(f"index {value}: another chunk of another length", "path, length", index=value)
    whole_chunk = CHAIN.proof(case.kind, case.block, case.last, 20)
    for value in (4, 36):
        changed = text(whole_chunk | {"index": value})
        yield case.raw(f"index {value}: another chunk of the same length", changed, "path, root")
    for count, reason in ((0, "index"), (48, "index"), (49, "path, length"), (51, "path, length"),
                          (65, "path, length"), (2**32 - 1, "path, length")):  # fmt: skip
        yield _forged(case, f"header says {count} transactions", {case.block: {"tx_count": count}}, reason)


def path_probes(case: Case) -> Iterator[Probe]:
    """Paths of transactions: two records, then two siblings."""
    path = case.base["path"]
    records, siblings = [path[:128], path[128:256]], [path[256:320], path[320:]]
    written = {"number": 7, "list": [path], "capitals": path.upper(), "odd": path[:-1], "letter": "x" + path[1:]}
    for name, value in written.items():
        yield case.bad(f"path: {name}", "path, text", path=value)
    lengths = {
        "empty": "",
        "a byte short": path[:-2],
        "a byte long": path + "00",
        "a sibling short": path[:-64],
        "extended by zeros": path + "00" * 32,
        "extended by its last sibling": path + siblings[1],
        "without its records": "".join(siblings),
        "only the records": "".join(records),
        "of another index": CHAIN.path(case.block, 20),
    }
    for name, value in lengths.items():
        yield case.bad(f"path {name}", "path, length", path=value)
    other_block, other_index = CHAIN.path(5, case.index), CHAIN.path(case.block, 32)
    roots = {
        "siblings exchanged": "".join([*records, siblings[1], siblings[0]]),
        "records exchanged": "".join([records[1], records[0], *siblings]),
        "of another block": other_block,
        "of another chain": FORK.path(case.block, case.index),
        "records of another block": other_block[:256] + path[256:],
        "siblings of another block": path[:256] + other_block[256:],
        "siblings of another index": path[:256] + other_index[2048:],
    }
    for name, value in roots.items():
        yield case.bad(f"path {name}", "path, root", path=value)
    for name, byte in (("record", 7), ("neighbour", 64), ("first sibling", 128), ("last sibling", 191)):
        yield case.bad(f"bit of the {name} flipped", "path, root", path=flipped(path, byte, byte % 8))


def chain_probes(case: Case) -> Iterator[Probe]:
    """Lists of headers."""
    headers = case.base["headers"]
    for name, value in (("a string", headers[0]), ("an object", {"0": headers[0]}), ("a number", 7), ("true", True)):
        yield case.bad(f"headers are {name}", "headers, type", headers=value)
    yield case.raw("headers are null", text(case.base | {"headers": None}), "headers, type")
    yield case.bad("no headers", "headers, number", headers=[])
    fork = [each.hex() for each in FORK.headers]
    whole = [each.hex() for each in CHAIN.headers]
    lists = {
        "without the head": (headers[:-1], 2),
        "extended by the head again": ([*headers, headers[-1]], 3),
        "extended by another chain's": ([*headers, fork[5]], 4),
        "one left out": (headers[:1] + headers[2:], 0),
        "the last but one left out": (headers[:2] + headers[3:], 1),
        "two exchanged": ([headers[0], headers[2], headers[1], headers[3]], 2),
        "reversed": (headers[::-1], 3),
        "one twice": ([headers[0], headers[0], *headers[1:]], 0),
        "first of another chain": ([fork[2], *headers[1:]], 0),
        "first of another height": ([whole[0], *headers[1:]], 0),
        "one of another chain": ([*headers[:2], fork[4], headers[3]], 2),
        "all of another chain": (fork[2:], 3),
        "up to an earlier head": (whole[1:5], 3),
    }
    for name, (value, number) in lists.items():
        yield case.bad(f"headers {name}", f"header {number}, hash", headers=value)
    for number in (1, 2, 3):
        changes = case.headers(lambda digits: flipped(digits, 200, 3), number)
        yield case.bad(f"bit of header {number} flipped", f"header {number}, hash", **changes)
    yield case.bad("a header in the middle in capitals", "header 1, text", **case.headers(str.upper, 1))
    yield case.bad("a header in the middle short", "header 1, length", **case.headers(lambda digits: digits[:-2], 1))
    # Judged from the head: of two headers that do not follow on each other, the earlier one is named.
    for field, block, value, number in (("height", 2, 7, 0), ("height", 3, 4, 1), ("height", 4, 2**64 - 1, 2),
                                        ("height", 5, 6, 2), ("version", 2, 2, 0), ("version", 4, 0, 2)):  # fmt: skip
        yield _forged(case, f"{field} {value} of block {block}", {block: {field: value}}, f"header {number}, {field}")
    heights = {2: {"height": 2**64 - 1}, 3: {"height": 0}, 4: {"height": 1}, 5: {"height": 2}}
    yield _forged(case, "a header before height 0", heights, "header 0, height")


def _forged(case: Case, name: str, forged: dict[int, dict[str, int]], reason: str) -> Probe:
    """Headers with other values, and every hash after them computed anew."""
    chain = Chain(forged=forged)
    known = {"head": chain.hash(case.last), "old": chain.hash(case.block) if case.old else None}
    return case.raw(name, text(chain.proof(case.kind, case.block, case.last, case.index)), reason, **known)


def known_probes(case: Case) -> Iterator[Probe]:
    """What the verifier knows differs from what is proven."""
    last, head = case.last - case.block, CHAIN.hash(case.last)
    others = {"block before": CHAIN.hash(case.last - 1), "other chain's": FORK.hash(case.last), "zero": "00" * 32,
              "short": head[:-2], "empty": "", "bit flipped": flipped(head, 31)}  # fmt: skip
    for name, value in others.items():
        yield case.bad(f"head: {name}", f"header {last}, hash", known={"head": value})
    for count in (0, -1, case.last, case.last + 2, 2**64 + case.last + 1):
        yield case.bad(f"count {count}", f"header {last}, height", known={"count": count})
    if case.old is None:
        yield case.bad("an earlier head is given", "old", known={"old": CHAIN.hash(case.block)})
        return
    yield case.bad("no earlier head", "old", known={"old": None})
    wrong = {"head": CHAIN.hash(5), "later block": CHAIN.hash(3), "earlier block": CHAIN.hash(1),
             "other chain's": FORK.hash(2), "short": CHAIN.hash(2)[:-2], "empty": "", "zero": "00" * 32}  # fmt: skip
    for name, value in wrong.items():
        yield case.bad(f"earlier head: {name}", "old", known={"old": value})


def valid_probes(case: Case) -> Iterator[Probe]:
    """Proofs that hold."""
    yield case.valid("valid", case.block, case.last, case.index)
    yield case.valid("valid, count unknown", case.block, case.last, case.index, count=None)
    spaced = json.dumps(dict(reversed(case.base.items())), indent=1)
    plain = case.valid("valid, laid out otherwise", case.block, case.last, case.index)
    yield replace(plain, proof=f"\n {spaced}\r\n")
    if case.with_index:
        for height, index in ((0, 0), (0, 49), (1, 15), (3, 0), (3, 16), (4, 0), (5, 31), (5, 32)):
            last = height if case.kind == "inclusion" else 5
            yield case.valid(f"valid, transaction {index} of block {height}", height, last, index)
    if case.kind != "inclusion":
        for height, last in ((0, 0), (0, 5), (5, 5), (3, 4)):
            yield case.valid(f"valid, block {height} up to {last}", height, last)


def stated_hash_probes(case: Case) -> Iterator[Probe]:
    """The block hash that an inclusion proof states."""
    for name, value in (("other block's", CHAIN.hash(3)), ("short", CHAIN.hash(2)[:-2]), ("empty", "")):
        yield case.bad(f"block_hash: {name}", "block_hash", block_hash=value)
    for name, value in (("capitals", CHAIN.hash(2).upper()), ("number", 7), ("odd", CHAIN.hash(2)[:-1])):
        yield case.bad(f"block_hash: {name}", "block_hash, text", block_hash=value)
    other = {"header": CHAIN.headers[5].hex(), "block_hash": CHAIN.hash(5)}
    yield case.bad("header of another block", "header 0, hash", **other)
    yield case.bad("other block's header and head", "path, root", known={"head": CHAIN.hash(5)}, **other)


def probes(kind: str) -> list[Probe]:
    """All probes of one kind."""
    case = Case(kind)
    parts = [valid_probes, known_probes, json_probes, header_probes]
    parts += [index_probes, path_probes] if case.with_index else []
    parts += [stated_hash_probes] if kind == "inclusion" else [chain_probes]
    return [probe for part in parts for probe in part(case)]


def contents() -> dict[str, str]:
    """The files by name."""
    return {
        f"{kind}.json": json.dumps([asdict(probe) for probe in probes(kind)], indent=1, ensure_ascii=True) + "\n"
        for kind in KINDS
    }


def kept() -> list[Probe]:
    """The probes in the files."""
    return [Probe(**values) for path in sorted(FOLDER.glob("*.json")) for values in json.loads(path.read_text())]


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, content in contents().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
        print(name)
