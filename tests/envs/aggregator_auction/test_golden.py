"""Small episodes, written out in full, stay what they were byte for byte."""

from __future__ import annotations

from difflib import unified_diff

import pytest

from tests.golden.auction_hours import COMMAND, FOLDER, PLAYS, playthrough


@pytest.mark.parametrize("name", sorted(PLAYS))
def test_playthrough(name: str) -> None:
    path = FOLDER / f"{name}.txt"
    now, before = playthrough(name), path.read_bytes()
    if now.encode() != before:
        stored, played = (text.splitlines(keepends=True) for text in (before.decode(errors="replace"), now))
        difference = "".join(unified_diff(stored, played, f"{path.name} as stored", "as played now", n=1))
        pytest.fail(f"{path.name} differs; if the change is meant, run `{COMMAND}`\n{difference}", pytrace=False)


def test_what_the_plays_cover() -> None:
    """Each rule at least once, so that a change of any of them shows."""
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(PLAYS)

    def total(name: str, title: str) -> int:
        rows = [line for line in playthrough(name).splitlines() if line.startswith(f"  {title} ")]
        return sum(abs(int(value)) for row in rows for value in row.removeprefix(f"  {title}").split())

    everywhere = ("up bought", "up sold", "short", "long", "due", "deferred")
    requested = ("request", "down bought", "down sold", "delivered", "missing", "ahead")
    for name in PLAYS:
        for title in everywhere + requested * (name != "pay_as_bid"):
            assert total(name, title) > 0, (name, title)
    assert not sum(total("pay_as_bid", title) for title in requested)
