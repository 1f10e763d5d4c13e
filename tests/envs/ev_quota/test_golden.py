"""Small episodes, written out in full, stay what they were byte for byte."""

from __future__ import annotations

from difflib import unified_diff

import pytest

from tests.golden.quota_rounds import COMMAND, FOLDER, PLAYS, playthrough


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
    text = {name: playthrough(name) for name in PLAYS}

    def total(name: str, title: str) -> int:
        rows = [line.split() for line in text[name].splitlines() if line.strip().startswith(f"{title} ")]
        return sum(int(value) for row in rows for value in row[1:])

    for name in PLAYS:
        assert {path.stem for path in FOLDER.glob("*.txt")} == set(PLAYS)
        for title in ("urgent", "elastic", "bought", "sold"):
            assert total(name, title) > 0, (name, title)
        assert "scarce 1" in text[name]
    assert total("uniform_forfeit", "forfeit") > 0
    assert total("pairwise", "unserved") > 0
    assert total("overuse", "penalty") > 0
    assert "scarce 0" in text["overuse"]
    assert not total("pairwise", "penalty") + total("pairwise", "forfeit")
