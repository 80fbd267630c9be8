"""Grammar of the demo store: attributes, brands, product types and queries of one language, read from TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec

Scalar = str | int | float | bool

DATA = Path(__file__).parent / "data"
PICTURE_MODEL = DATA / "clip"
"""Folder of the small picture encoder, trained by `shelfwise.service.demo.picture_model` at commit 99216ba0."""


class Axis(msgspec.Struct, frozen=True):
    """An attribute of product types: its values and their spellings in titles and queries."""

    name: str
    values: tuple[Scalar, ...]
    """Texts, numbers (the unit is in the name and the spellings), or booleans for a feature."""
    title: str = "{}"
    """Format of a value in titles ("{}V"); empty if titles omit it."""
    phrases: tuple[str, ...] = ("{}",)
    """Formats that shoppers type ("{}v", "{} volt")."""
    precedes_type: bool = True
    """Whether shoppers type it before the type ("red shoes") or after it ("shoes size 9")."""
    price_exponent: float = 0.0
    """The price of a numeric attribute grows with value ** price_exponent."""

    def spell_in_title(self, value: Scalar) -> str:
        """Spelling of the value in a title; empty for a feature that the product lacks."""
        return "" if value is False or not self.title else self.title.format(value)


class Brand(msgspec.Struct, frozen=True):
    """A fictional brand. `code` is the prefix of its model numbers; `level` multiplies the median price of a type."""

    name: str
    code: str
    level: float


class ProductType(msgspec.Struct, frozen=True):
    """A product type; the head query is the first of its `names`."""

    key: str
    path: tuple[str, ...]
    names: tuple[str, ...]
    brands: str
    """Key of the pool of brands."""
    median_price: float
    price_sigma: float
    """Standard deviation of the price's logarithm."""
    related: tuple[str, ...]
    """Keys of types that a shopper for this one may also want."""
    facts: tuple[str, ...]
    """Sentences for descriptions."""
    synonyms: tuple[str, ...] = ()
    """Words that shoppers type and that no title of this type contains."""
    typos: tuple[str, ...] = ()
    """Misspellings that the rules do not generate."""
    varies: tuple[Axis, ...] = ()
    """Attributes in which the variants of one line differ."""
    fixed: tuple[Axis, ...] = ()
    """Attributes that all variants of a line share."""
    selling_points: tuple[str, ...] = ()
    """Phrases added to some titles."""
    counterpart: str = ""
    """Key of the same type in the other language."""
    weight: float = 1.0
    """Share of the language's products, relative to the other types."""
    technical: bool = False
    """Whether titles contain the model number."""

    @property
    def axes(self) -> tuple[Axis, ...]:
        return self.varies + self.fixed


class DescriptiveQuery(msgspec.Struct, frozen=True):
    """A query that names no product type, with the types that answer it fully and those that answer it in part."""

    text: str
    targets: tuple[str, ...]
    near: tuple[str, ...] = ()


class Grammar(msgspec.Struct, frozen=True):
    """The vocabulary of one language of the demo store."""

    language: str
    currency: str
    types: tuple[ProductType, ...]
    brands: Mapping[str, tuple[Brand, ...]]
    series: tuple[str, ...]
    shades: Mapping[str, tuple[str, ...]]
    """Colour to the shade names that some titles use instead."""
    styles: tuple[str, ...]
    """Title layouts."""
    closings: Mapping[str, tuple[str, ...]]
    """Department to closing sentences of descriptions."""
    labels: Mapping[str, str]
    """Attribute to the format of the sentence of a description that states its value."""
    ceilings: tuple[str, ...]
    """Formats in which shoppers type a maximum price."""
    broad: tuple[DescriptiveQuery, ...]
    gifts: tuple[DescriptiveQuery, ...]
    uses: tuple[DescriptiveQuery, ...]
    mixed: tuple[DescriptiveQuery, ...] = ()


def load_grammar(path: Path) -> Grammar:
    """Reads a grammar; its types name attributes by the keys of the table `attributes`."""
    tables = tomllib.loads(path.read_text("utf-8"))
    attributes = tables.pop("attributes")
    for each in tables["types"]:
        for key in ("varies", "fixed"):
            each[key] = [attributes[name] for name in each.get(key, ())]
    return msgspec.convert(tables, Grammar)


ENGLISH, CHINESE = (load_grammar(DATA / f"{name}.toml") for name in ("english", "chinese"))
GRAMMARS = (ENGLISH, CHINESE)
