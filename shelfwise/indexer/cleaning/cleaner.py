"""Cleaning of batches of products by all rules that need no other product, with counts by rule."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import dropwhile
from typing import Any

from shelfwise.indexer.cleaning.language import detect
from shelfwise.indexer.cleaning.text import (
    clean_text,
    drop_invisible,
    is_placeholder,
    is_plain,
    join_lines,
    parse_quantity,
)
from shelfwise.retrieval.filters.schema import fold_value
from shelfwise.retrieval.records import AttributeValue, Product, Variant
from shelfwise.retrieval.updates.validation import is_address_name, is_web_address

Identifiers = Mapping[str, tuple[str, ...]]


def clean_texts(product: Product, counts: Counter[str]) -> Product:
    """The product with all texts cleaned; each value counts once for each rule that changed it.

    A title that would become empty stays as it was; other texts that become empty are removed.
    """
    text = _TextCleaner(counts)
    return replace(
        product,
        title=text.cleaned(product.title, keep=True),
        description=text.cleaned(product.description, lines=True),
        brand=text.cleaned(product.brand),
        category=text.each(product.category),
        identifiers=text.identifiers(product.identifiers),
        attributes=text.attributes(product.attributes),
        variants=tuple(text.variant(variant) for variant in product.variants),
    )


class _TextCleaner:
    """Cleans values and counts the rules that changed them."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts

    def cleaned(self, text: str, *, lines: bool = False, keep: bool = False) -> str:
        """The cleaned text; with `keep`, a text that would become empty stays as it was."""
        if not text or is_plain(text, lines=lines):
            return text
        changed: set[str] = set()
        after = clean_text(text, changed, lines=lines)
        if after == text or (keep and not after):  # one rule may have undone the change of another
            return text
        for rule in changed:
            self._counts[rule] += 1
        return after

    def each(self, texts: tuple[str, ...], *, lines: bool = False) -> tuple[str, ...]:
        return tuple(filter(None, (self.cleaned(text, lines=lines) for text in texts)))

    def identifiers(self, identifiers: Identifiers) -> Identifiers:
        cleaned = {kind: self.each(values) for kind, values in identifiers.items()}
        return {kind: values for kind, values in cleaned.items() if values}

    def attributes(self, attributes: Mapping[str, AttributeValue]) -> Mapping[str, AttributeValue]:
        cleaned = {name: self._attribute(value) for name, value in attributes.items()}
        return {name: value for name, value in cleaned.items() if value not in ("", ())}

    def _attribute(self, value: AttributeValue) -> AttributeValue:
        if isinstance(value, str):
            return self.cleaned(value, lines=True)
        return self.each(value, lines=True) if isinstance(value, tuple) else value

    def variant(self, variant: Variant) -> Variant:
        options = {name: self.cleaned(value, lines=True) for name, value in variant.options.items()}
        return replace(
            variant,
            options={name: value for name, value in options.items() if value},
            identifiers=self.identifiers(variant.identifiers),
        )


_GOOD = re.compile(r"(?:https?://[^\s/<>\"]+|file:[^\s<>\"]+)\S*", re.IGNORECASE)
_BLANK = re.compile(r"[ \u00a0]+")
_BREAKS = re.compile(r"[\t\r\n\x00-\x1f]+")


def clean_image(address: str, changed: list[str]) -> str:
    """The address with a scheme and without blanks, or "" if it is not one; adds the rule that changed it."""
    if _GOOD.fullmatch(address):
        return address
    # Browsers, too, drop line breaks inside an address and write a blank as %20.
    repaired = _BLANK.sub("%20", _BREAKS.sub("", address).strip())
    if repaired.startswith("//"):
        repaired = f"https:{repaired}"
    if not _GOOD.fullmatch(repaired):
        changed.append("unusable-images")
        return ""
    changed.append("image-addresses")
    return repaired


