"""Which side of a broken hash is the corrupted one, and which input record, as far as it can be told."""

from __future__ import annotations

from struct import unpack
from typing import TYPE_CHECKING

from gridmarl.ledger import replay_rules
from gridmarl.ledger.block import Block, Header
from gridmarl.ledger.hashing import header_hash, section_root
from gridmarl.ledger.location import HEADER, INPUTS, TRANSACTIONS, LocatedError, mismatch
from gridmarl.ledger.records import RECORD_WORDS
from gridmarl.ledger.replay_inputs import Inputs, bad_input, check_fixed_words

if TYPE_CHECKING:
    from gridmarl.ledger.genesis import Rules
    from gridmarl.ledger.reader import LedgerReader
    from gridmarl.ledger.replay import Replay


def authentic(reader: LedgerReader, height: int) -> bool:
    """Whether the chain of hashes from the trailer (or the last block, without a trailer) back vouches for a header.

    Without a trailer nothing vouches for the last header; it is then believed.
    """
    try:
        trusted: bytes | None = reader.trailer().head
    except LocatedError:
        trusted = None
    for index in range(reader.block_count - 1, height - 1, -1):
        header = reader.header(index)
        if trusted is not None and header_hash(header) != trusted:
            return False
        trusted = Header.unpack(header).parent
    return True


def broken_parent(reader: LedgerReader, height: int, header: Header, head: bytes) -> LocatedError:
    """Error of a block whose parent field is not the hash `head` of the header before."""
    if height and authentic(reader, height) and not authentic(reader, height - 1):
        reason = "its hash is not the one that the next block names"
        return mismatch(HEADER, reason, block=height - 1, field="hash", expected=header.parent, seen=head)
    reason = "not the hash of the block before"
    return mismatch(HEADER, reason, block=height, field="parent", expected=head, seen=header.parent)


def broken_root(reader: LedgerReader, replay: Replay, height: int, block: Block, section: str) -> LocatedError:
    """Error of a block of which a section does not have the root in the header."""
    header = block.parsed_header()
    content = block.inputs if section == INPUTS else block.transactions
    name, named = ("input_root", header.input_root) if section == INPUTS else ("tx_root", header.tx_root)
    root = section_root(content)
    if not authentic(reader, height):
        reason = f"not the root of the {section}"
        return mismatch(HEADER, reason, block=height, field=name, expected=root, seen=named)
    try:
        if section == TRANSACTIONS:
            replay.apply(height, block.inputs, block.transactions)
        elif section_root(block.transactions) == header.tx_root:
            inputs_against_transactions(replay.rules, height, block)
    except LocatedError as error:
        if error.location.section == section and error.location.block == height:
            return error
    reason = "the records do not have the root in the header"
    return mismatch(section, reason, block=height, field=name, expected=named, seen=root)


def inputs_against_transactions(rules: Rules, height: int, block: Block) -> None:
    """Find a corrupted input record by what authentic transactions say of it.

    Transactions give the three prices, quantities bought, sold and reduced of each prosumer, and its deviation. Limit
    prices and offered reductions cannot be told from them.

    Raises:
        LocatedError: the record, and the field where only one can be wrong.
    """
    inputs, count = Inputs.read(block.inputs, rules.num_prosumers), rules.num_prosumers
    for record in range(1 + 2 * count):
        check_fixed_words(rules, height, record, inputs)
    words = unpack(f"<{len(block.transactions) // 8}q", block.transactions)
    energies = words[2::RECORD_WORDS]
    bought, sold, unfilled, unsold, accepted, short, surplus = (energies[kind * count :][:count] for kind in range(7))
    price, import_price, export_price = (words[RECORD_WORDS * kind * count + 3] for kind in (0, 2, 3))
    buy = [a + b for a, b in zip(bought, unfilled, strict=True)]
    sell = [a + b for a, b in zip(sold, unsold, strict=True)]
    shortage = max(0, sum(buy) - sum(sell))
    alpha = inputs.prices[2] if rules.alpha_permille is None else rules.alpha_permille
    dr_price = replay_rules.response_price(shortage, alpha, price, import_price)
    signal = (import_price, export_price, alpha, price, dr_price, shortage, sum(bought))
    names = ("import_price", "export_price", "alpha_permille", "price", "dr_price", "shortage_wh", "volume_wh")
    reason = "differs from what the transactions say"
    for name, expected, seen in zip(names, signal, inputs.signal[1:], strict=True):
        if expected != seen and not (name == "dr_price" and rules.alpha_permille is None):
            raise bad_input(rules, height, 0, name, expected, seen, reason)
    for i in range(count):
        meter = 1 + count + i
        derived = (
            (1 + i, "buy_wh", buy[i], inputs.buy_wh[i]),
            (1 + i, "sell_wh", sell[i], inputs.sell_wh[i]),
            (meter, "load_wh", buy[i] - accepted[i], inputs.load_wh[i]),
            (meter, None, buy[i], inputs.demand_wh[i] + inputs.returned_wh[i] + inputs.charge_wh[i]),
            (meter, None, sell[i] - short[i] + surplus[i], inputs.discharge_wh[i] + inputs.generation_wh[i]),
        )
        for record, field, expected, seen in derived:
            if expected != seen:
                raise bad_input(rules, height, record, field, expected, seen, reason)
        for name, limit in (("buy_price", inputs.buy_price[i]), ("sell_price", inputs.sell_price[i])):
            if not export_price <= limit <= import_price:
                allowed = f"{export_price} .. {import_price}"
                raise bad_input(rules, height, 1 + i, name, allowed, limit, "outside export .. import price")
