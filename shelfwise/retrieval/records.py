"""Records shared by all parts: products, queries, hits, pages, events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class EventKind(StrEnum):
    """Kinds of events, roughly from the weakest signal to the strongest."""

    QUERY = "query"
    """A search was answered."""
    IMPRESSION = "impression"
    """A product was shown in a list, at a position."""
    CLICK = "click"
    """A product was chosen from that list."""
    CONSULTATION = "consultation"
    """A product's page was viewed."""
    CART = "cart"
    """A product was put into the cart."""
    REMOVAL = "removal"
    """A product was removed from the cart, or returned."""
    PURCHASE = "purchase"
    RATING = "rating"
    """A product was rated with stars."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a shopper, after the schema of User Behavior Insights (UBI).

    Required are the kind, a product (for a query: its text and id), and a shopper, session or query id. `shopper` and
    `session` are the store's ids; pseudonyms replace them before anything is written.
    """

    kind: EventKind
    product_id: str = ""
    query_id: str = ""
    """The search that it belongs to; shared by a query, its impressions, clicks and later events."""
    query: str = ""
    """The text of the search; empty for a browsed page."""
    shopper: str = ""
    session: str = ""
    position: int | None = None
    """The product's rank, from 1, over all pages of the response."""
    time: datetime | None = None
    """The time of the event, with a zone; by default now."""
    event_id: str = ""
    """The client's id, to count a resent event once; by default derived from the other fields."""
    quantity: int | None = None
    """The number of items of a cart, removal or purchase; by default 1."""
    rating: float | None = None
    """The stars of a rating, 0 to 5."""
    results: int | None = None
    """The number of products that a query found."""
    address: str = ""
    """The network address of the shopper, if what it brings is limited; a pseudonym of the day replaces it. The service
    enters that of the request, unless the key is one of the store's own programs."""


AttributeValue = str | float | bool | tuple[str, ...]


class Availability(StrEnum):
    """Availability (the values of Google's product data specification)."""

    IN_STOCK = "in_stock"
    OUT_OF_STOCK = "out_of_stock"
    PREORDER = "preorder"
    BACKORDER = "backorder"


@dataclass(frozen=True, slots=True)
class Place:
    """A place on the earth, in degrees (WGS 84)."""

    lat: float
    """-90 to 90."""
    lng: float
    """-180 to 180."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant of a product: a size, a colour.

    The product is found by all of its variants: it has the lowest price, every identifier and every option's value.
    """

    id: str
    options: Mapping[str, str] = field(default_factory=dict)
    """Option name ("Size") to this variant's value ("XL")."""
    price: float | None = None
    availability: Availability | None = None
    identifiers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    image: str = ""


@dataclass(frozen=True, slots=True)
class Product:
    """A product of a catalog. Only `id` and `title` are required; unknown values are None or empty."""

    id: str
    title: str
    description: str = ""
    brand: str = ""
    category: tuple[str, ...] = ()
    """The path from the widest category to the narrowest."""
    price: float | None = None
    """The price in units of `currency` (dollars, not cents)."""
    currency: str = ""
    """ISO 4217; empty if the feed does not have it."""
    availability: Availability | None = None
    rating: float | None = None
    """Mean rating, 0 to 5."""
    rating_count: int | None = None
    images: tuple[str, ...] = ()
    identifiers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Kind ("sku", "ean", "mpn", ...) to values as in the feed."""
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    """Free attributes: a number or a boolean if the feed has one, else a text or several texts."""
    created: datetime | None = None
    updated: datetime | None = None
    language: str = ""
    """ISO 639-1; empty if not known."""
    variants: tuple[Variant, ...] = ()
    expires: datetime | None = None
    """The time until which the offer is valid."""
    places: tuple[Place, ...] = ()
    """The places of the product, such as the shops that have it."""


def is_local(address: str) -> bool:
    """Whether the address of a picture names a file, as `file:pictures/7.webp` does in the folder of pictures."""
    return address[:5].lower() == "file:"


def images_of(product: Product) -> Sequence[str]:
    """The addresses of a product's pictures in order of their numbers: its own, then further ones of its variants."""
    return tuple(dict.fromkeys((*product.images, *(each.image for each in product.variants if each.image))))


@dataclass(frozen=True, slots=True)
class PastAct:
    """A past act of the shopper who searches."""

    product_id: str
    kind: EventKind = EventKind.CLICK
    """A consultation, a click, a cart or a purchase."""
    at: datetime | None = None
    """Time of the act, with a zone; None means just now."""


@dataclass(frozen=True, slots=True)
class StageScore:
    """The rank and score of a product in one stage; the rank counts from 1, None beyond the stage's depth."""

    rank: int | None
    score: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate by its row in the index, with its stage scores."""

    row: int
    score: float
    stages: Mapping[str, StageScore]


@dataclass(frozen=True, slots=True)
class Contribution:
    """The contribution of one feature to a hit's score."""

    name: str
    """The feature's name for display: "price"."""
    value: str
    """Value for display: "20% below what such products usually cost"."""
    contribution: float
    """The hit's score minus the score with a usual value, all else equal."""


