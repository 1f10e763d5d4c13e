"""Small episodes, written out in full, stay what they were byte for byte."""

from __future__ import annotations

from difflib import unified_diff

import pytest

from tests.golden.regenerate import COMMAND, FOLDER, PLAYS, playthrough


@pytest.mark.parametrize("name", sorted(PLAYS))
def test_playthrough(name: str) -> None:
    path = FOLDER / f"{name}.txt"
    now, before = playthrough(name), path.read_bytes()
    if now.encode() != before:
        stored, played = (text.splitlines(keepends=True) for text in (before.decode(errors="replace"), now))
        difference = "".join(unified_diff(stored, played, f"{path.name} as stored", "as played now", n=1))
        pytest.fail(f"{path.name} differs; if the change is meant, run `{COMMAND}`\n{difference}", pytrace=False)


def test_no_file_without_a_play() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(PLAYS)


def test_what_the_plays_cover() -> None:
    """Each rule at least once, so that a change of any of them shows."""
    text = {name: playthrough(name) for name in PLAYS}
    for name in PLAYS:
        assert "local -" in text[name], "a negative price"
        assert "shortage 0," in text[name] or name == "battery_learned"

    def total(name: str, title: str) -> int:
        rows = [line.split() for line in text[name].splitlines() if line.strip().startswith(f"{title} ")]
        return sum(abs(int(value)) for row in rows for value in row[1:] if value.lstrip("-").isdigit())

    for title in ("bought", "sold", "accepted", "shifted", "returned"):
        assert all(total(name, title) > 0 for name in PLAYS), title
    for title in ("charge", "discharge"):
        assert total("battery_learned", title) > 0
    assert text["two_settlement"] != text["additive"]
