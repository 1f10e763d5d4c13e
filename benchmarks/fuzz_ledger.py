"""Attack `gridmarl ledger verify` with mutated ledger files and count the verdicts by kind of mutation.

A raw mutation changes bytes. A forgery changes fields and then computes every root, parent and trailer again and, half
of the time, every state root, as an attacker would who holds the whole file (`benchmarks.ledger_mutations`).

A mutated file passes if its verdict is located: a section, the block of a block's section, and, of a raw mutation, no
block counted as verified from the first changed byte on. A forgery may also verify (`accepted`, docs/ledger.md) if its
head hash is another one and the slow oracle of the tests, given the same orders, readings and prices, plays the same
bytes: a history that could have been, of which a replay cannot know that it was not, sealed and signed by the
rules. A file that lacks votes that it does not need may verify, too. Everything else is a failure: a crash, a hang, any
other ok, a verdict without location. Exit code 1 if there is one.

    python -m benchmarks.fuzz_ledger --files 100000 --seed 0
"""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch
import tyro

from benchmarks.ledger_mutations import FORGERIES, RAW, Honest, Mutator, bases, records_of
from gridmarl.ledger import Block, HourRecord, LaneChains, Rules, Verdict, verify_bytes
from gridmarl.ledger.block import HEADER_BYTES, SIGNATURE_BYTES
from gridmarl.ledger.file import TRAILER_BYTES, Trailer
from gridmarl.ledger.hashing import balance_bytes, state_root
from gridmarl.ledger.location import FILE, GENESIS, HEADER, INPUTS, SIGNATURES, TRAILER, TRANSACTIONS
from gridmarl.ledger.nonce import solves
from gridmarl.ledger.records import FIELDS, Kind, decode_record
from tests.ledger.builders import file_bytes, keys_of, read_blocks
from tests.oracles import ledger_play

OF_BLOCKS = (HEADER, SIGNATURES, INPUTS, TRANSACTIONS)
FAILED = "FAILED"
LONGEST_DAY = 40  # of hours that matter: a file has few, and no energy is put off to the dear ones after them


class Outcome(NamedTuple):
    """Judgement of one mutated file."""

    verdict: str
    """Section of the error, "same bytes" (as the base or the donor), "accepted: ..." or "FAILED: ..."."""
    field_named: bool = False
    detail: str = ""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """TimeoutError once so many seconds have passed; only in the main thread."""

    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def attack(base: Honest, donor: Honest, changed: bytes, *, forged: bool, seconds: float) -> Outcome:
    """Verify a mutated file and judge the verdict."""
    if changed in (base.data, donor.data):
        return Outcome("same bytes")
    try:
        with time_limit(seconds):
            verdict = verify_bytes(changed)
    except TimeoutError as error:
        return Outcome(f"{FAILED}: hang", detail=str(error))
    except Exception as error:
        return Outcome(f"{FAILED}: crash", detail=f"{type(error).__name__}: {error}")
    if verdict.ok:
        return judged_ok(base, donor, changed, verdict, forged)
    honest_blocks = len(base.blocks) if forged else max(unchanged_blocks(each, changed) for each in (base, donor))
    return located(verdict, honest_blocks, forged)


def located(verdict: Verdict, honest_blocks: int, forged: bool) -> Outcome:
    """Whether the error says where."""
    error = verdict.error
    if error is None or not error.reason or error.section not in (FILE, GENESIS, TRAILER, *OF_BLOCKS):
        return Outcome(f"{FAILED}: not located", detail=str(verdict))
    if (error.block is None) == (error.section in OF_BLOCKS):
        return Outcome(f"{FAILED}: block missing", detail=str(verdict))
    if verdict.blocks > honest_blocks and not forged:
        return Outcome(f"{FAILED}: changed block verified", detail=str(verdict))
    cut = error.reason.startswith("truncated")  # by counts in the genesis; no field is to blame
    if forged and error.section in (INPUTS, TRANSACTIONS) and error.field is None and not cut:
        return Outcome(f"{FAILED}: field missing", detail=str(verdict))
    return Outcome(error.section, field_named=error.field is not None)