_DIGIT_KINDS = frozenset(
    {"ean", "gtin", "upc", "isbn", "barcode", "jan", "ean13", "gtin13", "gtin14", "gtin8", "gtin12"}
)
_BETWEEN = re.compile(r"[\s\-‐‑‒–—_.'’`´]+")
_POINT_ZERO = re.compile(r"\.0+$")
_IDENTIFIER_DIGITS = re.compile(r"[0-9]{6,18}|[0-9]{9}[Xx]", re.ASCII)
_SPREADSHEET = re.compile(r"[0-9](?:[.,][0-9]+)?[Ee]\+?[0-9]{1,2}", re.ASCII)
_ALL_ZEROS = re.compile("0{6,}")


def digits_only(text: str) -> str:
    """A code of digits (an ISBN-10 may end in X) without the separators between them; any other text as it is.

    No check digit is verified and no zero added: a quality rule checks them.
    """
    joined = _BETWEEN.sub("", _POINT_ZERO.sub("", unicodedata.normalize("NFKC", text).strip()))
    return joined.upper() if _IDENTIFIER_DIGITS.fullmatch(joined) else text


def is_broken(text: str, kind: str) -> bool:
    """Whether a spreadsheet wrote a code as a rounded number ("4.00638E+12"), so that its last digits are lost.

    Identifiers other than codes of digits may look like one ("1E10" is a valid SKU), so they need the plus sign.
    """
    text = text.lstrip("'’ ")
    return _SPREADSHEET.fullmatch(text) is not None and (kind.lower() in _DIGIT_KINDS or "+" in text)


def clean_identifier(kind: str, text: str, changed: list[str]) -> str:
    """The identifier after all rules, "" if nothing is left; adds the rule that changed it."""
    is_digital = kind.lower() in _DIGIT_KINDS
    if not is_digital and text.isupper() and "+" not in text and not is_placeholder(text):
        return text  # nearly every SKU and model number
    if is_placeholder(text) or _ALL_ZEROS.fullmatch(text):
        changed.append("placeholders")
        return ""
    if is_broken(text, kind):
        changed.append("broken-identifiers")
        return ""
    if not is_digital:
        return text
    digits = digits_only(text)
    if digits != text:
        changed.append("identifier-digits")
    return "" if _ALL_ZEROS.fullmatch(digits) else digits


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


def drop_repeats(path: Path) -> Path:
    """A path without empty levels and without a level that repeats the previous one, ignoring case."""
    levels: list[str] = []
    for level in filter(None, path):
        if not levels or fold_value(levels[-1]) != fold_value(level):
            levels.append(level)
    return tuple(levels)


def _levels(path: Path) -> Iterable[str]:
    """The levels of a path, split at separators: ("A > B", "C") is ("A", "B", "C")."""
    if not any(map(_MARKS.search, path)):
        return path
    return (join_lines(drop_invisible(part)) for level in path for part in _MARKS.split(level))


_PATH_RULES: tuple[tuple[str, Callable[[Path], Iterable[str]]], ...] = (
    ("category-levels", _levels),
    ("placeholders", lambda path: (level for level in path if not level or not is_placeholder(level))),
    ("category-repeats", drop_repeats),
    # Levels that mean the whole store.
    ("category-root", lambda path: dropwhile(lambda level: fold_value(level) in _ROOTS, path)),
)


@lru_cache(maxsize=1 << 14)
def clean_path(path: Path) -> tuple[Path, frozenset[str]]:
    """The path after all rules for paths, and the names of the rules that changed it."""
    changed = set()
    for name, step in _PATH_RULES:
        after = tuple(step(path))
        if after != path:
            changed.add(name)
            path = after
    return path, frozenset(changed)


_DIGITS = frozenset("0123456789")


@dataclass(frozen=True, slots=True)
class CleaningResult:
    """The products in their original order, and the number of values that each rule changed."""

    products: list[Product]
    counts: dict[str, int] = field(default_factory=dict)


