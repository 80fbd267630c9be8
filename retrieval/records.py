"""Records shared by all parts: products, queries, hits, pages, events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class EventKind(StrEnum):
    """What happened, roughly from the least telling to the most."""

    QUERY = "query"
    """A search was answered."""
    IMPRESSION = "impression"
    """A product was shown in a list, at a position."""
    CLICK = "click"
    """It was chosen from that list."""
    CONSULTATION = "consultation"
    """Its page was looked at, however it was reached."""
    CART = "cart"
    """It was put into the cart."""
    REMOVAL = "removal"
    """It was taken out of the cart, or sent back."""
    PURCHASE = "purchase"
    RATING = "rating"
    """It was given stars."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, as a store tells it; never changed afterwards.

    Needed are its kind, a product (of a query: its text and its id), and something that tells whose it is: a shopper,
    a session or a query id. `shopper` and `session` are what the store calls them; they are replaced by pseudonyms
    before anything is written.
    """

    kind: EventKind
    product_id: str = ""
    query_id: str = ""
    """Which answer to a search it was done on; the same for its query, impressions, clicks and what comes of them."""
    query: str = ""
    """What was searched; empty on a page that was browsed."""
    shopper: str = ""
    session: str = ""
    position: int | None = None
    """Where the product stood, from 1, over all pages of the answer."""
    time: datetime | None = None
    """When it happened, with its zone; by default now."""
    event_id: str = ""
    """The client's own id: an event that is sent again with it is counted once. By default made of all else."""
    quantity: int | None = None
    """Of a cart, removal or purchase: how many; by default 1."""
    rating: float | None = None
    """Of a rating: stars, 0 to 5."""
    results: int | None = None
    """Of a query: how many products it found."""


AttributeValue = str | float | bool | tuple[str, ...]


class Availability(StrEnum):
    """Whether a shopper can have the product now (the values of Google's product data specification)."""

    IN_STOCK = "in_stock"
    OUT_OF_STOCK = "out_of_stock"
    PREORDER = "preorder"
    BACKORDER = "backorder"


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the forms in which a product is sold: a size, a colour.

    Its product answers searches for all of them: with the lowest price, every identifier and every option's value.
    """

    id: str
    options: Mapping[str, str] = field(default_factory=dict)
    """The name of each option ("Size") to this variant's value ("XL")."""
    price: float | None = None
    availability: Availability | None = None
    identifiers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    image: str = ""


@dataclass(frozen=True, slots=True)
class Product:
    """One product of a catalog. Only `id` and `title` must be there; what is unknown is None or empty, never made
    up."""

    id: str
    title: str
    description: str = ""
    brand: str = ""
    category: tuple[str, ...] = ()
    """The path from the widest category to the narrowest."""
    price: float | None = None
    """In units of `currency` (dollars, not cents)."""
    currency: str = ""
    """ISO 4217, or empty where the feed does not say."""
    availability: Availability | None = None
    rating: float | None = None
    """Mean rating, 0 to 5."""
    rating_count: int | None = None
    images: tuple[str, ...] = ()
    identifiers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Kind ("sku", "ean", "mpn", ...) to its values, as the feed spells them."""
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    """Free attributes: a number or a boolean where the feed has one, else text or several texts."""
    created: datetime | None = None
    updated: datetime | None = None
    language: str = ""
    """ISO 639-1, or empty where it is not known."""
    variants: tuple[Variant, ...] = ()
    expires: datetime | None = None
    """The offer holds until then."""


@dataclass(frozen=True, slots=True)
class PastAct:
    """Something that the shopper who searches did before."""

    product_id: str
    kind: EventKind = EventKind.CLICK
    """A consultation, a click, a cart or a purchase."""
    at: datetime | None = None
    """When, with its zone; None for just now."""


@dataclass(frozen=True, slots=True)
class StageScore:
    """What one stage gave a product: its rank in that stage's own order (from 1; None when past its depth), its
    score."""

    rank: int | None
    score: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A product that a retriever proposes, by its row in the index, with what each stage gave it."""

    row: int
    score: float
    stages: Mapping[str, StageScore]


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one thing that a ranker knows of a hit does for its score."""

    name: str
    """In words: "price"."""
    value: str
    """What it is with this hit, in words: "20% below what such products usually cost"."""
    contribution: float
    """The hit's score less what it would be, all else being equal, if this were as usual."""


@dataclass(frozen=True, slots=True)
class TermMatch:
    """A word of the query and the word of the product that it is nearest to."""

    query_word: str
    product_word: str
    similarity: float
    """Cosine of the two in their contexts, -1 to 1."""
    exact: bool
    """Whether it is the same word."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a ranker's score of a hit is made of. The contributions do not add up to it: see docs/ranking.md."""

    contributions: tuple[Contribution, ...]
    """Those that change the score most come first."""
    matches: tuple[TermMatch, ...]
    """The words that met most, strongest first."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One result: the product, the score that ordered it, and what each stage gave it."""

    product: Product
    score: float
    stages: Mapping[str, StageScore]
    identifier: str = ""
    """The identifier that the query spelled exactly, when that is why the product comes first."""
    explanation: Explanation | None = None
    """What its score is made of, where that was asked for and a ranker gave it."""
    rule: str = ""
    """The id of the merchandising rule that pinned, boosted or buried it, if one did."""


@dataclass(frozen=True, slots=True)
class FacetCount:
    """One value of a facet and the number of hits that filtering by it gives."""

    value: str | float | bool
    count: int


@dataclass(frozen=True, slots=True)
class Facet:
    """The values of one field over all hits (not only this page's), most frequent first; ties by value.

    `minimum` and `maximum` are there for a field of numbers.
    """

    field: str
    counts: tuple[FacetCount, ...]
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the answer. `total` and `facets` are about all hits."""

    hits: tuple[Hit, ...]
    total: int
    page: int
    size: int
    facets: Mapping[str, Facet] = field(default_factory=dict)
    degraded: tuple[str, ...] = ()
    """Stages that should have taken part and could not; empty for a whole answer."""
    relaxed: bool = False
    """Nothing matched inside the filter, so these are the nearest products that pass it; facets stay empty."""
    timings: Mapping[str, float] = field(default_factory=dict)
    """Stage to milliseconds."""
    version: str = ""
    """The published version that answered."""
    fit: float | None = None
    """The probability that the best hit fits the query; None where no ranker has told it."""
    nothing_fits: bool = False
    """Whether that is below the floor of the settings: the hits are the nearest that there are, and none may be what
    was looked for."""
    suggestion: str = ""
    """What the query may have been meant to be, where a word of it is misspelled."""
    corrected: bool = False
    """Whether the hits are those of `suggestion`: nothing has a word of the query as it was typed."""
    rules: tuple[str, ...] = ()
    """The ids of the merchandising rules that the search matched, in the order in which they speak."""
    redirect: str = ""
    """The page that a rule wants to be shown instead, if one does; the hits are there all the same."""
