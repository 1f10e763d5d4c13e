"""The pages that are made from the code are those that the code makes now."""

from __future__ import annotations

from pathlib import Path

from gridmarl.agents.registry import agent_names
from gridmarl.envs.registry import environments
from tests.packaging import agents_page


def test_the_page_of_the_agents_is_current(repository: Path) -> None:
    committed = (repository / "docs" / "agents.md").read_text(encoding="utf-8")
    assert committed == agents_page.page(), "python -m tests.packaging.agents_page > docs/agents.md"


def test_every_agent_and_environment_of_ours_is_in_the_docs(repository: Path) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (repository / "docs").glob("*.md"))
    readme = (repository / "README.md").read_text(encoding="utf-8")
    own = agents_page.page()
    for name in agent_names():
        if f"| `{name}` |" in own:
            assert f"`{name}`" in text, name
    for entry in environments().values():
        assert f"`{entry.name}`" in readme, entry.name
        assert entry.env_id in readme, entry.env_id
