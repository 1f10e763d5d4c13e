"""The one exception of the conformance suite, and the helper that raises it."""

from __future__ import annotations


class ConformanceError(AssertionError):
    """A plug-in breaks a rule; the message names the check, where it was seen, and what is required."""


def require(fulfilled: bool, check: str, message: str) -> None:
    """Raise ConformanceError `check: message` unless the condition holds."""
    if not fulfilled:
        raise ConformanceError(f"{check}: {message}")
