"""Mutations of small honest ledger files, raw and with every hash computed again; `benchmarks.fuzz_ledger` judges them.

The honest files come from the slow oracle of the tests, under several rules. Each mutation is a function of a random
generator, an honest file, and a donor: another honest file under the same rules, of the same length.

A forger of a chain with several validators, or a signed one, is an insider or not. An insider has all keys and seals as
the rules say; any other leaves sealers, nonces and signatures as they were.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from gridmarl.errors import LedgerError
from gridmarl.ledger import Block, Rules
from gridmarl.ledger.block import SIGNATURE_BYTES, Header
from gridmarl.ledger.file import FILE_VERSION, MAGIC, PREFIX, TRAILER_BYTES, Trailer
from gridmarl.ledger.hashing import balance_bytes, genesis_hash, section_root, state_root
from gridmarl.ledger.location import INPUTS, TRANSACTIONS
from gridmarl.ledger.records import FIELDS, RECORD_BYTES, RECORD_WORDS, Field, Kind, input_count
from gridmarl.ledger.sealing import Sealer
from tests.ledger.builders import SEALINGS, complete, honest_file, keys_of, read_blocks
from tests.ledger.builders import resealed as sealed_again
from tests.oracles.ledger_play import Play

_RECORD = struct.Struct("<8Q")


class Honest(NamedTuple):
    """An honest ledger file and its parts."""

    data: bytes
    rules: Rules
    blocks: list[Block]

    @property
    def start(self) -> int:
        """Offset of block 0."""
        return len(self.data) - TRAILER_BYTES - len(self.blocks) * self.block_bytes

    @property
    def block_bytes(self) -> int:
        """Length of a block."""
        return len(self.blocks[0].to_bytes())

    @property
    def has_seals(self) -> bool:
        """Whether sealers are elected, or sign."""
        return self.rules.validators > 1 or bool(self.rules.sealers)


def honest(play: Play, seed: int, *, signed: bool = False, **changes: object) -> Honest:
    """An honest ledger of one episode."""
    data = honest_file(play, seed, signed=signed, **changes)
    return Honest(data, *read_blocks(data))


def bases() -> list[tuple[Honest, Honest]]:
    """Honest ledgers under different rules, each with another one under the same rules to splice from."""
    battery = {"capacity": 30, "power": 11, "soc0": 12}
    plays = (
        (Play(P=2, H=2, capacity=20, power=9, soc0=7, price_range=(5, 60)), {}),
        (Play(P=3, H=5, deadline=3, price_range=(-30, 40), **battery), {}),
        (Play(P=3, H=4, price_rule="marginal_pair", dr="additive", **battery), {"battery_initial_wh": None}),
        (Play(P=2, H=4, alpha=None, deadline=1, penalty=0), {"credit_limit_utok": 100_000}),
        (Play(P=1, H=3, k=0), {"lane": 7}),
        (Play(P=2, H=3, capacity=20, power=9, soc0=7), {"signed": True}),
        (Play(P=4, H=2, **battery), {"signed": True, **SEALINGS["pbft"]}),
        (Play(P=4, H=4, price_range=(5, 60)), {"signed": True, **SEALINGS["stake"]}),
        (Play(P=2, H=3), {"signed": True, **SEALINGS["work"]}),
        (Play(P=2, H=3, deadline=1), SEALINGS["work"]),
        (Play(P=2, H=3, finality="strict", lag=1, credit=300, ppm=20_000), {}),
    )
    return [
        (honest(play, seed, **changes), honest(play, seed + 20, **changes))
        for play, changes in plays
        for seed in (1, 2)
    ]


# --- what an attacker computes again ---------------------------------------------------------------------------------


def restated(rules: Rules, blocks: Iterable[Block]) -> Iterator[Block]:
    """Blocks whose state roots follow from their own transactions, whatever these say."""
    balances = list(rules.initial_balances)
    for block in blocks:
        words = struct.unpack(f"<{len(block.transactions) // 8}q", block.transactions)
        for accounts, amount in zip(words[1::RECORD_WORDS], words[4::RECORD_WORDS], strict=True):
            for account, sign in ((accounts & 0xFFFFFFFF, -1), (accounts >> 32 & 0xFFFFFFFF, 1)):
                if account < len(balances):
                    balances[account] += sign * amount
        fits = all(-(1 << 63) <= balance < 1 << 63 for balance in balances)
        root = state_root(balance_bytes(balances)) if fits else block.parsed_header().state_root
        yield block._replace(header=block.parsed_header()._replace(state_root=root).pack())


def sealer_of(genesis: bytes) -> Sealer | None:
    """Who seals under rules that the keys of the tests fit, if they do."""
    try:
        rules = Rules.from_bytes(genesis)
        return Sealer(rules, keys_of(rules) if rules.sealers else None)
    except LedgerError:
        return None


def resealed(
    base: Honest,
    blocks: Sequence[Block],
    *,
    restate: bool,
    renumber: bool,
    genesis: bytes | None = None,
    insider: bool = False,
) -> bytes:
    """A file in which every hash is right: section roots, parents, trailer and, if asked, state roots and heights.

    `insider`: seals and signatures are right, too, as far as the rules can be followed.
    """
    genesis = base.rules.to_bytes() if genesis is None else genesis
    sealer = sealer_of(genesis) if insider else None
    head, root = genesis_hash(genesis), state_root(balance_bytes(base.rules.initial_balances))
    parts = [PREFIX.pack(MAGIC, FILE_VERSION, len(genesis)), genesis, head]
    for height, block in enumerate(restated(base.rules, blocks) if restate else blocks):
        header = block.parsed_header()._replace(
            parent=head, input_root=section_root(block.inputs), tx_root=section_root(block.transactions)
        )
        if renumber:
            header = header._replace(height=height, period=height % base.rules.horizon_hours)
        block = block._replace(header=header.pack())
        if sealer is not None and len(block.transactions) == len(base.blocks[0].transactions):
            sealed, signatures = sealer.seal(block.header, block.transactions)
            header, block = Header.unpack(sealed), block._replace(header=sealed, signatures=signatures)
        parts.append(block.to_bytes())
        head, root = header.hash(), header.state_root
    return b"".join([*parts, Trailer(len(blocks), head, root).pack()])


def records_of(section: bytes) -> list[bytes]:
    """The 64-byte records of a section."""
    return [section[at : at + RECORD_BYTES] for at in range(0, len(section), RECORD_BYTES)]


def with_field(record: bytes, field: Field, value: int) -> bytes:
    """A record with one field set to the low bits of a value."""
    words, mask = list(_RECORD.unpack(record)), (1 << field.bits) - 1
    words[field.word] = words[field.word] & ~(mask << field.shift) | (value & mask) << field.shift
    return _RECORD.pack(*words)


def fields_of(record: bytes) -> tuple[Field, ...]:
    """Layout of an honest record."""
    return FIELDS[int.from_bytes(record[:2], "little")]


def value_of(record: bytes, field: Field) -> int:
    """Value of a field."""
    return field.get(struct.unpack("<8q", record))


def other_value(rng: random.Random, value: int, bits: int) -> int:
    """Another value of so many bits: close by, at an edge, or any."""
    near = (value + 1, value - 1, value + rng.randint(-20, 20), -value, value ^ 1 << rng.randrange(bits))
    edges = (0, 1, (1 << bits) - 1, 1 << bits - 1, (1 << bits - 1) - 1, rng.getrandbits(bits))
    return rng.choice(near + edges) & (1 << bits) - 1


# --- raw mutations ---------------------------------------------------------------------------------------------------


def flip_bit(rng: random.Random, base: Honest, donor: Honest) -> bytes:
    return flip(rng, base.data, 1)


def flip_bits(rng: random.Random, base: Honest, donor: Honest) -> bytes:
    return flip(rng, base.data, rng.randint(2, 16))


def flip(rng: random.Random, data: bytes, count: int) -> bytes:
    changed = bytearray(data)
    for _ in range(count):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def span(rng: random.Random, base: Honest) -> tuple[int, int]:
    """`(offset, length)`: anywhere, or aligned to records and blocks."""
    length = rng.choice((1, 2, 3, 8, 64, 256, base.block_bytes, rng.randint(1, 300)))
    aligned = base.start + RECORD_BYTES * rng.randrange((len(base.data) - base.start) // RECORD_BYTES)
    return rng.choice((rng.randrange(len(base.data)), aligned)), length


def filler(rng: random.Random, base: Honest, length: int) -> bytes:
    at = rng.randrange(len(base.data))
    return rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length), base.data[at : at + length] or b"\0"))


def overwrite_bytes(rng: random.Random, base: Honest, donor: Honest) -> bytes:
    at, length = span(rng, base)
    return base.data[:at] + filler(rng, base, length) + base.data[at + length :]


def insert_bytes(rng: random.Random, base: Honest, donor: Honest) -> bytes:
    at, length = span(rng, base)
    return base.data[:at] + filler(rng, base, length) + base.data[at:]


def delete_bytes(rng: random.Random, base: Honest, donor: Honest) -> bytes:
    at, length = span(rng, base)
    return base.data[:at] + base.data[at + length :]


def truncate(rng: random.Random, base: Honest, donor: Honest) -> bytes:
    return base.data[: rng.randrange(len(base.data))]


def extend(rng: random.Random, base: Honest, donor: Honest) -> bytes:
    _, length = span(rng, base)
    parts = (filler(rng, base, length), base.data, base.data[-TRAILER_BYTES:], donor.data[donor.start :])
    return base.data + rng.choice(parts)


def reordered(rng: random.Random, items: Sequence[bytes] | Sequence[Block]) -> list[int]:
    """Positions after a swap, a repetition, a replay in another's place, a drop, or a rotation."""
    order = list(range(len(items)))
    i, j = rng.randrange(len(items)), rng.randrange(len(items))
    what = rng.randrange(5)
    if what == 0:
        order[i], order[j] = j, i
    elif what == 1:
        order.insert(i, j)
    elif what == 2:
        order[i] = j
    elif what == 3:
        del order[i]
    else:
        order = order[i:] + order[:i]
    return order