def unchanged_blocks(base: Honest, changed: bytes) -> int:
    """Blocks before the first byte that differs."""
    pairs = enumerate(zip(base.data, changed, strict=False))
    first = next((at for at, (one, other) in pairs if one != other), min(len(base.data), len(changed)))
    return max(0, min(len(base.blocks), (first - base.start) // base.block_bytes))


def judged_ok(base: Honest, donor: Honest, changed: bytes, verdict: Verdict, forged: bool) -> Outcome:
    """Whether a file that verifies may: a forgery that is a lawful history under another head hash."""
    if any(lacks_votes_only(changed, each.data) for each in (base, donor)):
        return Outcome("accepted: votes left out")
    last = base.blocks[-1].parsed_header().hash().hex()
    if not forged or verdict.head == last or not any(lawful(changed, each) for each in futures(base)):
        return Outcome(f"{FAILED}: ok", detail=str(verdict))
    return Outcome("accepted: " + ", ".join(sorted(differences(base, changed))))


def lacks_votes_only(changed: bytes, whole: bytes) -> bool:
    """Whether a file that verifies is another one but for votes of PBFT that are absent."""
    rules, blocks = read_blocks(changed)
    if rules.consensus != "pbft" or not rules.sealers or len(changed) != len(whole) or changed == whole:
        return False
    restored, size = bytearray(changed), len(blocks[0].to_bytes())
    start = len(changed) - TRAILER_BYTES - size * len(blocks)
    for height in range(len(blocks)):
        for slot in range(rules.signature_slots):
            at = start + height * size + HEADER_BYTES + slot * SIGNATURE_BYTES
            if not any(restored[at : at + SIGNATURE_BYTES]):
                restored[at : at + SIGNATURE_BYTES] = whole[at : at + SIGNATURE_BYTES]
    return restored == whole


def mined_otherwise(rules: Rules, blocks: Sequence[Block], played: Sequence[Block]) -> bool:
    """Whether blocks are those played but for other nonces that solve them, signed by who tries them."""
    keys, parent = keys_of(rules) if rules.sealers else None, rules.hash()
    for block, right in zip(blocks, played, strict=True):
        header = block.parsed_header()
        miner = header.nonce % rules.validators
        found = {"parent": parent, "nonce": header.nonce, "sealer": rules.sealer_accounts[miner]}
        expected = right.parsed_header()._replace(**found)
        signature = keys.sign(miner, header.hash()) if keys is not None else b""
        same = (block.inputs, block.transactions) == (right.inputs, right.transactions)
        if not (same and header == expected and solves(block.header, rules.difficulty_bits)):
            return False
        if block.signatures != signature:
            return False
        parent = header.hash()
    return True


class _Given:
    """Stands in for the oracle's random generator: what it would draw is read from a block instead."""

    def __init__(self, alpha: int, offered: list[int]) -> None:
        self._alpha, self._offered = alpha, list(offered)

    def choice(self, options: object) -> int:
        """The operator's factor."""
        return self._alpha

    def randint(self, low: int, high: int) -> int:
        """The next offered reduction."""
        return self._offered.pop(0)


def futures(base: Honest) -> list[list[tuple[int, int]]]:
    """Prices by hour that may follow where a history stops within a day: all that differ in where energy returns."""
    honest = [columns(block, Kind.SIGNAL) for block in base.blocks]
    prices = [(each["import_price"][0], each["export_price"][0]) for each in honest]
    high, low = (1 + max(high for high, _ in prices), 0), (min(high for high, _ in prices) - 1, 0)
    dips = [[low if hour == each else high for hour in range(LONGEST_DAY)] for each in range(len(prices) + 3)]
    return [prices + [high] * LONGEST_DAY, [high] * LONGEST_DAY, *dips, *([price] * LONGEST_DAY for price in prices)]


def lawful(data: bytes, future: Sequence[tuple[int, int]]) -> bool:
    """Whether the slow oracle of the tests, given the orders, readings and prices in a file, plays the same bytes.

    It computes the clearing, settlement, balances and returned energy; bounds of what is given are checked here. Shares
    no code with the replay. `future`: prices of the hours of a day that the file does not reach.
    """
    rules, blocks = read_blocks(data)
    known, capacity, power = rules.battery_initial_wh is not None, rules.battery_capacity_wh, rules.battery_power_w
    play = ledger_play.Play(
        P=rules.num_prosumers, H=min(rules.horizon_hours, LONGEST_DAY), k=rules.k_permille, price_rule=rules.price_rule,
        dr=rules.dr_settlement, alpha=rules.alpha_permille, penalty=rules.penalty_permille,
        share=rules.shift_share_permille, deadline=rules.shift_deadline_hours, eff=rules.battery_efficiency_permille,
        finality=rules.finality, lag=rules.finality_lag_hours, credit=rules.local_credit_utok,
        ppm=rules.credit_interest_ppm,
    )  # fmt: skip
    days = [blocks[at : at + play.H] for at in range(0, len(blocks), play.H)]
    keys = keys_of(rules) if rules.sealers else None
    if keys is not None and keys.public_keys != rules.sealers:
        return False
    balances, played = list(rules.initial_balances), LaneChains(rules, [rules.lane], keep=[rules.lane], keys=keys)
    income: list[list[int]] = []
    for day in days:
        signals = [columns(block, Kind.SIGNAL) for block in day]
        prices = [(each["import_price"][0], each["export_price"][0]) for each in signals]
        prices += future[len(prices) : play.H]
        backlog, soc = [[0] * play.P for _ in range(play.H)], [rules.battery_initial_wh or 0] * play.P
        for t, block in enumerate(day):
            order, meter = columns(block, Kind.ORDER), columns(block, Kind.METER)
            c, x, offered = meter["charge_wh"], meter["discharge_wh"], meter["offered_wh"]
            f = [sell - out for sell, out in zip(order["sell_wh"], x, strict=True)]
            limits = zip(c, x, offered, meter["demand_wh"], meter["generation_wh"], f, soc, strict=True)
            low, high = prices[t][1], prices[t][0]
            bids = order["buy_price"] + order["sell_price"]
            if high - low > 10_000 or not all(low <= bid <= high for bid in bids):
                return False
            for i, (charge, out, offer, demand, generation, sold, stored) in enumerate(limits):
                after = stored + floor(Fraction(charge * play.eff, 1000)) - out
                inside = max(charge, out) <= power and (not known or (out <= stored and after <= capacity))
                last = t == play.H - 1
                if min(charge, out, offer, demand - offer, generation, sold) < 0 or (charge and out):
                    return False
                if not (after == rules.battery_initial_wh if last and known else last or inside):
                    return False
                soc[i] = after
            B = [sum(each) for each in zip(meter["demand_wh"], backlog[t], c, strict=True)]
            drawn = (order["buy_price"], B, order["sell_price"], order["sell_wh"], meter["demand_wh"], f,
                     meter["generation_wh"], c, x)  # fmt: skip
            given = _Given(signals[t]["alpha_permille"][0], offered)
            with mock.patch.object(ledger_play, "draw_orders", lambda *_, drawn=drawn: drawn):
                hour = ledger_play.play_hour(play, given, t, prices, backlog, soc, balances, income)
            limit = rules.credit_limit_utok
            if limit is not None and min(balances[: play.P]) < -limit:
                return False
            stacked = {name: torch.tensor(value, dtype=torch.int64).unsqueeze(-1) for name, value in hour.items()}
            played.append(HourRecord(period=t, **stacked))
    sealed = played.blocks[rules.lane]
    end = Trailer(len(sealed), played.heads[0], state_root(balance_bytes(balances)))
    whole = file_bytes(rules, [each.block for each in sealed], end)
    if rules.consensus == "proof_of_work" and mined_otherwise(rules, blocks, [each.block for each in sealed]):
        whole = file_bytes(rules, blocks, end._replace(head=blocks[-1].parsed_header().hash()))
    return data == whole or lacks_votes_only(data, whole)


def columns(block: Block, kind: Kind) -> dict[str, list[int]]:
    """Values of all input records of a kind, by field."""
    records = [decode_record(each) for each in records_of(block.inputs)]
    return {item.name: [each[item.name] for each in records if each["kind"] == kind] for item in FIELDS[kind]}


def differences(base: Honest, changed: bytes) -> set[str]:
    """What an accepted forgery changed, in words."""
    rules, blocks = read_blocks(changed)
    ours, theirs = (json.loads(each.to_bytes()) for each in (base.rules, rules))
    names = {f"rules.{name}" for name in ours if ours[name] != theirs[name]}
    if len(blocks) != len(base.blocks):
        names.add("blocks left out at the end" if len(blocks) < len(base.blocks) else "more blocks")
    for before, after in zip(base.blocks, blocks, strict=False):
        if before.transactions != after.transactions:
            return names | {"another hour, lawful where it stands"}
        for kind in (Kind.SIGNAL, Kind.ORDER, Kind.METER):
            one, other = columns(before, kind), columns(after, kind)
            names |= {f"{kind.name}.{name}" for name in one if one[name] != other[name]}
    return names or {"header.nonce"}


@dataclass
class Options:
    """Mutate ledger files and verify them."""

    files: int = 100_000
    seed: int = 0
    seconds_per_file: float = 5.0
    """Longer is a hang."""
    keep: Path | None = None
    """Folder for the files of failures."""


@dataclass
class Tally:
    """Counts over all files."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By kind of mutation and verdict."""
    fields_named: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str, Outcome]] = field(default_factory=list)
    slowest_s: float = 0.0

    @property
    def files(self) -> int:
        """Files in all, those left unchanged by their mutation included."""
        return sum(self.outcomes.values())


