"""Products that another product's texts name: what it fits, what it is a part of, what it contains.

"compatibility: LaserJet P1505n, P1506" of a toner names printers by their models. A model's name is a run of words with
a digit and a letter ("LaserJet P1505n", "Designjet 500"). Runs are compared without blanks and punctuation, and must
cover all words with digits in the text that names the model: "LaserJet Pro 400 M401a" is not another LaserJet Pro 400.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from shelfwise.retrieval.records import Product, RelationEvidence, RelationKind
from shelfwise.retrieval.text import units
from shelfwise.retrieval.text.analysis import fold, word_term

_FITS_FIELD = re.compile(
    r"compatib|(?:^|[_ ])fits?(?:$|[_ ])|suitable[_ ]for|works[_ ]with|for[_ ]models?|适用|兼容|适配"
)
_PART_FIELD = re.compile(r"(?:^|[_ ])(?:part[_ ]of|belongs[_ ]to)(?:$|[_ ])")
_CONTENT_FIELD = re.compile(
    r"(?:^|[_ ])(?:contains|contents|components|includes|included[_ ]products|bundles?|bundle[_ ]items|"
    r"(?:set|kit)[_ ](?:items|contents))(?:$|[_ ])|套装内容|包含"
)
_NAMES_ANOTHER = re.compile(
    r"(?:\b(?:compatible with|compatible for|works with|fits|suitable for|designed for|for use (?:with|in)|"
    r"replacement for|for)\b|适用于|适用|兼容|适配)[\s:：]*([^.;。；()\n]{2,200})"
)
_OWN_PART = re.compile(r"\b(?:for|with|compatible|fits|replacement)\b|适用|兼容|适配|\s[-|]\s")
"""The beginning of the part of a title that describes other products."""
_SEPARATORS = re.compile(r"[,;\n/|•、，；]|\\n|\s-\s|^-\s|\b(?:and|or|&|series)\b|和|及")
_SEVERAL = re.compile(r"\w*\d\w*\s?[,/]\s?(?:\w+[ -])?\w*\d")
"""A list of models, of what the product is for, at the beginning of a title."""
_SERVICE = re.compile(
    r"\d ?-?y(?:ea)?r?s? ?nbd|\bh[wd] supp(?:ort)?\b|\bon-?site (?:service|support|repair|guarantee|warranty)"
    r"|\bcare ?pack\b|\b(?:service|support|maintenance) (?:plan|contract|agreement|pack)"
    r"|\b(?:extended|post) ?-?warranty\b|\bwarranty (?:extension|upgrade)|延保|保修服务|安装服务"
)
"""Says that a title is of a service for the device whose model it has."""
_WORD = re.compile(r"[a-z0-9]+|•")
_GAP = "•"
"""Replaces a quantity, which no model's name contains."""
_QUANTITY = re.compile(rf"(?<![a-z0-9])(?:[0-9.]+-)?(?:{units.QUANTITIES})")
_NUMBER = re.compile(r"[0-9-]+")
_LONGEST_NAME = 5
"""The most words of a model's name."""
_FIRST_WORDS = 6
"""The number of words of a title within which a model's name begins."""
_SHORTEST, _SHORTEST_CODE = 4, 6
"""The fewest characters of a model's name, and of a code, which may have no letter."""
_MAX_VALUES, _MAX_TEXT = 200, 2_000
_MAX_NUMBERS = 3
"""The most words with digits in the name of one model."""


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A product that another product's text names: "the product KIND of it", or the reverse."""

    kind: RelationKind
    evidence: RelationEvidence
    field: str
    """The attribute, "title" or "description"."""
    text: str
    """The words that name it."""
    keys: tuple[str, ...]
    """The keys that it may have, longest first."""
    reverse: bool = False
    """Whether the named product is a part of the product, not the reverse."""


def named_models(product: Product) -> Iterator[NamedModel]:
    """The products named in a product's attributes, title and description; they may not be in the catalog."""
    for name, value in product.attributes.items():
        field_kind = _field_kind(fold(name))
        if field_kind is None:
            continue
        kind, reverse = field_kind
        values = value if isinstance(value, list | tuple) else [value]
        texts = [fold(each) for each in values if isinstance(each, str)]
        parts = [part for text in texts for part in _SEPARATORS.split(text)]
        for part in parts[:_MAX_VALUES]:
            if keys := _keys_in(part, is_listed=True):
                yield NamedModel(kind, RelationEvidence.ATTRIBUTES, name, part.strip(), keys, reverse)
    for field, text in (("title", product.title), ("description", product.description[:_MAX_TEXT])):
        for segment in _NAMES_ANOTHER.findall(fold(text)):
            for part in _SEPARATORS.split(segment)[:_MAX_VALUES]:
                if keys := _keys_in(part):
                    yield NamedModel(RelationKind.FITS, RelationEvidence.TEXTS, field, part.strip(), keys)


