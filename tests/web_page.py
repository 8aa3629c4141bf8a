"""A page as the standard library's parser reads it, and what every page owes its reader."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "img", "line", "circle", "path", "br", "link"}


class Page(HTMLParser):
    """Every element with its attributes, its ancestors' names and its text, in order."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.texts: list[tuple[str, str]] = []  # innermost element, text
        self._open: list[str] = []
        self.feed(content.decode())
        self.close()
        assert self._open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), "no attribute twice"
        self.elements.append((tag, dict(attrs), tuple(self._open)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), tuple(self._open)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"{tag} closes what is open"

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self._open[-1], data.strip()))

    def all(self, *tags: str) -> Iterator[dict[str, str | None]]:
        return (attributes for tag, attributes, _ in self.elements if tag in tags)

    def texts_in(self, tag: str) -> list[str]:
        return [text for innermost, text in self.texts if innermost == tag]


def assert_loads_nothing(content: bytes) -> None:
    """And the browser is told so."""
    assert re.findall(rb"https?:|[\"'(]//|@import|url\(|<script|<link|<iframe", content) == []
    (policy,) = [meta for meta in Page(content).all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert (policy["content"] or "").startswith("default-src 'none'; style-src 'unsafe-inline'")


def assert_shows_no_pixel(content: bytes) -> None:
    """No element that could hold a picture is on the page, and none would be shown."""
    assert {"img", "image", "picture", "canvas", "object", "embed", "video", "feimage"}.isdisjoint(
        tag for tag, _, _ in Page(content).elements
    )
    assert b"data:" not in content and b"base64" not in content
    assert b"PNG" not in content and b"JFIF" not in content


def assert_readable_by_ear(page: Page) -> None:
    """Tables have captions and their heading cells a scope, pictures have words, headings and links lead through."""
    tables = [index for index, (tag, _, _) in enumerate(page.elements) if tag == "table"]
    assert all(page.elements[index + 1][0] == "caption" for index in tables)
    assert {attributes.get("scope") for attributes in page.all("th")} <= {"col", "row", "rowgroup"}
    assert all(attributes.get("aria-label") and attributes.get("tabindex") == "0" for attributes in _scrolled(page))
    assert len(list(_scrolled(page))) == len(tables)

    assert all(attributes.get("alt") for attributes in page.all("img"))
    assert all(attributes.get("aria-label") or attributes.get("aria-hidden") for attributes in page.all("svg"))

    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    hrefs = [attributes["href"] or "" for attributes in page.all("a")]
    assert [len(list(page.all(tag))) for tag in ("header", "nav", "main", "footer", "h1", "title")] == [1] * 6
    assert levels[0] == 1 and all(after <= before + 1 for before, after in pairwise(levels))
    assert len(ids) == len(set(ids))
    assert {f"#{name}" for name in ids} >= {href for href in hrefs if href.startswith("#")}
    assert hrefs[0].startswith("#"), "the first stop of the keyboard skips the contents"
    assert all(attributes["aria-labelledby"] in ids for attributes in page.all("section"))
    assert next(page.all("html")) == {"lang": "en"}


def _scrolled(page: Page) -> Iterator[dict[str, str | None]]:
    return (attributes for attributes in page.all("div") if attributes.get("class") == "scroll")