def fuzz(options: Options) -> Tally:
    """Attack so many files; file `i` depends on seed and `i` only."""
    honest = bases()
    for base, donor in honest:
        if not (verify_bytes(base.data).ok and verify_bytes(donor.data).ok):
            raise AssertionError("an honest file does not verify")
    kinds: tuple[Mutator, ...] = (*RAW, *FORGERIES)
    tally = Tally()
    for index in range(options.files):
        rng = random.Random(f"{options.seed} {index}")
        mutate, (base, donor) = kinds[index % len(kinds)], rng.choice(honest)
        changed = mutate(rng, base, donor)
        begin = time.perf_counter()
        outcome = attack(base, donor, changed, forged=mutate in FORGERIES, seconds=options.seconds_per_file)
        tally.slowest_s = max(tally.slowest_s, time.perf_counter() - begin)
        tally.outcomes[mutate.__name__, outcome.verdict] += 1
        tally.fields_named[mutate.__name__] += outcome.field_named
        if outcome.verdict.startswith(FAILED):
            tally.failures.append((index, mutate.__name__, outcome))
            if options.keep is not None:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{index}-{mutate.__name__}.bin").write_bytes(changed)
        if sys.stderr.isatty() and index % 1000 == 0:
            print(f"{index} files", end="\r", file=sys.stderr, flush=True)
    return tally


