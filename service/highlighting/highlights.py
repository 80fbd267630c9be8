"""What of a product's texts matched a query, as HTML: escaped, so that a page can put it in as it is."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from retrieval.close_names import close_names
from retrieval.errors import UnknownFieldError
from retrieval.fields import CATEGORY_SEPARATOR, FieldCatalog, FieldInfo
from retrieval.records import Product
from service.highlighting.marking import Marks, excerpt, marked
from service.highlighting.matching import Matcher

MOST_FIELDS = 10
MOST_HITS = 200
"""Hits of one search whose texts are marked."""
WORDS = 30
"""That a longer text is cut to, unless told otherwise."""
_LONGEST = 10_000
"""Characters of a text that are looked at; what stands behind them is left out."""
_MARKS = Marks("<mark>", "</mark>")
_TEXTS: Mapping[str, Callable[[Product], str]] = {
    "title": lambda product: product.title,
    "description": lambda product: product.description,
    "brand": lambda product: product.brand,
    "category": lambda product: CATEGORY_SEPARATOR.join(product.category),
}


@dataclass(frozen=True, slots=True)
class HighlightedFields:
    """Which texts of products to mark, and how many words to show of a longer one."""

    fields: Mapping[str, str]
    """The field that each name means."""
    words: int = WORDS

    @classmethod
    def of(cls, names: Iterable[str], catalog: FieldCatalog, words: int = WORDS) -> HighlightedFields:
        """Raises UnknownFieldError for a name that means no text of this catalog."""
        return cls({name: _field(name, catalog) for name in names}, words)

    def marked_of(self, product: Product, matcher: Matcher) -> dict[str, str]:
        """Of each field that has a text what is shown of it, `<mark>` around the words that matched."""
        texts = {name: _text(product, field) for name, field in self.fields.items()}
        return {name: self._marked(text, matcher) for name, text in texts.items() if text}

    def _marked(self, text: str, matcher: Matcher) -> str:
        if len(text) > _LONGEST:
            text = f"{text[:_LONGEST]}{_MARKS.cut}"
        spans = [(each.start, each.end) for each in matcher.matches(text)]
        bounds = excerpt(text, self.words, spans[0][0] if spans else 0)
        return marked(text, spans, _MARKS, html.escape, bounds)


def _field(name: str, catalog: FieldCatalog) -> str:
    if name in _TEXTS:
        return name
    for meant in (name, f"attributes.{name}"):
        info = catalog.fields.get(meant)
        if info and _has_texts(info):
            return meant
    close = close_names(name, [*_TEXTS, *(info.name for info in catalog.fields.values() if _has_texts(info))])
    meant = f"did you mean {' or '.join(close)}?" if close else f"such as {', '.join(_TEXTS)}"
    raise UnknownFieldError(f"highlight: no product has a text {name!r} to mark words of; {meant}", name, close)


def _has_texts(info: FieldInfo) -> bool:
    return info.is_textual and info.name.startswith(("attributes.", "identifiers."))


def _text(product: Product, field: str) -> str:
    if read := _TEXTS.get(field):
        return read(product)
    table, _, name = field.partition(".")
    value = (product.attributes if table == "attributes" else product.identifiers).get(name, "")
    texts = value if isinstance(value, tuple) else (value,)
    return ", ".join(each for each in texts if isinstance(each, str))