@dataclass(frozen=True, slots=True)
class TermMatch:
    """A word of the query and the nearest word of the product."""

    query_word: str
    product_word: str
    similarity: float
    """Cosine of the two in their contexts, -1 to 1."""
    exact: bool
    """Whether they are the same word."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The explanation of a ranker's score. Contributions do not add up to it: see docs/ranking.md."""

    contributions: tuple[Contribution, ...]
    """Largest effect first."""
    matches: tuple[TermMatch, ...]
    """Strongest first."""


class ReasonKind(StrEnum):
    """Kinds of reasons for the rank of a hit."""

    IDENTIFIER = "identifier"
    """An identifier of the product is the query."""
    TYPE = "type"
    """The product is of the type that the query asks for; the value is its type."""
    VALUE = "value"
    """The product has a price, brand, colour or size that the query names; the values are those in the query."""
    WORDS = "words"
    """The product has words of the query; the values are these words."""
    MEANING = "meaning"
    """The product is similar to the query in meaning."""
    LOOKS = "looks"
    """The picture of the product looks like the query."""
    CHOSEN = "chosen"
    """Shoppers with this query chose the product more often than the query's other products."""
    POPULAR = "popular"
    """Many shoppers chose the product recently, whatever their query."""
    RATED = "rated"
    """The product is well rated; the value is the mean rating."""
    HISTORY = "history"
    """The product is similar to products that this shopper viewed before."""
    SIGNALS = "signals"
    """The signals of the store's relevance settings move the product up."""
    BOOSTED = "boosted"
    """A rule of the store moves the product up; the value is the rule's id."""
    BURIED = "buried"
    """A rule of the store moves the product down."""
    PINNED = "pinned"
    """A rule of the store put the product at this rank."""
    EXPLORED = "explored"
    """Exploration put the product at this rank."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason for the rank of a hit."""

    kind: ReasonKind
    values: tuple[str, ...] = ()
    ranks: int = 0
    """Ranks that the hit would lose without it; 0 for a kind that is listed whatever its effect on the order."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A hit: the product, its score, and its stage scores."""

    product: Product
    score: float
    stages: Mapping[str, StageScore]
    identifier: str = ""
    """The identifier that equals the query, if that is why the product comes first."""
    explanation: Explanation | None = None
    """The explanation, if requested and scored by a ranker."""
    reasons: tuple[Reason, ...] = ()
    """The reasons for its rank, if requested, strongest first."""
    reason_line: str = ""
    """The reasons as one line for the shopper; empty if there are none."""
    rule: str = ""
    """The id of the merchandising rule that pinned, boosted or buried it."""
    group_size: int = 1
    """The number of candidates in the hit's group, including itself, if results are grouped."""
    siblings: tuple[str, ...] = ()
    """The ids of the others, in order; at most 100."""
    group_rank: int = 1
    """Rank of the hit in its group."""
    distance: float | None = None
    """Metres from the place by which the search sorts or filters to the product's nearest place."""
    product_type: str = ""
    """The type of the product, if the search determined it: "cordless drill"."""
    explored: bool = False
    """Whether it is at this rank by exploration."""
    propensity: float | None = None
    """The probability with which exploration put it at this rank; None if it did not."""


class RelationKind(StrEnum):
    """Kinds of relations between two products; "product KIND other" is a sentence."""

    COMPLEMENT = "complement"
    """Shoppers choose both for one purpose, and they are not alike. Symmetrical."""
    SUBSTITUTE = "substitute"
    """Shoppers choose one of the two, and they are alike: `other` instead of the product."""
    ACCESSORY = "accessory"
    """The product is an accessory of the other."""
    FITS = "fits"
    """The product lists the other, or its model, among the products that it is compatible with."""
    PART_OF = "part_of"
    """The other is a bundle or set that contains the product."""


class RelationEvidence(StrEnum):
    """Sources of relations."""

    SHOPPERS = "shoppers"
    """Shoppers' choices of both together, or of one instead of the other."""
    TYPES = "types"
    """Shoppers' choices of both product types together, or titles that name the other type ("case for phone")."""
    ATTRIBUTES = "attributes"
    """An attribute, such as `compatibility`."""
    TEXTS = "texts"
    """A title or description that names the other product."""
    OWNER = "owner"
    """The store's own correction."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation of a product, from its point of view."""

    kind: RelationKind
    evidence: RelationEvidence
    strength: float
    """0 to 1: the share of shoppers' choices beyond chance, shrunk for small numbers."""
    shoppers: int = 0
    """The number of shoppers that support it; 0 for texts, attributes and the owner's."""
    reverse: bool = False
    """Whether the other product is the accessory, fits, or is the part."""


@dataclass(frozen=True, slots=True)
class RelatedHit(Hit):
    """A hit that is related to a product, and the relation."""

    relation: Relation | None = None


