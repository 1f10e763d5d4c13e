"""JSON of strangers, before it is parsed: no deeper than it may be.

Python's parser recurses once a level. What stops it is `sys.getrecursionlimit()`, which libraries raise for the whole
process (py-evm to 100,000): then a file of brackets overflows the stack and ends the process, which no handler catches.
"""

from __future__ import annotations

import re

MAX_DEPTH = 64
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)  # one that does not end takes the rest: each byte is read once
_BRACKET = re.compile(r"[\[\]{}]")


def require_shallow(text: str) -> None:
    """ValueError if brackets outside of strings nest deeper than `MAX_DEPTH`."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub("", text)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
