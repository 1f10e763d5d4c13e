"""The page of a report: a template filled with what was gathered; all text escaped, nothing loaded from elsewhere."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gridmarl.train.report.blocks import Content

TEMPLATES = Path(__file__).parent / "templates"


def render_page(content: Content) -> str:
    """The page as HTML."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.html.jinja").render(page=content)
