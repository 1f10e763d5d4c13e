"""The page of a report: a template filled with what was gathered; all text escaped, nothing loaded from elsewhere."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gridmarl.train.report.content import Content

TEMPLATES = Path(__file__).parent / "templates"


def render_page(content: Content, command: str) -> str:
    """The page as HTML.

    Args:
        command: that makes this page again.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    template = environment.get_template("report.html.jinja")
    return template.render(page=content, sections=_sections(content), command=command)


def _sections(content: Content) -> list[tuple[str, str]]:
    """Anchors and names of the sections after the first screen, where there is something in them."""
    played, some = bool(content.outcomes), bool(content.hours)
    names = (
        ("prices", "Prices", played),
        ("loads", "Loads", played),
        ("markets", "Market curves", some),
        ("balances", "Balances", played),
        ("results", "All results", played),
        ("exploitability", "Exploitability", content.exploitability is not None),
        ("ledger", "Ledger", True),
        ("diagnostics", "Diagnostics", content.diagnostics is not None),
        ("reproduce", "How to reproduce", True),
        ("settings", "Settings", content.settings is not None),
    )
    return [(anchor, name) for anchor, name, there in names if there]
