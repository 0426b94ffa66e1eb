"""Check that the built documentation loads nothing from another origin: `python .ci/pages.py site`.

A link that a reader may click can lead anywhere; a script, a style, a font or an image may not. The theme's script also
loads some libraries on demand, for elements that these pages must therefore not have.
"""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

# What a browser loads by itself, by element and attribute.
LOADED = {
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "video": ("src", "poster"),
    "audio": ("src",),
}
# A link of these kinds is read by programs, or followed by people.
NOT_LOADED = {"canonical", "prev", "next", "alternate"}

# Elements of these classes make the theme's script load a library from a CDN.
ON_DEMAND = {"mermaid", "pyodide", "glightbox"}

FOREIGN = re.compile(r"\s*(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
IN_STYLE = re.compile(r"""(?:url\(\s*|@import\s*)["']?((?:[a-z][a-z0-9+.-]*:)?//[^"')\s]*)""", re.IGNORECASE)


class Page(HTMLParser):
    """Collects what a page loads from elsewhere.

    Attributes:
        foreign: A phrase for each thing that is loaded.

    """

    def __init__(self) -> None:
        super().__init__()
        self.foreign: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at one element."""
        attributes = {name: value or "" for name, value in attrs}
        if not (tag == "link" and NOT_LOADED & set(attributes.get("rel", "").split())):
            for name in LOADED.get(tag, ()):
                self.foreign += [
                    f"{tag} {name} {part.strip()}"
                    for part in attributes.get(name, "").split(",")
                    if FOREIGN.match(part)
                ]
        self.foreign += [f"{tag} style {url}" for url in IN_STYLE.findall(attributes.get("style", ""))]
        self.foreign += [f"{tag} class {name}" for name in ON_DEMAND & set(attributes.get("class", "").split())]


def foreign(folder: Path) -> Iterator[str]:
    """Return a line for each thing that the pages or the styles of a folder load from another origin."""
    for file in sorted(folder.rglob("*.html")):
        page = Page()
        page.feed(file.read_text())
        yield from (f"{file.relative_to(folder)}: {what}" for what in page.foreign)
    for file in sorted(folder.rglob("*.css")):
        yield from (f"{file.relative_to(folder)}: {url}" for url in IN_STYLE.findall(file.read_text()))


def main() -> int:
    """Print what is loaded from elsewhere, and return the exit status: 1 when there is any, or no page at all."""
    folder = Path(sys.argv[1])
    pages = sum(1 for _ in folder.rglob("*.html"))
    lines = list(foreign(folder))
    for line in lines:
        print(line)  # noqa: T201 (its result)
    print(f"{pages} pages, {len(lines)} foreign origins")  # noqa: T201 (its result)
    return 1 if lines or not pages else 0


if __name__ == "__main__":
    raise SystemExit(main())
