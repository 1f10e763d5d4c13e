"""Reading a page back strictly: every element closed in order, no id twice, and what a browser would load."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "source", "br", "hr", "input"}
LOADING = {"src", "srcset", "href", "data", "action", "poster", "background"}
SVG = "data:image/svg+xml;base64,"


@dataclass
class Element:
    """An element with its attributes and the text inside it."""

    tag: str
    attributes: dict[str, str]
    parents: tuple[str, ...]
    text: str = ""


@dataclass
class Page(HTMLParser):
    """A parsed page; `elements` in the order of the document."""

    elements: list[Element] = field(default_factory=list)
    open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"<{tag}> has an attribute twice"
        element = Element(tag, {name: value or "" for name, value in attrs}, tuple(item.tag for item in self.open))
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1].tag == tag, f"</{tag}> where <{self.open[-1].tag}> is open"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def all(self, tag: str) -> list[Element]:
        return [element for element in self.elements if element.tag == tag]

    def texts(self, tag: str) -> list[str]:
        return [" ".join(element.text.split()) for element in self.all(tag)]

    def table(self, caption: str) -> list[list[str]]:
        """Cells of the table with this caption or, without one, in the region with this label."""
        (table,) = [item for item in self._tables() if caption in item[0]]
        return table[1]

    def _tables(self) -> list[tuple[str, list[list[str]]]]:
        found: list[tuple[str, list[list[str]]]] = []
        for element in self.elements:
            if element.attributes.get("role") == "region":
                found.append((element.attributes["aria-label"], []))
            elif element.tag == "tr":
                found[-1][1].append([])
            elif element.tag in ("th", "td"):
                found[-1][1][-1].append(" ".join(element.text.split()))
        return found

    def pictures(self) -> list[ElementTree.Element]:
        """Every SVG, wide and narrow, parsed as XML."""
        uris = [
            item.attributes[name] for item in self.elements for name in ("src", "srcset") if name in item.attributes
        ]
        assert all(uri.startswith(SVG) for uri in uris)
        return [ElementTree.fromstring(base64.b64decode(uri.removeprefix(SVG), validate=True)) for uri in uris]


def read_page(text: str) -> Page:
    """Parse a page; AssertionError says what is malformed."""
    assert text.startswith("<!DOCTYPE html>\n")
    page = Page()
    page.feed(text)
    page.close()
    assert not page.open, f"<{page.open[-1].tag}> is never closed"
    ids = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
    assert len(set(ids)) == len(ids)
    return page
