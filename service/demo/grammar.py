"""What the demo store's grammar is made of: axes, brands, product types, wants. The words are in the data modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Axis:
    """One attribute of a product type: the values it takes and how titles and shoppers spell them."""

    name: str
    values: tuple[Scalar, ...]
    title: str
    """How a title spells a value ("{}V"); empty when titles never tell."""
    asks: tuple[str, ...]
    """How shoppers spell it ("{}v", "{} volt"); empty when nobody asks for it."""
    leads: bool
    """Whether shoppers say it before the type ("red shoes") or after it ("shoes size 9")."""
    power: float
    """Price grows with value ** power, for numbers."""

    def shown(self, value: Scalar) -> str:
        """The value as a title spells it; a flag that is off is not mentioned."""
        return "" if value is False or not self.title else self.title.format(value)


@dataclass(frozen=True, slots=True)
class Brand:
    """An invented brand: the letters its model numbers begin with, and its price level (1 is the middle)."""

    name: str
    code: str
    level: float


@dataclass(frozen=True, slots=True)
class ProductType:
    """One kind of product. `related` names the types that a shopper of this one could also use."""

    key: str
    path: tuple[str, ...]
    names: tuple[str, ...]
    """What titles call it; the first is also the head query."""
    also: tuple[str, ...]
    """Other words for it, which no title of this type contains."""
    brands: str
    median: float
    sigma: float
    """Median of the price, and standard deviation of its logarithm."""
    varies: tuple[Axis, ...]
    """What differs between the variants of one line."""
    fixed: tuple[Axis, ...]
    """What all variants of a line share."""
    related: tuple[str, ...]
    points: tuple[str, ...]
    """Selling points that some titles carry."""
    facts: tuple[str, ...]
    """Sentences for descriptions."""
    typos: tuple[str, ...]
    """Misspellings that shoppers type (where a rule cannot make them up)."""
    twin: str
    """The type of the other language that is the same thing, if any."""
    weight: float
    """Share of the language's products, relative to the other types."""
    technical: bool
    """Whether titles carry the model number."""

    @property
    def axes(self) -> tuple[Axis, ...]:
        """All attributes, those that vary first."""
        return self.varies + self.fixed


@dataclass(frozen=True, slots=True)
class Want:
    """A wish put in words that name no product type: the types that grant it fully, and those that half do."""

    text: str
    targets: tuple[str, ...]
    near: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Grammar:
    """All words of one language of the demo store."""

    language: str
    currency: str
    types: tuple[ProductType, ...]
    brands: Mapping[str, tuple[Brand, ...]]
    series: tuple[str, ...]
    shades: Mapping[str, tuple[str, ...]]
    """Colour to the finer names that some titles use in its place."""
    styles: tuple[str, ...]
    """Title layouts."""
    closings: Mapping[str, tuple[str, ...]]
    """Department to sentences that end a description."""
    labels: Mapping[str, str]
    """Attribute to the sentence that tells its value."""
    ceilings: tuple[str, ...]
    """How shoppers bound a price."""
    broad: tuple[Want, ...]
    gifts: tuple[Want, ...]
    uses: tuple[Want, ...]
    mixed: tuple[Want, ...] = ()


def words(name: str, values: str, title: str = "{}", asks: str = "{}", leads: bool = True) -> Axis:
    """An axis of text values, written with commas between them and "|" between spellings."""
    return Axis(name, tuple(values.split(",")), title, _parts(asks), leads, 0.0)


def number(name: str, values: str, title: str = "{}", asks: str = "{}", leads: bool = True, power: float = 0.0) -> Axis:
    """An axis of numbers; the unit is in its name and its spellings."""
    return Axis(
        name,
        tuple(float(value) if "." in value else int(value) for value in values.split(",")),
        title,
        _parts(asks),
        leads,
        power,
    )


def flag(name: str, title: str, asks: str) -> Axis:
    """A feature that a product has or lacks."""
    return Axis(name, (True, False), title, _parts(asks), True, 0.0)


def kind(
    key: str,
    path: str,
    names: str,
    *,
    brands: str,
    price: tuple[float, float],
    also: str = "",
    varies: tuple[Axis, ...] = (),
    fixed: tuple[Axis, ...] = (),
    related: str = "",
    points: str = "",
    facts: str = "",
    typos: str = "",
    twin: str = "",
    weight: float = 1.0,
    technical: bool = False,
) -> ProductType:
    """A product type, written with "/" in paths, "|" between phrases and blanks between keys."""
    return ProductType(
        key=key,
        path=tuple(path.split("/")),
        names=_parts(names),
        also=_parts(also),
        brands=brands,
        median=price[0],
        sigma=price[1],
        varies=varies,
        fixed=fixed,
        related=tuple(related.split()),
        points=_parts(points),
        facts=_parts(facts),
        typos=_parts(typos),
        twin=twin,
        weight=weight,
        technical=technical,
    )


def want(text: str, targets: str, near: str = "") -> Want:
    """A want, written with blanks between the keys of types."""
    return Want(text, tuple(targets.split()), tuple(near.split()))


def brand_pool(text: str) -> tuple[Brand, ...]:
    """Brands, written "Name CODE level" with commas between them."""
    return tuple(_brand(entry) for entry in text.split(","))


def _brand(entry: str) -> Brand:
    name, code, level = entry.rsplit(maxsplit=2)
    return Brand(name.strip(), code, float(level))


def _parts(text: str) -> tuple[str, ...]:
    return tuple(text.split("|")) if text else ()
