"""`gridmarl list`: what there is to train, to train in and to trade by, our own and that of plug-ins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table

from gridmarl.agents.registry import agent_names, agent_summary, required_actions
from gridmarl.clearing.registry import auction_names, mechanism_names
from gridmarl.envs.registry import environments
from gridmarl.errors import ConfigError
from gridmarl.scenarios.registry import scenario_names
from gridmarl.train.tables import results_console


@dataclass
class List:
    """Environments, agents, market mechanisms, scenarios and the observation of each environment."""

    def run(self) -> int:
        """Print the registries; exit code 0."""
        console = results_console()
        known = environments()
        console.print(
            _table(
                "Environments",
                ("environment", "PettingZoo id", "what it is"),
                [(entry.name, entry.env_id, entry.summary) for entry in known.values()],
            )
        )
        console.print(_table("Agents", ("agent", "actions", "what it is"), [_agent(name) for name in agent_names()]))
        console.print("Mechanisms: " + ", ".join(mechanism_names()))
        console.print("Auctions (those, and): " + ", ".join(sorted(set(auction_names()) - set(mechanism_names()))))
        console.print("Scenarios: " + ", ".join(scenario_names()))
        for entry in known.values():
            fields = getattr(entry.load("batched"), "observation_fields", ())
            console.print(
                _table(
                    f"Observation of {entry.name}",
                    ("field", "unit", "scale", "meaning"),
                    [(item.name, item.unit, f"{item.scale:.3g}", item.meaning) for item in fields],
                )
            )
        return 0


def _agent(name: str) -> tuple[str, str, str]:
    """A plug-in that does not load must not hide the others."""
    try:
        return name, required_actions(name) or "either", agent_summary(name)
    except ConfigError as error:
        return name, "", f"does not load: {error}"


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(*headings, title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    return table
