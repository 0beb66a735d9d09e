"""The browser page: a few static files, read once."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}

# Nothing but what this server sent may run or be loaded, and no other page may frame it.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class Page:
    """A file as it is sent."""

    content_type: str
    body: bytes


def load_pages() -> dict[str, Page]:
    """What is served, by path."""
    pages: dict[str, Page] = {}
    for entry in resources.files(__package__).joinpath("page").iterdir():
        suffix = entry.name[entry.name.rfind(".") :]
        if suffix in _TYPES:
            path = "/" if entry.name == "index.html" else f"/page/{entry.name}"
            pages[path] = Page(f"{_TYPES[suffix]}; charset=utf-8", entry.read_bytes())
    return pages
