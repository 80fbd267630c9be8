"""The items of an XML feed from the events of its parser: no tree, and bounds on all that could grow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from indexer.lines import MAX_LINE

_NAMESPACE = "{http://base.google.com/ns/1.0}"
_ITEMS = frozenset({"item", "entry"})
_ROOTS = frozenset({"rss", "feed", "RDF"})
_TEXTS = frozenset({"title", "description", "summary", "content"})
"""Fields whose inner elements are markup of the text, not fields of their own."""
_MAX_DEPTH = 32
_MAX_NAMES = 10_000


class Expat(Protocol):
    """Where the parser below ElementTree's stands."""

    @property
    def CurrentLineNumber(self) -> int:  # noqa: N802
        """The line that it reads."""
        ...

    @property
    def CurrentByteIndex(self) -> int:  # noqa: N802
        """Bytes before what it reads."""
        ...


class UnfitError(Exception):
    """XML that no feed is: what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Item:
    """An item's line and its fields; only the first megabyte of them where it is too long."""

    line: int
    fields: dict[str, object]
    is_too_long: bool


class Items:
    """Takes the parser's events and makes rows of them: the field's name to its text, to an object, or to a list."""

    def __init__(self) -> None:
        self.expat: Expat | None = None
        self.rows: list[Item] = []
        """The items that are whole."""
        self.fed = 0
        self._names: dict[str, tuple[str, bool]] = {}
        self._depth = 0
        self._item_depth = 0
        self._line = 0
        self._size = 0
        self._path: list[tuple[str, bool]] = []
        self._text: list[str] = []
        self._plain: dict[str, object] = {}
        self._google: dict[str, object] = {}
        self._group: dict[str, object] = {}

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise UnfitError(f"elements are more than {_MAX_DEPTH} deep")
        name = self._name(tag)
        if self._depth == 1 and name[0] not in _ROOTS:
            raise UnfitError(f"the root element is <{name[0]}>; what is read is RSS 2.0 and Atom")
        if not self._item_depth:
            if name[0] in _ITEMS:
                self._begin_item()
            return
        self._path.append(name)
        if len(self._path) == 1 or self._path[0][0] not in _TEXTS:
            self._text.clear()
        if name[0] == "link" and "href" in attributes:
            self._text.append(attributes["href"])

    def _name(self, tag: str) -> tuple[str, bool]:
        """The local name, and whether it is one of Google's."""
        name = self._names.get(tag)
        if name is None:
            if len(self._names) >= _MAX_NAMES:
                raise UnfitError(f"it has more than {_MAX_NAMES:,} names of elements")
            name = self._names[tag] = (tag.rpartition("}")[2].strip(), tag.startswith(_NAMESPACE))
        return name

    def _begin_item(self) -> None:
        self._item_depth = self._depth
        self._line = self.expat.CurrentLineNumber if self.expat else 0
        self._size = 0
        self._path.clear()
        self._plain, self._google, self._group = {}, {}, {}

    def data(self, text: str) -> None:
        """Text inside an element, or a part of it."""
        if self._path:
            self._size += len(text)
            if self._size <= MAX_LINE:
                self._text.append(text)

    def end(self, _tag: str) -> None:
        """An element ends."""
        if self._path:
            self._end_field(self._path.pop())
        elif self._depth == self._item_depth:
            self._item_depth = 0
            self.rows.append(Item(self._line, {**self._plain, **self._google}, self._size > MAX_LINE))
        self._depth -= 1

    def _end_field(self, name: tuple[str, bool]) -> None:
        self._size += len(name[0])
        if self._size > MAX_LINE or (self._path and self._path[0][0] in _TEXTS):
            return
        local, is_google = name
        if self._path:
            _add(self._group, local, "".join(self._text).strip())
        elif self._group:
            _add(self._google if is_google else self._plain, local, self._group)
            self._group = {}
        else:
            _add(self._google if is_google else self._plain, local, "".join(self._text).strip())
        self._text.clear()

    def close(self) -> None:
        """The document ends."""


def _add(fields: dict[str, object], name: str, value: object) -> None:
    """A field that comes again becomes a list."""
    before = fields.get(name)
    if before is None:
        fields[name] = value
    elif isinstance(before, list):
        before.append(value)
    else:
        fields[name] = [before, value]
