"""Finality by depth: a block counts as final when so many blocks have been built on it (work and stake)."""

from __future__ import annotations

from collections.abc import Sequence


def delays_by_depth(sealed_ms: Sequence[int], confirmations: int, message_delay_ms: int) -> list[int | None]:
    """Delay to finality of each block in ms; None for the last `confirmations` blocks, on which too few are built.

    Args:
        sealed_ms: when each block was sealed.
        confirmations: blocks that must follow; 0: final on arrival.
        message_delay_ms: time until all have the deciding block.
    """
    delays: list[int | None] = []
    for index in range(len(sealed_ms)):
        start_ms = sealed_ms[index - 1] if index else 0
        last = index + confirmations
        delays.append(sealed_ms[last] + message_delay_ms - start_ms if last < len(sealed_ms) else None)
    return delays
