"""Google Merchant XML: RSS 2.0 and Atom, item by item as it streams in, no tree kept, no entity expanded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol
from xml.etree.ElementTree import ParseError

from indexer.formats.encodings import declared_encoding, detected_encoding
from indexer.formats.format import Feed, Format
from indexer.formats.google import REQUIRED, RULES, assemble_google
from indexer.formats.jsonlines import TOO_LONG
from indexer.formats.records import Record, Rejected, shortened
from indexer.formats.xml_items import Expat, Item, Items, UnfitError
from indexer.lines import MAX_LINE, Source
from retrieval.errors import FeedError

_PIECE = 1 << 16
_MAX_MARKUP = 1 << 22
_LOOKED_AT = 100
"""Items that show which fields a feed has."""


class _Parser(Protocol):
    """ElementTree's parser with its expat one inside."""

    @property
    def parser(self) -> Expat: ...
    def feed(self, data: bytes, /) -> None: ...
    def close(self) -> object: ...


def read_google_xml(feed: Feed) -> Iterator[Record | Rejected]:
    """A record for each item or entry.

    Raises FeedError for XML that is not well-formed, declares entities, is no RSS and no Atom, or whose items lack a
    field that every offer has.
    """
    source = feed.source
    path = source.path
    _decode(source)
    waiting: list[Record | Rejected] = []
    fields: set[str] = set()
    is_checked = False
    for item in _items(source):
        waiting.append(_record(path, item))
        fields.update(item.fields)
        if is_checked or len(waiting) >= _LOOKED_AT:
            is_checked = is_checked or _check(path, fields)
            yield from waiting
            waiting.clear()
    if waiting:
        _check(path, fields)
        yield from waiting


def _record(path: str, item: Item) -> Record | Rejected:
    if not item.is_too_long:
        return Record(path, item.line, "google-xml", item.fields)
    text = shortened(" ".join(value for value in item.fields.values() if isinstance(value, str)))
    return Rejected(path, item.line, TOO_LONG, f"an item may have {MAX_LINE:,} characters", "google-xml", text)


def _check(path: str, fields: set[str]) -> bool:
    missing = [name for name in REQUIRED if name not in fields]
    if missing:
        names = ", ".join(map(repr, missing))
        raise FeedError(
            f"{path}: looks like a Google Merchant feed but its items have no {names}; add it to the export"
        )
    return True


def _decode(source: Source) -> None:
    """XML says its encoding itself; where it does not and is no UTF-8, it is detected."""
    if source.encoding == "utf-8":
        source.decode(declared_encoding(source.head) or detected_encoding(source.head))


def _items(source: Source) -> Iterator[Item]:
    from defusedxml.ElementTree import DefusedXMLParser  # type: ignore[import-untyped]

    items = Items()
    parser = DefusedXMLParser(target=items, encoding="utf-8", forbid_dtd=False)
    items.expat = parser.parser
    for piece in _pieces(source):
        fault = _fed(source, parser, items, piece)
        yield from items.rows
        items.rows.clear()
        if fault:
            raise fault


def _pieces(source: Source) -> Iterator[bytes]:
    """The text in pieces, and nothing (the end) after the last of a feed that is not empty."""
    is_empty = True
    for chunk in source.chunks():
        is_empty = False
        for start in range(0, len(chunk), _PIECE):
            yield chunk[start : start + _PIECE]
    if not is_empty:
        yield b""


def _fed(source: Source, parser: _Parser, items: Items, piece: bytes) -> FeedError | None:
    """Gives the parser a piece; what is wrong there is told after the items before it."""
    from defusedxml import DefusedXmlException  # type: ignore[import-untyped]

    expat = parser.parser
    items.fed += len(piece)
    try:
        if piece:
            parser.feed(piece)
        else:
            parser.close()
        if items.fed - max(expat.CurrentByteIndex, 0) > _MAX_MARKUP:
            raise UnfitError(f"a piece of markup has over {_MAX_MARKUP:,} bytes")
    except DefusedXmlException:
        fault = "declares an entity; entities are never expanded: write the text itself"
        return FeedError(f"{source.path}: line {expat.CurrentLineNumber:,}: {fault}")
    except UnfitError as error:
        return FeedError(f"{source.path}: line {expat.CurrentLineNumber:,}: {error}")
    except ParseError as error:
        source.line = error.position[0] - 1
        return source.broken(f"not well-formed XML: {error}")
    source.line = max(expat.CurrentLineNumber - 1, 0)
    return None


GOOGLE_XML = Format("google-xml", "Google Merchant XML", read_google_xml, RULES, assemble=assemble_google)
