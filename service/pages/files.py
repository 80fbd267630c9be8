"""The files of the pages, read once: each with its type and a fingerprint of what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import xxhash

_HERE = Path(__file__).parent
_TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file, as it is sent."""

    content: bytes
    type: str
    """Its media type."""
    tag: str
    """An ETag: another content has another one."""


@cache
def page_files() -> Mapping[str, PageFile]:
    """Every file by its name; there are no folders among them."""
    found = sorted(path for path in (_HERE / "assets").iterdir() if path.suffix in _TYPES)
    return {path.name: _read(path) for path in found}


def _read(path: Path) -> PageFile:
    content = path.read_bytes()
    return PageFile(content, _TYPES[path.suffix], f'"{xxhash.xxh3_128_hexdigest(content)}"')
