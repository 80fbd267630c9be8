"""Templates of pages that need nothing else: the only file that imports jinja2.

Everything that is put into a page is escaped, and characters that could do harm in it are replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

_FOLDER = Path(__file__).parent
"""Where the style that all pages include is."""
# Signs that turn the direction of the text around them could make a row say something else than it does.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def template(path: Path, filters: Mapping[str, Callable[..., Any]]) -> Template:
    """The template of a file, with `count` and some filters of its own; it may include `style.css.j2`."""
    environment = Environment(
        loader=FileSystemLoader((path.parent, _FOLDER)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_harmless,
    )
    environment.filters |= {"count": _count, **filters}
    return environment.get_template(path.name)


def drawn(plots: Mapping[str, str]) -> dict[str, Markup]:
    """Plots of our own, by title, that a page takes as they are."""
    return {title: Markup(svg) for title, svg in plots.items()}  # noqa: S704  # matplotlib escapes what it writes


def _harmless(value: object) -> object:
    """A text without characters that a page cannot hold or that would turn its text around."""
    if not isinstance(value, str) or isinstance(value, Markup) or (value.isascii() and value.isprintable()):
        return value
    return "".join("\ufffd" if _is_harmful(mark) else mark for mark in value)


def _is_harmful(mark: str) -> bool:
    return (
        mark in _TURNING or (ord(mark) < 32 and mark not in "\t\n") or 0x7F <= ord(mark) < 0xA0 or _is_surrogate(mark)
    )


def _is_surrogate(mark: str) -> bool:
    return 0xD800 <= ord(mark) < 0xE000


def _count(value: int) -> str:
    return f"{value:,}"
