"""Names of the protocol and the fields of a catalog that they mean."""

from __future__ import annotations

import re
from dataclasses import dataclass

from retrieval.fields import CATEGORY_SEPARATOR, FieldCatalog, FieldInfo, fold

_ALIASES = {"objectID": "id", "categories": "category", "hierarchicalCategories": "category", "_tags": "tags"}
_LEVEL = re.compile(r"(?:categories|hierarchicalCategories|category)\.lvl(\d)", re.ASCII)
_LEVELS = ("hierarchicalCategories.lvl0", "hierarchicalCategories.lvl1", "hierarchicalCategories.lvl2")
_FIRST = ("brand", "price", "rating", "availability")
_MOST_OFFERED = 20


@dataclass(frozen=True, slots=True)
class Attribute:
    """A field, or one level of the categories: of level 1 are those such as "Tools > Drills"."""

    info: FieldInfo
    level: int | None = None

    def has(self, value: str) -> bool:
        """Whether a value of the field is one of this attribute's."""
        return self.level is None or value.count(CATEGORY_SEPARATOR) == self.level


class Attributes:
    """The attributes of one catalog."""

    def __init__(self, catalog: FieldCatalog) -> None:
        self._catalog = catalog

    def find(self, name: str) -> Attribute | None:
        """What a name means; None for what no product has, and for texts that are searched and not filtered by."""
        if level := _LEVEL.fullmatch(name):
            info = self._catalog.fields.get("category")
            return Attribute(info, int(level[1])) if info else None
        meant = _ALIASES.get(name, name)
        info = self._catalog.fields.get(meant) or self._catalog.fields.get(f"attributes.{meant}")
        return Attribute(info) if info else None

    def is_root(self, category: str) -> bool:
        """Whether a category is one of the widest."""
        return fold(category) in self._catalog.category_roots

    @property
    def offered(self) -> tuple[str, ...]:
        """The facets that "*" means: categories by level, the usual fields, then the attributes that most products
        have."""
        fields = self._catalog.fields
        common = sorted(
            (info for name, info in fields.items() if name.startswith("attributes.")),
            key=lambda info: (-info.products, info.name),
        )
        named = (*(_LEVELS if "category" in fields else ()), *(name for name in _FIRST if name in fields))
        return (*named, *(info.name.removeprefix("attributes.") for info in common))[:_MOST_OFFERED]
