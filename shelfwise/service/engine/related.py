"""Products that belong to a product: similar ones, those that look alike, and those that have a relation with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shelfwise.retrieval.errors import QueryError, UnknownProductError
from shelfwise.retrieval.extras import optional_imports
from shelfwise.retrieval.filters.ast import Exists, Filter, In, Not, Or
from shelfwise.retrieval.filters.conditions import Condition, all_of
from shelfwise.retrieval.filters.schema import CATEGORY_SEPARATOR
from shelfwise.retrieval.index.grouping import VARIANTS
from shelfwise.retrieval.index.keyword import Rows, Selection
from shelfwise.retrieval.index.vectors import NearestRows, Vectors
from shelfwise.retrieval.records import (
    Hit,
    Page,
    Product,
    RelatedHit,
    Relation,
    RelationEvidence,
    RelationKind,
    SponsoredHit,
    StageScore,
)
from shelfwise.retrieval.text.compatibility import TypedProduct, are_compatible
from shelfwise.service.curation.document_store import MAX_HISTORY, DocumentChange
from shelfwise.service.curation.relations import RelationCorrection, RelationStore, corrected, removed_from
from shelfwise.service.curation.rule_matching import NOTHING, CompiledRules
from shelfwise.service.engine.editors import CompiledEditor
from shelfwise.service.engine.snapshot import FILTERED_DEPTH, PICTURES, Snapshot, condition_of, row_of
from shelfwise.service.events.hot_reload import follow_relations
from shelfwise.service.events.signals import NO_RELATIONS, Relations

if TYPE_CHECKING:
    from shelfwise.retrieval.index.picture_index import PictureIndex


class ProductList:
    """A list of products other than the hits of a search: those of one snapshot that pass a filter and that the rules
    on browsing do not exclude."""

    def __init__(
        self,
        snapshot: Snapshot,
        size: int,
        filters: str = "",
        lost: tuple[str, ...] = (),
        rules: CompiledRules | None = None,
    ) -> None:
        """`lost` names the stages that failed: none, unless the cluster does."""
        self.snapshot, self.size, self.lost = snapshot, size, lost
        requested = condition_of(snapshot, filters)
        effect = rules.effect([snapshot.analyzer.analyze("")], requested, time.time()) if rules else NOTHING
        self.where = effect.condition(requested)
        """The condition that a product must pass."""
        self._rules = effect.excluded_by

    def allowed(self, rows: Rows) -> Rows:
        """The products among `rows` (n,), ascending, that pass."""
        if self.where is None or not len(rows):
            return rows
        return self.snapshot.keyword.select(Selection(rows=rows, where=self.where))

    def nearest(
        self, vector: Vectors, limit: int, also: Condition | None = None, *, among: PictureIndex | None = None
    ) -> NearestRows:
        """The nearest products that pass, and pass `also`; or the nearest pictures in `among`."""
        search = among.nearest if among else self.snapshot.vectors.search
        where = all_of(self.where, (also,)) if also else self.where
        if where is None:
            return search(vector, limit)
        if not self.lost:
            return search(vector, limit, self.snapshot.keyword.select(Selection(where=where, everything=True)))
        nearest = search(vector, FILTERED_DEPTH)
        kept = np.isin(nearest.rows, self.snapshot.keyword.select(Selection(rows=nearest.rows, where=where)))
        return NearestRows(nearest.rows[kept][:limit], nearest.scores[kept][:limit])

    def page(self, hits: Iterable[Hit], degraded: tuple[str, ...] | None = None) -> Page:
        """The page of the list; `degraded` names the stages that failed if they are not `lost`."""
        shown = tuple(hits)
        return Page(
            shown,
            len(shown),
            1,
            self.size,
            degraded=self.lost if degraded is None else degraded,
            version=self.snapshot.manifest.version,
            rules=self._rules,
        )


def language_filter(language: str) -> Filter:
    """The products in a language and those without one."""
    return Or((In("language", (language,)), Not(Exists("language"))))


def _is_foreign(one: Product, other: Product) -> bool:
    return bool(one.language and other.language) and one.language != other.language


# Products similar to a product: near to it by their texts, or viewed by the same shoppers.
#
# Candidates are the nearest by text and the product's co-views, each scored by both: the cosine in deviations above
# that of unrelated products, as in merging (`shelfwise.retrieval.index.fusion`), plus a weighted strength of the
# co-view. A convex combination with fixed normalisation (Bruch, Gai & Ingber 2023, An Analysis of Fusion Functions for
# Hybrid Retrieval, section 3): a product's score depends on nothing else that was found, so a filter never changes the
# order of what it leaves.

WEIGHT = 20.0
"""Deviations of the cosine that a co-view of strength 1 is worth, chosen in docs/benchmarks.md."""
COVIEWS = "coviews"
"""Name of the co-view's strength among a hit's stages, next to "dense", the cosine."""


SimilarSponsor = Callable[[int, NearestRows, float], tuple[SponsoredHit, ...]]
"""Chooses the sponsored hits shown with products similar to the one at a row, among those nearest to it; the number is
the cosine of the least similar one."""
_ADVERTISED = 200
"""Number of nearest products among which sponsored hits are chosen."""


def similar_products(
    product_id: str,
    products: ProductList,
    coviews: Relations = NO_RELATIONS,
    *,
    sponsor: SimilarSponsor | None = None,
    left_out: Collection[str] = (),
) -> Page:
    """The products most similar to a product by texts and by `coviews`, without itself and those of `left_out`;
    `sponsor` chooses the sponsored hits. Raises UnknownProductError for an unknown product.

    Scores are on the scale of the cosine, and equal it for products without co-views.
    """
    snapshot, count = products.snapshot, products.size + 1 + len(left_out)
    row = row_of(snapshot, product_id)
    vector = snapshot.vectors.vector(row)
    if not vector.any():
        # Added as a live change while the encoder was unavailable.
        return products.page((), (*products.lost, "dense"))
    nearest = products.nearest(vector, count)
    near = zip(nearest.rows.tolist(), nearest.scores.tolist(), strict=True)
    hidden = {row, *(snapshot.products.row_of(name) for name in left_out)}
    others = ((other, cosine) for other, cosine in near if other not in hidden)
    texts = {other: StageScore(rank, cosine) for rank, (other, cosine) in enumerate(others, 1)}
    viewed = _viewed(products, product_id, row, coviews)
    own = snapshot.products[row]
    own_rows = set[int]()
    if any(_is_foreign(own, snapshot.products[other]) for other in texts):
        found = products.nearest(vector, count, snapshot.catalog.compile(language_filter(own.language)))
        own_rows = {*found.rows.tolist()}
    if further := sorted((viewed.keys() | own_rows) - texts.keys() - hidden):
        cosines = snapshot.vectors.similarity(vector, np.array(further, np.int64)).tolist()
        texts |= {other: StageScore(None, cosine) for other, cosine in zip(further, cosines, strict=True)}
    # Deviations above the background, rescaled to the cosine; the order is the same.
    worth = WEIGHT * snapshot.manifest.background.deviation
    hits = []
    for other, text in texts.items():
        stages, score = {"dense": text}, text.score
        if coview := viewed.get(other):
            stages[COVIEWS], score = coview, score + worth * coview.score
        hits.append((score, other, stages))
    ordered = sorted(hits, key=lambda each: (_is_foreign(own, snapshot.products[each[1]]), -each[0], each[1]))
    best = ordered[: products.size]
    page = products.page(Hit(snapshot.products[other], score, stages) for score, other, stages in best)
    if sponsor is None or not best or products.lost:
        return page
    least = min(texts[other].score for _, other, _ in best)
    return replace(page, sponsored=sponsor(row, products.nearest(vector, _ADVERTISED), least))


def products_by_looks(picture: bytes | str, products: ProductList) -> Page:
    """The products whose pictures are nearest to a picture file, or to the picture of the product with this id, without
    itself; no hits for a product without a picture. A score is the cosine.

    Raises QueryError for an index without pictures, MissingExtraError without torch, PictureError for an invalid file,
    UnknownProductError, or EncoderError.
    """
    snapshot = products.snapshot
    if (pictures := snapshot.pictures) is None:
        if snapshot.manifest.pictures is not None:
            # Their encoder could not be loaded, perhaps for lack of torch.
            with optional_imports():
                import shelfwise.retrieval.encoders.picture_encoder  # noqa: F401
        cure = "rebuild it with a picture model: shelfwise rebuild INDEX FEED --pictures MODEL"
        raise QueryError(f"the index has no pictures; {cure}")
    row = row_of(snapshot, picture) if isinstance(picture, str) else -1
    vector = pictures.encode(picture) if isinstance(picture, bytes) else pictures.index.vector(row)
    if vector is None:
        return products.page(())
    found = products.nearest(vector, products.size + 1, among=pictures.index)
    others = ((other, cosine) for other, cosine in zip(found.rows.tolist(), found.scores.tolist(), strict=True))
    shown = [(other, cosine) for other, cosine in others if other != row][: products.size]
    scored = ((other, StageScore(rank, cosine)) for rank, (other, cosine) in enumerate(shown, 1))
    return products.page(Hit(snapshot.products[other], each.score, {PICTURES: each}) for other, each in scored)


def _viewed(products: ProductList, product_id: str, row: int, coviews: Relations) -> dict[int, StageScore]:
    """The co-views of a product that exist and pass, by row, strongest first."""
    known = ((products.snapshot.products.row_of(name), strength) for name, strength in coviews.of(product_id))
    strengths = {other: strength for other, strength in known if other is not None and other != row}
    allowed = {*products.allowed(np.array(sorted(strengths), np.int64)).tolist()}
    passed = {other: strength for other, strength in strengths.items() if other in allowed}
    return {other: StageScore(rank, strength) for rank, (other, strength) in enumerate(passed.items(), 1)}


# Related products, which go with a product or are chosen instead of it, and their relations.
#
# Relations between products come first. Where they do not fill the page, related types add their products: for each
# type those nearest to the product by text, in turns, as a case for a phone names the phone.

GOES_WITH = "goes_with"
"""All kinds of relations except substitutes."""
RELATED_KINDS: Mapping[str, frozenset[RelationKind]] = {
    GOES_WITH: frozenset(RelationKind) - {RelationKind.SUBSTITUTE},
    **{kind.value: frozenset((kind,)) for kind in RelationKind},
}
"""The kinds that can be requested, with the kinds of relations that each includes."""
_OF_TYPES = frozenset((RelationKind.COMPLEMENT, RelationKind.ACCESSORY))
_MAX_TYPES, _MAX_OF_TYPE, _MAX_READ = 8, 4, 200
"""Maximum numbers of related types of a product, of products of each type, and of products read for these."""


def related_products(
    product_id: str,
    products: ProductList,
    kinds: frozenset[RelationKind],
    known: Sequence[tuple[str, Relation]],
    removed: frozenset[str],
    derived: Relations,
) -> Page:
    """The products that have a relation of these kinds with a product: by the `known` relations with other products'
    ids, then by the related types of `derived`, without those of `removed`. All variants of a product but the best are
    left out. Raises UnknownProductError for an unknown product.

    A score is the relation's strength, 0 to 1.
    """
    snapshot = products.snapshot
    row = row_of(snapshot, product_id)
    found: dict[int, Relation] = {}
    for name, relation in known:
        other = snapshot.products.row_of(name) if relation.kind in kinds else None
        if other is None or other == row or (other in found and relation.strength <= found[other].strength):
            continue
        if relation.evidence is not RelationEvidence.SHOPPERS or _is_compatible(snapshot, row, other):
            found[other] = relation
    rows = products.allowed(np.array(sorted(found), np.int64))
    similarity = snapshot.vectors.similarity(snapshot.vectors.vector(row), rows)
    cosines = dict(zip(rows.tolist(), similarity.tolist(), strict=True))
    foreign = {other for other in cosines if _is_foreign(snapshot.products[row], snapshot.products[other])}
    ordered = sorted(cosines, key=lambda other: (other in foreign, -found[other].strength, -cosines[other], other))
    chosen = _one_of_each(snapshot, row, ordered)[: products.size]
    if len(chosen) < products.size and kinds & _OF_TYPES:
        hidden = {snapshot.products.row_of(name) for name in removed}
        of_types = _of_types(products, row, kinds & _OF_TYPES, derived)
        by_type = {other: relation for other, relation in of_types.items() if other not in hidden}
        found = by_type | found
        others = (other for other in by_type if other not in cosines)
        chosen = _one_of_each(snapshot, row, [*chosen, *others])[: products.size]
    return products.page(
        RelatedHit(snapshot.products[other], found[other].strength, {}, relation=found[other]) for other in chosen
    )


def _one_of_each(snapshot: Snapshot, row: int, rows: Sequence[int]) -> list[int]:
    """The first variant of each product, without variants of the product at a row."""
    keys = snapshot.groups.of(np.array([row, *rows], np.int64), VARIANTS, snapshot.products.__getitem__).tolist()
    first: dict[int, int] = {}
    for key, each in zip(keys[1:], rows, strict=True):
        first.setdefault(key, each)
    return [each for key, each in first.items() if key != keys[0]]


def _of_types(
    products: ProductList, row: int, kinds: frozenset[RelationKind], relations: Relations
) -> dict[int, Relation]:
    """Products of the types that go with those of a product, by row, best first."""
    snapshot = products.snapshot
    names = (snapshot.types.name_of(row), CATEGORY_SEPARATOR.join(snapshot.products[row].category))
    types: dict[str, Relation] = {}
    for name, relation in chain.from_iterable(relations.related_types(own) for own in names if own):
        # Accessories of the product's type go with it; products whose accessory it is do not.
        is_wanted = relation.kind in kinds and (relation.reverse or relation.kind is not RelationKind.ACCESSORY)
        if is_wanted and (name not in types or relation.strength > types[name].strength):
            types[name] = relation
    strongest = sorted(types.items(), key=lambda each: (-each[1].strength, each[0]))[:_MAX_TYPES]
    turns = [(_nearest_of_type(products, row, name), relation) for name, relation in strongest]
    found: dict[int, Relation] = {}
    for place in range(_MAX_OF_TYPE):
        for rows, relation in turns:
            for other in rows[place : place + 1]:
                found.setdefault(other, relation)
    return found


def _nearest_of_type(products: ProductList, row: int, name: str) -> list[int]:
    """The products of a type or a category that are nearest by text to the product at a row."""
    snapshot = products.snapshot
    rows = snapshot.types.members_of(name)
    if not len(rows) and "category" in snapshot.catalog.fields and not products.lost:
        category = snapshot.catalog.compile(In("category", (name,)))
        rows = snapshot.keyword.select(Selection(where=category, everything=True))
    rows = products.allowed(rows)
    if not len(rows):
        return []
    cosines = snapshot.vectors.similarity(snapshot.vectors.vector(row), rows)
    nearest = rows[np.lexsort((rows, -cosines))][:_MAX_READ].tolist()
    fitting = [other for other in nearest if other != row and _is_compatible(snapshot, row, other)]
    root = snapshot.products[row].category[:1]
    in_trade = [other for other in fitting if snapshot.products[other].category[:1] == root]
    return _one_of_each(snapshot, row, in_trade or fitting)[:_MAX_OF_TYPE]


def _is_compatible(snapshot: Snapshot, row: int, other: int) -> bool:
    one, two = (TypedProduct(snapshot.products[each], snapshot.types.name_of(each)) for each in (row, other))
    return are_compatible(one, two)


ListAnswerer = Callable[[Callable[[ProductList], Page], int, str, bool], Page]
"""Creates a page as `SearchEngine` does for every product list, from a function that fills a list of this size, for a
filter, with the store's rules or without rules."""