def clean_products(products: Iterable[Product]) -> CleaningResult:
    """The products after all cleaning rules (the table in docs/cleaning.md), and the counts of rules that changed
    something, ordered by name.

    Each result depends only on the product itself, and cleaning it again changes nothing. A product that needs no
    cleaning is returned as the same object.
    """
    counts: Counter[str] = Counter()
    cleaned = [_clean_product(product, counts) for product in products]
    return CleaningResult(cleaned, dict(sorted((+counts).items())))


def _clean_product(product: Product, counts: Counter[str]) -> Product:
    cleaned = clean_texts(product, counts)
    changes: dict[str, Any] = {}
    for name, rule in _FIELD_RULES:
        if value := getattr(cleaned, name):
            changes[name] = rule(value, counts)
    cleaned = replace(cleaned, **changes)
    if not cleaned.language and (language := detect(cleaned.title) or detect(cleaned.description)):
        cleaned = replace(cleaned, language=language)
        counts["language-detected"] += 1
    return cleaned if cleaned != product else product


def _unless_placeholder(text: str, counts: Counter[str]) -> str:
    if not is_placeholder(text):
        return text
    counts["placeholders"] += 1
    return ""


def _category(path: tuple[str, ...], counts: Counter[str]) -> tuple[str, ...]:
    cleaned, changed = clean_path(path)
    counts.update(changed)
    return cleaned


def _identifiers(identifiers: Identifiers, counts: Counter[str]) -> Identifiers:
    changed: list[str] = []
    cleaned = {
        kind: tuple(clean_identifier(kind, text, changed) for text in values) for kind, values in identifiers.items()
    }
    counts.update(changed)
    distinct = {kind: tuple(dict.fromkeys(filter(None, values))) for kind, values in cleaned.items()}
    return {kind: values for kind, values in distinct.items() if values}


def _images(images: tuple[str, ...], counts: Counter[str]) -> tuple[str, ...]:
    changed: list[str] = []
    cleaned = [address for address in (clean_image(address, changed) for address in images) if address]
    distinct = tuple(dict.fromkeys(cleaned))
    changed += ["image-addresses"] * (len(cleaned) - len(distinct))
    counts.update(changed)
    return distinct


def _links(attributes: Mapping[str, AttributeValue], counts: Counter[str]) -> Mapping[str, AttributeValue]:
    """The attributes without addresses to which a link must not lead."""
    unusable = {
        name
        for name, value in attributes.items()
        if is_address_name(name)
        and not all(
            is_web_address(each) for each in (value if isinstance(value, tuple) else (value,)) if type(each) is str
        )
    }
    counts["unusable-links"] += len(unusable)
    return {name: value for name, value in attributes.items() if name not in unusable}


def _add_measures(attributes: Mapping[str, AttributeValue], counts: Counter[str]) -> Mapping[str, AttributeValue]:
    """The attributes with a number added for each text that is one quantity; an existing value of that name stays."""
    candidates = [name for name, value in attributes.items() if type(value) is str and value[:1] in _DIGITS]
    added: dict[str, AttributeValue] = {}
    for name in candidates:
        quantity = parse_quantity(str(attributes[name]))
        if quantity and f"{name}_{quantity[0]}" not in attributes:
            added[f"{name}_{quantity[0]}"] = quantity[1]
    counts["measures"] += len(added)
    return {**attributes, **added}


def _variant(variant: Variant, counts: Counter[str]) -> Variant:
    images = _images((variant.image,), counts) if variant.image else ()
    return replace(variant, identifiers=_identifiers(variant.identifiers, counts), image="".join(images))


_FIELD_RULES: tuple[tuple[str, Callable[[Any, Counter[str]], object]], ...] = (
    ("description", _unless_placeholder),
    ("brand", _unless_placeholder),
    ("category", _category),
    ("identifiers", _identifiers),
    ("images", _images),
    ("attributes", lambda attributes, counts: _add_measures(_links(attributes, counts), counts)),
    ("variants", lambda variants, counts: tuple(_variant(variant, counts) for variant in variants)),
)
