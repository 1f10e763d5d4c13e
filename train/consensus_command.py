"""`gridmarl ledger consensus`: the same blocks sealed by every mechanism, side by side, with what papers quote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal, NamedTuple

import tyro
from rich import box
from rich.table import Table

from gridmarl.consensus import Candidate, Network, Outcome, candidates_of, consensus_names, make_consensus
from gridmarl.errors import ConsensusError
from gridmarl.ledger.reader import LedgerReader
from gridmarl.train.contest import agent_for
from gridmarl.train.ledger_run import play_sealed
from gridmarl.train.options import MarketOptions, check_range
from gridmarl.train.tables import results_console


class Quoted(NamedTuple):
    """A throughput that papers quote for a deployed system."""

    system: str
    tx_per_s: str


QUOTED: dict[str, tuple[Quoted, ...]] = {
    "proof_of_authority": (Quoted("Energy Web", "several thousand"),),
    "proof_of_stake": (Quoted("EOS", "3,996"),),
    "proof_of_work": (Quoted("Bitcoin", "7"), Quoted("Ethereum", "7-15")),
    "pbft": (),
}
NOTES = (
    "delay: simulated, from next in line until final, of the final blocks; all wait from the start",
    "hashes: headers and election draws, of all validators; energy: hashes times a parameter",
    "survives: most faulty validators with progress and one chain; (stake): where all have the same",
    "quoted by the review papers on blockchain in energy, of deployed systems (Ethereum: then proof of",
    "work; EOS: delegates elected by stake; card networks: about 5,000); they quote no delays or energies",
)


@dataclass
class LedgerConsensus:
    """Seal the blocks of a ledger file under each consensus mechanism and compare delay, messages, hashes and energy.
    Without a file: one day of the default market with truthful prosumers."""

    path: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="[PATH]", help_behavior_hint="")] = None
    """The ledger file (ledger.bin of a run), or a run folder."""
    validators: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Validators: the first N prosumers; default: all."""
    faulty: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """How many validators are faulty (the first ones, so that they lead first)."""
    fault: Literal["silent", "equivocating"] = "silent"
    """What faulty validators do: send nothing, or tell one half of the others one thing and the other half another."""
    difficulty: Annotated[int, tyro.conf.arg(metavar="BITS")] = 12
    """Proof of work: leading zero bits of a header's hash. Every nonce is tried: 20 bits take seconds per block."""
    confirmations: Annotated[int, tyro.conf.arg(metavar="N")] = 6
    """Proof of work and of stake: blocks that must follow until a block counts as final."""
    coin_age: Annotated[int, tyro.conf.arg(metavar="BLOCKS")] = 0
    """Proof of stake: weigh the stake by the blocks since its owner last sealed, at most so many; 0: off."""
    message_delay_ms: Annotated[int, tyro.conf.arg(metavar="MS")] = Network.message_delay_ms
    """Simulated time that a message takes."""
    block_interval_ms: Annotated[int, tyro.conf.arg(metavar="MS")] = Network.block_interval_ms
    """Simulated time of a turn, and mean time between mined blocks; PBFT does not wait."""
    timeout_ms: Annotated[int, tyro.conf.arg(metavar="MS")] = Network.timeout_ms
    """Simulated time after which a PBFT validator gives its primary up."""
    energy_per_hash_fwh: Annotated[int, tyro.conf.arg(metavar="FWH")] = Network.energy_per_hash_fwh
    """Energy of one hash in femtowatt-hours; the default is a CPU core (10 uJ), a mining chip needs some 8."""
    energy_per_message_fwh: Annotated[int, tyro.conf.arg(metavar="FWH")] = Network.energy_per_message_fwh
    """Energy of one message in femtowatt-hours."""
    seed: Annotated[int, tyro.conf.arg(metavar="N")] = 0
    """Seed of the day that is played without a file, and of the elections under proof of stake."""

    def run(self) -> int:
        """Print the table; exit code 0, also where a mechanism stops under its faults (the table says so)."""
        check_range("seed", self.seed, 0, 2**64 - 1)
        title, candidates, network = self._blocks()
        table = _table()
        stopped = []
        for name in consensus_names():
            mechanism = make_consensus(name, network, **self._options(name))
            survives = f"{mechanism.faults_survived} of {network.validators}"
            try:
                cells = _cells(mechanism.seal(candidates))
            except ConsensusError as error:
                cells = ("stops", *[""] * 5)
                stopped.append(str(error))
            survives += " (stake)" if name == "proof_of_stake" else ""
            quoted = "\n".join(f"{each.system} {each.tx_per_s}" for each in QUOTED[name]) or "none"
            table.add_row(name.replace("_", " "), *cells[:5], survives, cells[5], quoted)
        console = results_console()
        console.print(title, highlight=False, markup=False, soft_wrap=True)
        console.print(table)
        for line in stopped:
            console.print(line, highlight=False, markup=False)
        for note in NOTES:
            console.print(note, style="dim", highlight=False, markup=False)
        return 0

    def _blocks(self) -> tuple[str, list[Candidate], Network]:
        """Title, blocks and network: from the file, or from a day played for the purpose."""
        if self.path is not None:
            return self._read(self.path / "ledger.bin" if self.path.is_dir() else self.path)
        options = MarketOptions(seed=self.seed, days=1)
        params, scenario = options.parameters(), options.scenario()
        self._network(params.num_prosumers)  # refuses before anything is played
        agent = agent_for(options, params, scenario, "truthful", 1)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "ledger.bin"
            play_sealed(options, params, scenario, agent, self.seed, path)
            return self._read(path, "one day of truthful prosumers")

    def _read(self, path: Path, shown: str = "") -> tuple[str, list[Candidate], Network]:
        with LedgerReader.open(path) as reader:
            members = reader.rules.num_members
            network = self._network(members)
            candidates = candidates_of(reader, members, network.validators, reader.rules.stake_kind)
        transactions = sum(candidate.tx_count for candidate in candidates)
        title = f"{shown or path}: {len(candidates)} blocks, {transactions:,} transactions"
        return f"{title}, {network.validators} validators, {network.faulty} {network.fault}", candidates, network

    def _network(self, prosumers: int) -> Network:
        validators = prosumers if self.validators is None else self.validators
        check_range("validators", validators, 4, prosumers)
        return Network(
            validators=validators,
            faulty=self.faulty,
            fault=self.fault,
            message_delay_ms=self.message_delay_ms,
            block_interval_ms=self.block_interval_ms,
            timeout_ms=self.timeout_ms,
            energy_per_hash_fwh=self.energy_per_hash_fwh,
            energy_per_message_fwh=self.energy_per_message_fwh,
        )

    def _options(self, name: str) -> dict[str, int]:
        if name == "proof_of_stake":
            age = self.coin_age
            return {"seed": self.seed, "coin_age_cap_blocks": age, "confirmations": self.confirmations}
        if name == "proof_of_work":
            return {"difficulty_bits": self.difficulty, "confirmations": self.confirmations}
        return {}


def _table() -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for heading in ("final\nblocks", "delay s\nmean / max", "mes-\nsages", "hashes", "energy\nWh", "survives", "tx/s"):
        table.add_column(heading, justify="right", overflow="fold")
    table.add_column("quoted tx/s", overflow="fold")
    return table


def _cells(outcome: Outcome) -> tuple[str, ...]:
    """Final blocks, delay, messages, hashes, energy, throughput."""
    delays_ms = outcome.delays_ms
    mean_ms = sum(delays_ms) / len(delays_ms) if delays_ms else 0.0
    return (
        f"{len(delays_ms)} of {len(outcome.seals)}",
        f"{mean_ms / 1000:,.1f} / {max(delays_ms) / 1000:,.1f}" if delays_ms else "n/a",
        f"{outcome.messages:,}",
        f"{outcome.hashes:,}",
        f"{outcome.energy_wh:.1e}",
        f"{outcome.tx_per_s:,.1f}",
    )