@dataclass(frozen=True, slots=True)
class ProductRelation:
    """A relation between a product and another one."""

    product_id: str
    relation: Relation


class EngineRelations(CompiledEditor[RelationCorrection, Sequence[RelationCorrection]]):
    """The relations between the products of an engine's index. See docs/relations.md.

    >>> for hit in engine.relations.of("B0042", kind="goes_with", size=8).hits:
    ...     hit.product.title, hit.relation.kind, hit.relation.shoppers
    """

    def __init__(
        self, root: Path, snapshot: Callable[[], Snapshot], answer: ListAnswerer, product: Callable[[str], Product]
    ) -> None:
        super().__init__(RelationStore(root), snapshot, lambda corrections, _: corrections)
        self._answer = answer
        self._product = product
        self._derived = follow_relations(root)

    @property
    def notices(self) -> tuple[str, ...]:
        return (*self._derived.notices, *super().notices)

    def reload_if_changed(self, snapshot: Snapshot) -> None:
        self._derived.reload_if_changed()
        super().reload_if_changed(snapshot)

    @property
    def derived(self) -> Relations:
        """The co-views and relations of the derived tables."""
        return self._derived.value

    @property
    def corrections(self) -> Sequence[RelationCorrection]:
        """The store's corrections that searches use."""
        return self._stored.value.documents

    def removed_substitutes(self, product_id: str) -> frozenset[str]:
        """The products that the store says not to be chosen instead of one."""
        kinds = (each for each in self.corrections if each.kind is RelationKind.SUBSTITUTE)
        return removed_from(product_id, tuple(kinds))

    def of(
        self, product_id: str, *, kind: str = GOES_WITH, size: int = 20, filters: str = "", rules: bool = True
    ) -> Page:
        """The products related to a product, as `RelatedHit`s that name the relation: `kind` is a `RelationKind`, or
        "goes_with" for all but substitutes. With `rules` the store's rules apply. Raises UnknownProductError for an
        unknown product, QueryError or FilterError for an invalid argument."""
        if not isinstance(product_id, str):
            raise QueryError(f"product_id is {type(product_id).__name__}, it must be str")
        if kind not in RELATED_KINDS:
            raise QueryError(f"kind is {str(kind)[:40]!r}, it can be {', '.join(RELATED_KINDS)}")
        kinds = RELATED_KINDS[kind]
        related = partial(
            related_products,
            product_id,
            kinds=kinds,
            known=[each for each in self.show(product_id) if each[1].kind in kinds],
            removed=removed_from(product_id, self.corrections),
            derived=self.derived,
        )
        return self._answer(related, size, filters, rules)

    def show(self, product_id: str) -> list[tuple[str, Relation]]:
        """All relations of a product with other products' ids, corrected, including products that rules hide, without
        those of related types."""
        return list(corrected(product_id, self.derived.related(product_id), self.corrections))

    def list(self) -> tuple[RelationCorrection, ...]:
        """All corrections."""
        return tuple(self.corrections)

    def of_product(self, product: str) -> Sequence[RelationCorrection]:
        """The corrections of a product, from either side."""
        return [each for each in self.corrections if each.names(product)]

    def details(self, product: str = "", /) -> Mapping[str, object]:
        """The relations of a product, corrected, and the titles of the products that are named."""
        if not product:
            return {}
        self._product(product)
        related = [ProductRelation(*each) for each in self.show(product)]
        corrections = self.of_product(product)
        titles = {}
        for name in {each.product_id for each in related}.union(*((each.product, each.other) for each in corrections)):
            with suppress(UnknownProductError):
                titles[name] = self._product(name).title
        return {"relations": related, "titles": titles}

    def history(
        self, document_id: str | None = None, /, limit: int = 100
    ) -> Sequence[DocumentChange[RelationCorrection]]:
        """The last corrections, newest first; for a correction or a product, those among the last 10,000."""
        if document_id is None:
            return super().history(limit=limit)
        changes = ((each, each.after or each.before) for each in super().history(limit=MAX_HISTORY))
        return [each for each, one in changes if one and (each.id == document_id or one.names(document_id))][:limit]

    def _checked(self, documents: Iterable[RelationCorrection]) -> Sequence[RelationCorrection]:
        """Raises UnknownProductError if a product does not exist."""
        corrections = super()._checked(documents)
        for name in dict.fromkeys(chain.from_iterable((each.product, each.other) for each in corrections)):
            self._product(name)
        return corrections