def table(tally: Tally) -> str:
    """Verdicts by kind of mutation, in Markdown."""
    columns = (FILE, GENESIS, HEADER, SIGNATURES, INPUTS, TRANSACTIONS, TRAILER, "accepted", "same bytes", FAILED)
    rows = ["| mutation | files | " + " | ".join(columns) + " | field named |", "|---" * (len(columns) + 3) + "|"]
    for mutate in (*RAW, *FORGERIES):
        name = mutate.__name__
        mine = {verdict: count for (kind, verdict), count in tally.outcomes.items() if kind == name}
        counts = [sum(count for verdict, count in mine.items() if verdict.split(":")[0] == each) for each in columns]
        cells = [str(sum(mine.values())), *map(str, counts), str(tally.fields_named[name])]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main(options: Options) -> int:
    """Fuzz, show; 1 if there is a failure."""
    begin = time.perf_counter()
    tally = fuzz(options)
    print(table(tally))
    accepted: Counter[str] = Counter()
    for (_, verdict), count in tally.outcomes.items():
        if verdict.startswith("accepted"):
            accepted[verdict] += count
    print("\n".join(f"{verdict}: {count}" for verdict, count in accepted.most_common()))
    seconds = time.perf_counter() - begin
    print(f"{tally.files} files in {seconds:.0f} s, slowest {tally.slowest_s:.3f} s, {len(tally.failures)} failures")
    for index, name, outcome in tally.failures[:20]:
        print(f"file {index} ({name}): {outcome.verdict}: {outcome.detail}")
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
