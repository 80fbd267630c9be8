"""A category path put right: levels apart, the store's own root out, repeated levels once."""

from __future__ import annotations

import re
from functools import lru_cache

from indexer.cleaning.placeholders import is_placeholder
from indexer.cleaning.texts import one_line, without_invisible
from retrieval.fields import fold

Path = tuple[str, ...]
# "/" is not among them: in a list of levels it is part of a name ("Bed/Bath"); a feed's text was split before.
_MARKS = re.compile("[>›»|]")
# "Home" is not among them: it is a department as often as a root.
_ROOT_NAMES = (
    "root|root category|root catalog|default category|all|all categories|all products|all departments|"
    "homepage|startseite|alle|alle produkte|alle kategorien|accueil|tous les produits|todos los productos|"
    "todas las categorías|tutti i prodotti|alle producten|todos os produtos|首页|首頁|全部|全部分类|所有商品|全部商品"
)
_ROOTS = frozenset(_ROOT_NAMES.split("|"))


def split_levels(path: Path) -> Path:
    """A path whose levels hold no separators: ("A > B", "C") is ("A", "B", "C")."""
    if not any(map(_MARKS.search, path)):
        return path
    return tuple(one_line(without_invisible(part)) for level in path for part in _MARKS.split(level))


def without_placeholders(path: Path) -> Path:
    """A path without levels that say nothing; "" is left to `without_repeats`."""
    return tuple(level for level in path if not level or not is_placeholder(level))


def without_root(path: Path) -> Path:
    """A path that begins below the level that stands for the whole store."""
    start = 0
    while start < len(path) and fold(path[start]) in _ROOTS:
        start += 1
    return path[start:]


def without_repeats(path: Path) -> Path:
    """A path without empty levels and without a level that repeats the one before, whatever its case."""
    kept: list[str] = []
    for level in filter(None, path):
        if not kept or fold(kept[-1]) != fold(level):
            kept.append(level)
    return tuple(kept)


@lru_cache(maxsize=1 << 14)
def cleaned_path(path: Path) -> tuple[Path, frozenset[str]]:
    """The path after every rule for paths, and the names of the rules that changed it."""
    changed = set()
    for name, step in (
        ("category-levels", split_levels),
        ("placeholders", without_placeholders),
        ("category-repeats", without_repeats),
        ("category-root", without_root),
    ):
        after = step(path)
        if after != path:
            changed.add(name)
            path = after
    return path, frozenset(changed)
