"""Forge blocks of charging quotas and compare the verdict of `gridmarl ledger verify` with that of the slow oracle.

In one block some words of the inputs or of the transactions are changed; every root, parent, state root and the trailer
are then computed again, as an attacker would who holds the whole file. A file passes if it verifies where a round of
the oracle of the tests makes the same block of the same inputs, and nowhere else, and if what is wrong is located: the
block that was forged, section and field. Everything else is a failure: a crash, a false ok, a false alarm, another
place. Exit code 1 if there is one.

    python -m benchmarks.fuzz_quota_ledger --files 10000 --seed 0
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from struct import pack, unpack

import tyro

from benchmarks.ledger_mutations import restated
from gridmarl.ledger import Block, verify_bytes
from gridmarl.ledger.quota_records import QuotaKind
from tests.ledger.builders import honest_blocks, rehashed
from tests.oracles.quota_judge import lawful
from tests.oracles.quota_play import QuotaPlay

PLAY = QuotaPlay(N=4, T=12)
SHAPES = (PLAY, replace(PLAY, overuse=False), replace(PLAY, budget=90), replace(PLAY, N=1), replace(PLAY, N=6))
PLAYS = tuple(play.variant(auction=name) for play in SHAPES for name in ("pairwise", "uniform", "marginal_pair"))
FORGERIES_PER_LEDGER = 40
_EXTREMES = (-(1 << 63), (1 << 63) - 1, -1, 0, 1, 1 << 32, 10**8, 10**18)
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1


@dataclass(frozen=True)
class Options:
    """What to forge."""

    files: int = 10_000
    """Forged files."""
    seed: int = 0
    """Of all random numbers."""


@dataclass
class Tally:
    """Verdicts by kind, and what went wrong."""

    verdicts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def forged_words(rng: random.Random, block: Block, deposit_rate: int) -> Block:
    """A block with some words changed a little or altogether; half of the declarations take their deposit along."""
    section = rng.choice(("inputs", "inputs", "transactions"))
    words = list(unpack(f"<{len(getattr(block, section)) // 8}q", getattr(block, section)))
    for _ in range(rng.choice((1, 1, 1, 3))):
        at = rng.randrange(len(words))
        near = max(_LEAST, min(words[at] + rng.choice((-1, 1, 3)), _MOST))
        words[at] = rng.choice((near, near, near, rng.choice(_EXTREMES), rng.randint(_LEAST, _MOST)))
        declared = section == "inputs" and at % 8 == 1 and words[at - 1] & 0xFFFF == QuotaKind.DECLARATION
        if declared and rng.random() < 0.5:
            words[at] %= 80
            words[at + 1] = deposit_rate * words[at]
    return block._replace(**{section: pack(f"<{len(words)}q", *words)})


def attack(play: QuotaPlay, seed: int, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Forgeries of one honest ledger: the verdict, and what is wrong with it, empty if nothing is."""
    rules, sealed = honest_blocks(play, seed)
    blocks = [each.block for each in sealed]
    for _ in range(FORGERIES_PER_LEDGER):
        height, forged = rng.randrange(len(blocks)), list(blocks)
        forged[height] = forged_words(rng, blocks[height], play.terms.deposit_rate)
        verdict = verify_bytes(rehashed(rules, list(restated(rules, forged))))
        right, error = lawful(rules, height, forged[height]), verdict.error
        if verdict.ok:
            yield ("same bytes" if forged == blocks else "accepted"), "" if right else "false ok"
        elif error is not None:
            located = error.block == height and error.section in ("inputs", "transactions") and error.field is not None
            yield error.section, "false alarm" if right else "" if located else f"not located: {error}"
        else:
            yield "none", "no error is named"


def fuzz(options: Options) -> Tally:
    """Forge one ledger after the other, under all rules in turn."""
    tally, rng, ledgers = Tally(), random.Random(options.seed), 0
    while True:
        for verdict, wrong in attack(PLAYS[ledgers % len(PLAYS)], ledgers, rng):
            if tally.verdicts.total() == options.files:
                return tally
            tally.verdicts[verdict] += 1
            if wrong:
                tally.failures.append(f"file {tally.verdicts.total() - 1}: {wrong}")
        ledgers += 1


def main(options: Options) -> int:
    """Fuzz, show; 1 if there is a failure."""
    begin = time.perf_counter()
    tally = fuzz(options)
    for verdict, count in tally.verdicts.most_common():
        print(f"{verdict}: {count}")
    seconds = time.perf_counter() - begin
    print(f"{tally.verdicts.total()} files in {seconds:.0f} s, {len(tally.failures)} failures")
    print("\n".join(tally.failures[:20]), end="\n" if tally.failures else "")
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