def named_things(title: str) -> list[str]:
    """The things that the product is for, according to its title: "phone" in "Case for Phone"."""
    return [segment.strip() for segment in _NAMES_ANOTHER.findall(fold(title))]


def model_keys(product: Product) -> set[str]:
    """The keys by which texts may name a product: the model in its title, its identifiers, and its id."""
    words = _words(_OWN_PART.split(fold(product.title))[0])
    keys = {
        "".join(words[at:end])
        for at in range(min(len(words), _FIRST_WORDS))
        for end in range(at + 1, min(at + _LONGEST_NAME, len(words)) + 1)
    }
    if _SEVERAL.search(" ".join(fold(product.title).split()[:_FIRST_WORDS])) or _SERVICE.search(fold(product.title)):
        keys = set()
    values = (value for values in product.identifiers.values() for value in values)
    squeezed = {"".join(_WORD.findall(fold(value))) for value in (product.id, *values)}
    codes = {key for key in squeezed if len(key) >= _SHORTEST_CODE}
    return codes | {key for key in keys | squeezed if _is_model(key)}


def _is_model(key: str) -> bool:
    """Whether a key is a model's: it has a letter and a digit."""
    has_digit = any(character.isdigit() for character in key)
    return len(key) >= _SHORTEST and has_digit and not key.isdigit() and _GAP not in key


def _words(text: str) -> list[str]:
    """The words of a folded text. A number with a unit is a gap; a bare one may belong to a model ("Designjet 500")."""
    return _WORD.findall(_QUANTITY.sub(lambda found: found[0] if _NUMBER.fullmatch(found[0]) else f" {_GAP} ", text))


def _field_kind(name: str) -> tuple[RelationKind, bool] | None:
    if _FITS_FIELD.search(name):
        return RelationKind.FITS, False
    if _PART_FIELD.search(name):
        return RelationKind.PART_OF, False
    return (RelationKind.PART_OF, True) if _CONTENT_FIELD.search(name) else None


def _keys_in(text: str, *, is_listed: bool = False) -> tuple[str, ...]:
    """The keys of the model that a text names, longest first; none if it names none. A whole value of a list may be the
    id or the code of a product."""
    words = _words(text)
    numbered = [place for place, word in enumerate(words) if any(character.isdigit() for character in word)]
    whole = "".join(_WORD.findall(text))
    keys = {whole} if is_listed and len(whole) >= _SHORTEST_CODE and len(words) == 1 else set()
    if numbered and len(numbered) <= _MAX_NUMBERS:
        first, last = numbered[0], numbered[-1] + 1
        windows = {
            "".join(words[at:end])
            for at in range(max(0, first - _LONGEST_NAME + 1), first + 1)
            for end in range(last, min(len(words), last + 2) + 1)
        }
        keys |= {key for key in windows if _is_model(key)}
    return tuple(sorted(keys, key=lambda key: (-len(key), key)))


@dataclass(frozen=True, slots=True)
class TypedProduct:
    """A product with the name of its type, as `ProductTypes.name_of` returns it."""

    product: Product
    type: str


def are_compatible(one: TypedProduct, other: TypedProduct) -> bool:
    """Whether two products may belong together: two with a rated voltage only if brand and voltage are the same, and a
    powered part that is named after the other, such as a drill battery, only if it is of the same brand."""
    volts, other_volts = _volts(one.product), _volts(other.product)
    if volts and other_volts and not volts & other_volts:
        return False
    if not one.product.brand or not other.product.brand or one.product.brand == other.product.brand:
        return True
    if volts and other_volts:
        return False
    return not ((volts and _is_part_of(one, other)) or (other_volts and _is_part_of(other, one)))


def _volts(product: Product) -> set[float]:
    """The rated voltages of a product, by attributes such as "voltage_v"."""
    return {
        float(value)
        for name, value in product.attributes.items()
        if isinstance(value, float | int) and (name.endswith("_v") or "voltage" in name or "电压" in name)
    }


def _is_part_of(part: TypedProduct, whole: TypedProduct) -> bool:
    """Whether the type of a part ("power tool battery") is named after the type or category of another product."""
    *modifiers, head = part.type.split() or [""]
    words = {*whole.type.split(), *(word_term(word) for word in fold(" ".join(whole.product.category)).split())}
    return head not in words and not words.isdisjoint(modifiers)