def reorder_blocks(rng: random.Random, base: Honest, donor: Honest) -> bytes:
    blocks = b"".join(base.blocks[i].to_bytes() for i in reordered(rng, base.blocks))
    return base.data[: base.start] + blocks + base.data[-TRAILER_BYTES:]


def with_block(base: Honest, height: int, block: Block) -> bytes:
    """The file with another block at a height, all else as it was."""
    parts = [*base.blocks[:height], block, *base.blocks[height + 1 :]]
    return base.data[: base.start] + b"".join(part.to_bytes() for part in parts) + base.data[-TRAILER_BYTES:]


def reorder_records(rng: random.Random, base: Honest, donor: Honest) -> bytes:
    height, section = rng.randrange(len(base.blocks)), rng.choice((INPUTS, TRANSACTIONS))
    records = records_of(getattr(base.blocks[height], section))
    block = base.blocks[height]._replace(**{section: b"".join(records[i] for i in reordered(rng, records))})
    return with_block(base, height, block)


def splice(rng: random.Random, base: Honest, donor: Honest) -> bytes:
    """Some part of another ledger under the same rules, in its place (both files have one length)."""
    size = base.block_bytes
    inputs = 256 + SIGNATURE_BYTES * base.rules.signature_slots
    inside = sorted({0, 256, inputs, inputs + RECORD_BYTES * input_count(base.rules.num_prosumers), size})
    height, part = rng.randrange(len(base.blocks)), rng.randrange(len(inside) - 1)
    at = base.start + height * size
    record = base.start + RECORD_BYTES * rng.randrange(len(base.blocks) * size // RECORD_BYTES)
    cut = rng.randrange(len(base.data))
    spans = ((at, at + size), (at + inside[part], at + inside[part + 1]), (record, record + RECORD_BYTES))
    spans += ((len(base.data) - TRAILER_BYTES, len(base.data)), (0, cut), (cut, len(base.data)))
    low, high = rng.choice(spans)
    return base.data[:low] + donor.data[low:high] + base.data[high:]


def length_field(rng: random.Random, base: Honest, donor: Honest) -> bytes:
    """A huge or odd value in a field that says how much follows."""
    header = base.start + base.block_bytes * rng.randrange(len(base.blocks))
    trailer = len(base.data) - TRAILER_BYTES
    at, bits = rng.choice(((12, 32), (header + 8, 64), (header + 24, 32), (header + 28, 32), (trailer + 8, 64)))
    value = other_value(rng, int.from_bytes(base.data[at : at + bits // 8], "little"), bits)
    data = base.data[:at] + value.to_bytes(bits // 8, "little") + base.data[at + bits // 8 :]
    return data[:-32] + section_root(data[trailer:-32]) if at > trailer else data


# --- forgeries -------------------------------------------------------------------------------------------------------


def insider(rng: random.Random, base: Honest) -> bool:
    """Whether the forger can seal."""
    return base.has_seals and rng.random() < 0.7


def forged(rng: random.Random, base: Honest, height: int, block: Block) -> bytes:
    """The block in its place; now and then the history ends with it, so that nothing later contradicts it."""
    after = base.blocks[height + 1 :] if rng.random() < 0.8 else []
    blocks, restate = [*base.blocks[:height], block, *after], rng.random() < 0.5
    return resealed(base, blocks, restate=restate, renumber=True, insider=insider(rng, base))


def forged_fields(rng: random.Random, base: Honest, section: str, most: int) -> bytes:
    """Up to `most` fields of records of one section changed."""
    height = rng.randrange(len(base.blocks))
    records = records_of(getattr(base.blocks[height], section))
    for _ in range(rng.randint(1, most)):
        index = rng.randrange(len(records))
        field = rng.choice(fields_of(records_of(getattr(base.blocks[height], section))[index]))
        value = other_value(rng, value_of(records[index], field), field.bits)
        records[index] = with_field(records[index], field, value)
    return forged(rng, base, height, base.blocks[height]._replace(**{section: b"".join(records)}))


def forged_transaction(rng: random.Random, base: Honest, donor: Honest) -> bytes:
    return forged_fields(rng, base, TRANSACTIONS, 3)


def forged_input(rng: random.Random, base: Honest, donor: Honest) -> bytes:
    return forged_fields(rng, base, INPUTS, 3)


def forged_trade(rng: random.Random, base: Honest, donor: Honest) -> bytes:
    """Energy or price of a transaction, its amount kept in step and, mostly, its counterpart too."""
    height, count = rng.randrange(len(base.blocks)), base.rules.num_prosumers
    records = records_of(base.blocks[height].transactions)
    energy, price, amount = (FIELDS[Kind.LOCAL_BUY][index] for index in (5, 6, 7))
    field, change = rng.choice((energy, price)), rng.choice((-1, 1, rng.randint(-50, 50)))
    first = rng.randrange(len(records))
    for index in {first, rng.choice((first, (first + count) % len(records)))}:
        record = with_field(records[index], field, value_of(records[index], field) + change)
        records[index] = with_field(record, amount, value_of(record, energy) * value_of(record, price))
    return forged(rng, base, height, base.blocks[height]._replace(transactions=b"".join(records)))


def forged_meter(rng: random.Random, base: Honest, donor: Honest) -> bytes:
    """Energy moved between two fields of a prosumer's METER and ORDER, so that identities stay true or nearly so."""
    height, prosumer = rng.randrange(len(base.blocks)), rng.randrange(base.rules.num_prosumers)
    records = records_of(base.blocks[height].inputs)
    order, meter, change = 1 + prosumer, 1 + base.rules.num_prosumers + prosumer, rng.choice((-2, -1, 1, 2))
    named = {field.name: (meter, field) for field in FIELDS[Kind.METER]} | {
        field.name: (order, field) for field in FIELDS[Kind.ORDER][3:7]
    }
    moves = (
        {"demand_wh": 1, "charge_wh": -1},
        {"demand_wh": 1, "returned_wh": -1},
        {"discharge_wh": 1, "generation_wh": -1},
        {"demand_wh": 1, "buy_wh": 1, "load_wh": 1},
        {"generation_wh": 1, "sell_wh": 1},
        {"charge_wh": 1, "returned_wh": -1},
        {"discharge_wh": 1, "sell_wh": 1},
        {"demand_wh": 1, "buy_wh": 1, "offered_wh": 1},
        {"offered_wh": 1},
    )
    for name, sign in rng.choice(moves).items():
        index, field = named[name]
        records[index] = with_field(records[index], field, value_of(records[index], field) + sign * change)
    return forged(rng, base, height, base.blocks[height]._replace(inputs=b"".join(records)))


def forged_record_order(rng: random.Random, base: Honest, donor: Honest) -> bytes:
    """Records swapped or replayed within a section, which keeps its length."""
    height, section = rng.randrange(len(base.blocks)), rng.choice((INPUTS, TRANSACTIONS))
    records = records_of(getattr(base.blocks[height], section))
    order = (reordered(rng, records) * 2)[: len(records)]
    return forged(rng, base, height, base.blocks[height]._replace(**{section: b"".join(records[i] for i in order)}))


def forged_block_order(rng: random.Random, base: Honest, donor: Honest) -> bytes:
    blocks = [base.blocks[i] for i in reordered(rng, base.blocks)]
    restate, renumber = rng.random() < 0.5, rng.random() < 0.5
    return resealed(base, blocks, restate=restate, renumber=renumber, insider=insider(rng, base))


def forged_header(rng: random.Random, base: Honest, donor: Honest) -> bytes:
    """A header field, the chain after it computed again; roots and parents are changed by `flip_bits` already."""
    bits = {"version": 16, "consensus": 16, "period": 32, "height": 64, "lane": 64, "tx_count": 32, "input_count": 32,
            "sealer": 64, "difficulty": 64, "nonce": 64}  # fmt: skip
    height, name = rng.randrange(len(base.blocks)), rng.choice((*bits, "state_root", "reserved"))
    header = base.blocks[height].parsed_header()
    seen = getattr(header, name)
    value = other_value(rng, seen, bits[name]) if name in bits else flip(rng, seen, 1)
    block = base.blocks[height]._replace(header=header._replace(**{name: value}).pack())
    blocks = [*base.blocks[:height], block, *base.blocks[height + 1 :]]
    return resealed(base, blocks, restate=False, renumber=False)


def forged_splice(rng: random.Random, base: Honest, donor: Honest) -> bytes:
    """A block, section or record of another ledger under the same rules."""
    height, section = rng.randrange(len(base.blocks)), rng.choice((INPUTS, TRANSACTIONS))
    ours, theirs = base.blocks[height], donor.blocks[rng.choice((height, rng.randrange(len(donor.blocks))))]
    records, index = records_of(getattr(ours, section)), rng.randrange(len(records_of(getattr(ours, section))))
    records[index] = records_of(getattr(theirs, section))[index]
    section_of = ours._replace(**{section: getattr(theirs, section)})
    return forged(rng, base, height, rng.choice((theirs, section_of, ours._replace(**{section: b"".join(records)}))))


def forged_rules(rng: random.Random, base: Honest, donor: Honest) -> bytes:
    """Another value, of the right or of a wrong type, in the genesis; with it every hash from the genesis on."""
    content = json.loads(base.rules.to_bytes())
    name = rng.choice(sorted(content))
    seen = content[name]
    values = [0, 1, -1, 1000, 10**6, 2**31, 2**63, 10**30, 0.5, None, True, "", "uniform", "additive", [], {}, [0] * 5]
    if type(seen) is int:
        values += [seen + 1, seen - 1, seen * 2] * 5
    content[name] = rng.choice(values)
    if rng.random() < 0.1:
        del content[name]
    genesis = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    sealed = insider(rng, base)
    return resealed(base, base.blocks, restate=False, renumber=False, genesis=genesis, insider=sealed)


def forged_genesis_text(rng: random.Random, base: Honest, donor: Honest) -> bytes:
    """Genesis bytes that are no JSON or not canonical, under the right hash."""
    text, hole = base.rules.to_bytes(), rng.randrange(4)
    deep = b"[" * rng.choice((10, 100_000))
    odd = (flip(rng, text, rng.randint(1, 4)), deep, b"1" * 5000, b"", b" " + text, text.replace(b":", b": ", 1 + hole))
    genesis = rng.choice((*odd, text[:-1] + b',"seed":0}', text.decode().encode("utf-16"), b'{"\\ud800":NaN}'))
    return resealed(base, base.blocks, restate=False, renumber=False, genesis=genesis)


def forged_counts(rng: random.Random, base: Honest, donor: Honest) -> bytes:
    """A genesis with another number of prosumers, each with a balance, so that it is lawful by itself."""
    count = rng.choice((1, 2, 3, 4, 5, 6, 40, 3000))
    content = json.loads(base.rules.to_bytes()) | {"num_prosumers": count, "initial_balances": [0] * (count + 3)}
    genesis = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    return resealed(base, base.blocks, restate=False, renumber=False, genesis=genesis)


def forged_trailer(rng: random.Random, base: Honest, donor: Honest) -> bytes:
    """A trailer that lies, its checksum right."""
    last = base.blocks[-1].parsed_header()
    trailer = Trailer(len(base.blocks), last.hash(), last.state_root)
    name = rng.choice(Trailer._fields)
    seen = getattr(trailer, name)
    lie = trailer._replace(**{name: other_value(rng, seen, 64) if name == "block_count" else flip(rng, seen, 1)})
    return base.data[:-TRAILER_BYTES] + lie.pack()


def forged_signature(rng: random.Random, base: Honest, donor: Honest) -> bytes:
    """Signatures of one block absent, swapped, altered, or of another block, chain or key; unsigned: of any block."""
    height, slots = rng.randrange(len(base.blocks)), base.rules.signature_slots
    block = base.blocks[height]
    if not slots:
        extra = rng.randbytes(SIGNATURE_BYTES)
        return with_block(base, height, block._replace(signatures=extra))
    signatures = [
        block.signatures[at : at + SIGNATURE_BYTES] for at in range(0, len(block.signatures), SIGNATURE_BYTES)
    ]
    others = [each.signatures for each in (*base.blocks, *donor.blocks)]
    keys, identity = keys_of(base.rules), block.parsed_header().hash()
    for _ in range(rng.randint(1, 3)):
        slot, source = rng.randrange(slots), rng.choice(others)
        start = SIGNATURE_BYTES * rng.randrange(slots)
        signatures[slot] = rng.choice((
            bytes(SIGNATURE_BYTES), signatures[rng.randrange(slots)], source[start : start + SIGNATURE_BYTES],
            flip(rng, signatures[slot], 1), rng.randbytes(SIGNATURE_BYTES),
            keys.sign(rng.randrange(base.rules.validators), rng.choice((identity, rng.randbytes(32)))),
        ))  # fmt: skip
    return with_block(base, height, block._replace(signatures=b"".join(signatures)))


def forged_seal(rng: random.Random, base: Honest, donor: Honest) -> bytes:
    """Sealer, difficulty or nonce of one block changed, signed by who is named; later blocks are sealed on it."""
    height, name = rng.randrange(len(base.blocks)), rng.choice(("sealer", "difficulty", "nonce"))
    seen = getattr(base.blocks[height].parsed_header(), name)
    value = (
        rng.choice(base.rules.sealer_accounts) if name == "sealer" else other_value(rng, seen, rng.choice((4, 8, 64)))
    )
    return complete(base.rules, sealed_again(base.rules, base.blocks, height, **{name: value}))


Mutator = Callable[[random.Random, Honest, Honest], bytes]
RAW: tuple[Mutator, ...] = (
    flip_bit, flip_bits, overwrite_bytes, insert_bytes, delete_bytes, truncate, extend, reorder_blocks, reorder_records,
    splice, length_field,
)  # fmt: skip
FORGERIES: tuple[Mutator, ...] = (
    forged_transaction, forged_trade, forged_input, forged_meter, forged_record_order, forged_block_order,
    forged_header, forged_seal, forged_signature, forged_splice, forged_rules, forged_genesis_text, forged_counts,
    forged_trailer,
)  # fmt: skip