@dataclass(frozen=True, slots=True)
class SponsoredHit:
    """A product that an advertiser pays for, shown apart from the hits."""

    product: Product
    campaign: str
    """The id of its campaign."""
    advertiser: str
    place: int
    """Rank among the sponsored hits, from 1."""
    relevance: float
    """Similarity to the query, in deviations above that of unrelated products."""
    price: float
    """The cost of a click to the advertiser."""
    ratio: float = 1.0
    """The rate of clicks on it per examined impression for such queries, relative to other products."""
    query: str = ""
    """The text of its search, or the id of the product beside which it is shown."""


@dataclass(frozen=True, slots=True)
class ExposureGoal:
    """A floor or a ceiling of the share of attention that some products get over a day."""

    rule: str
    """The id of the merchandising rule that sets it."""
    filters: str
    """The filter of its products."""
    at_least: float | None = None
    """The floor, 0 to 1; None for a ceiling."""
    at_most: float | None = None
    """The ceiling, 0 to 1; None for a floor."""

    @property
    def share(self) -> float:
        """The floor or the ceiling, whichever is set."""
        return self.at_least or self.at_most or 0.0


@dataclass(frozen=True, slots=True)
class ControlledExposure:
    """The effect of an exposure goal on a search."""

    goal: ExposureGoal
    strength: float
    """The addition to the scores of the goal's products, in standard deviations of the scores of the best hits."""
    products: tuple[str, ...]
    """The ids of the page's hits that are among the goal's products."""
    pinned: tuple[str, ...]
    """The ids of the page's hits that rules pinned: they do not count for any goal."""


@dataclass(frozen=True, slots=True)
class FacetCount:
    """A value of a facet and the number of hits with it."""

    value: str | float | bool
    count: int


@dataclass(frozen=True, slots=True)
class Facet:
    """The values of one field over all hits, most frequent first; ties by value.

    `minimum` and `maximum` are set for a numeric field.
    """

    field: str
    counts: tuple[FacetCount, ...]
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, slots=True)
class RangeCount:
    """A range of a numeric field, from `low` to below `high`, and the number of hits in it."""

    low: float | None
    """The lower end; None if there is none."""
    high: float | None
    """The upper end; None if there is none."""
    count: int
    filter: str
    """The filter for its products: `price >= 50 AND price < 100`."""


@dataclass(frozen=True, slots=True)
class ChoiceValue:
    """A value, or a range of numbers, to which a broad query can be narrowed, and the number of hits with it."""

    value: str | float | bool | None
    """The value; None for a range."""
    low: float | None
    high: float | None
    count: int
    filter: str
    """The filter for products with it: `brand IN (Bosch)`, `price >= 50 AND price < 100`."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A field whose values divide the hits of a broad query well."""

    field: str
    values: tuple[ChoiceValue, ...]


@dataclass(frozen=True, slots=True)
class Preference:
    """Values of a field that a query names: products with one come first, the others after them."""

    field: str
    filter: str
    """The filter for products with them: `brand IN (HP)`, `price <= 100`."""
    values: tuple[str, ...] = ()
    """Empty for a range."""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A page of results. `total`, `facets` and `ranges` cover all hits; if results are grouped, they count groups."""

    hits: tuple[Hit, ...]
    total: int
    page: int
    size: int
    facets: Mapping[str, Facet] = field(default_factory=dict)
    ranges: Mapping[str, tuple[RangeCount, ...]] = field(default_factory=dict)
    degraded: tuple[str, ...] = ()
    """Stages that failed; empty for a complete response."""
    nearest: tuple[Hit, ...] = ()
    """If a filter leaves no hit, or fewer than ten: the other products that pass it, closest in meaning first. If
    nothing fits the query, the closest ones."""
    timings: Mapping[str, float] = field(default_factory=dict)
    """The milliseconds of each stage."""
    version: str = ""
    """The published version that answered."""
    fit: float | None = None
    """The probability that the best hit fits the query; None without a ranker that estimates it."""
    nothing_fits: bool = False
    """Whether the whole catalog has nothing for the query: neither its words nor a similar product."""
    doubtful: bool = False
    """Whether no product has all words of the query and the ranker doubts that the best hit is relevant."""
    suggestion: str = ""
    """The corrected query, if a word is misspelled."""
    corrected: bool = False
    """Whether the hits are those of `suggestion`, because no product has the words of the query."""
    choices: tuple[Choice, ...] = ()
    """The fields by which a broad query is best narrowed, best first, if requested."""
    preferred: tuple[Preference, ...] = ()
    """The price, brand, colour and size that the query names and hits have."""
    completion: str = ""
    """The query with its last word completed, if it was still being typed."""
    rules: tuple[str, ...] = ()
    """The ids of the merchandising rules that matched, in order of precedence."""
    redirect: str = ""
    """The page to which a rule redirects; the hits are present anyway."""
    data: tuple[Mapping[str, object], ...] = ()
    """The objects that merchandising rules add."""
    product_type: str = ""
    """The type of all hits, if an order other than by relevance left out products of other types; otherwise empty."""
    sponsored: tuple[SponsoredHit, ...] = ()
    """Products of advertisers. They are not hits; hits, total, facets and ranges are the same without them."""
    exposure_goals: tuple[ControlledExposure, ...] = ()
    """The effects of rules on the exposure of products, if the hits are ranked."""
