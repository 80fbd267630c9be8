"""The catalog of the complaint suite: 1,011 products of twelve kinds, not random, with variants and equals."""

from __future__ import annotations

from itertools import product as combinations

from shelfwise.benchmarks.peers.complaints.engine import Listing

BRANDS = ("Torvald", "Quillon", "Maribel", "Osterby", "Fennimore")
COLOURS = ("black", "red", "blue", "green")
SIZES = ("40", "41", "42", "43")
KINDS = {
    "hiking backpack": ("lightweight", "padded hip belt and rain cover for days in the mountains", 60),
    "electric kettle": ("stainless steel", "boils a litre and a half of water and switches itself off", 25),
    "cordless drill": ("compact", "two-speed gearbox, LED and two batteries in a case", 80),
    "office chair": ("ergonomic", "adjustable lumbar support and armrests for long working days", 150),
    "wireless headphones": ("noise cancelling", "thirty hours of music and a folding headband", 90),
    "camping tent": ("two person", "waterproof flysheet, aluminium poles and a small porch", 120),
    "desk lamp": ("dimmable", "swivel arm and warm light for reading", 30),
    "coffee grinder": ("conical burr", "eighteen settings from espresso to French press", 70),
    "yoga mat": ("non-slip", "thick natural rubber for home and studio", 35),
    "gaming keyboard": ("mechanical", "quiet switches and lights behind every key", 65),
}
"""A kind to its adjective, its description and its lowest price."""
SHOE, CARD = "running shoes", "gift card"
EQUALS = 40
_OFTEN, _MANY, _FEW = "hiking backpack", 320, 64
"""One kind has more products than an engine takes neighbours."""


def catalog() -> list[Listing]:
    """All listings, always the same."""
    made = [_plain(kind, number) for kind in KINDS for number in range(_MANY if kind == _OFTEN else _FEW)]
    return [*made, *_shoes(), *map(_card, range(EQUALS))]


def _plain(kind: str, number: int) -> Listing:
    adjective, description, lowest = KINDS[kind]
    brand, colour = BRANDS[number % len(BRANDS)], COLOURS[number // len(BRANDS) % len(COLOURS)]
    place = list(KINDS).index(kind)
    return Listing(
        id=f"{kind.rsplit(maxsplit=1)[-1]}-{number}",
        title=f"{brand} {adjective} {kind}, {colour}, model {number + 10}",
        kind=kind,
        brand=brand,
        price=lowest + (number * 37 % 64) * 1.5,
        sku=f"{kind[:2].upper()}-{4100 + place * 64 + number}-{'ABCD'[number % 4]}",
        description=f"The {adjective} {kind} by {brand}: {description}.",
        colour=colour,
    )


def _shoes() -> list[Listing]:
    """Five shoes of sixteen variants each, but that of a brand misses its last colour in the largest size."""
    return [
        Listing(
            id=f"shoe-{brand.lower()}-{colour}-{size}",
            title=f"{brand} running shoes, {colour}, size {size}",
            kind=SHOE,
            brand=brand,
            price=70.0 + 5 * BRANDS.index(brand),
            sku=f"SH-{BRANDS.index(brand)}{COLOURS.index(colour)}-{size}",
            description=f"Running shoes by {brand} with a soft sole for roads and parks.",
            colour=colour,
            size=size,
            group=f"shoe-{brand.lower()}",
        )
        for brand, colour, size in combinations(BRANDS, COLOURS, SIZES)
        if (colour, size) != (COLOURS[BRANDS.index(brand) % len(COLOURS)], "43")
    ]


def _card(number: int) -> Listing:
    """Products that a ranking cannot tell apart, and that have no colour."""
    return Listing(
        id=f"card-{number:02d}",
        title="Fennimore gift card",
        kind=CARD,
        brand="Fennimore",
        price=25.0,
        sku=f"GC-{7000 + number}",
        description="A gift card for the whole shop.",
    )
