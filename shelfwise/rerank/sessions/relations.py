"""Relations between products, made at a refresh: complements, substitutes, accessories, fits and parts.

Two products that shoppers choose in one visit are complements if they are of different kinds, and substitutes if they
are alike (McAuley, Pandey & Leskovec 2015, Inferring Networks of Substitutable and Complementary Products). Few pairs
of products have enough shoppers, so pairs of product types and of categories are counted as well. Texts and attributes
say which product fits or contains which, without any event.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray

from shelfwise.rerank.sessions.decay import ACT_PARTIAL, VIEWS
from shelfwise.rerank.sessions.partitions import WHO, Context, PartialReader, TableMaker
from shelfwise.rerank.sessions.product_tables import SHRINKAGE, neighbours
from shelfwise.retrieval.filters.schema import CATEGORY_SEPARATOR
from shelfwise.retrieval.index.vectors import DEFAULT_BACKGROUND, Background, StoredArray, map_vectors, whole_floats
from shelfwise.retrieval.records import RelationEvidence, RelationKind
from shelfwise.retrieval.store.manifest import TYPES_FOLDER, VECTORS_FOLDER
from shelfwise.retrieval.store.products import ProductStore
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.text.analysis import fold
from shelfwise.retrieval.text.compatibility import NamedModel, model_keys, named_models, named_things
from shelfwise.retrieval.text.product_types import ProductTypes

RELATIONS, RELATION_TYPES = "relations", "relation_types"
_SCHEMA = pl.Schema(
    {
        "kind": pl.String(),
        "product_id": pl.String(),
        "other_id": pl.String(),
        "evidence": pl.String(),
        "detail": pl.String(),
        "strength": pl.Float32(),
        "shoppers": pl.UInt32(),
    }
)
_TYPES_SCHEMA = pl.Schema(
    {
        "kind": pl.String(),
        "type": pl.String(),
        "other": pl.String(),
        "evidence": pl.String(),
        "strength": pl.Float32(),
        "shoppers": pl.UInt32(),
    }
)
_SESSION = (WHO, "day", "session_number")
_WANTS = ("cart", "purchase")
_LARGEST_VISIT = 50
"""The most products of a visit, or purchases of a shopper, that pairs are made of; larger ones are not a shopper's."""
_MAX_NAMED = 20
"""The most products that a text may name by one model; a name of more products is not a model's."""
_BLOCK = 100_000

_BIAS, _BY_COSINE, _BY_TYPE, _BY_HEAD, _BY_CATEGORY = -3.0, 1.0, 1.0, 1.0, 1.0
"""Coefficients of the logistic regression of whether two products are alike: by the cosine of their texts, in
deviations above that of unrelated products, and whether types, heads of types and categories are equal. Chosen in
docs/relations.md."""
_ALIKE = 0.5
_MIN_LIFT = 2.0
"""The lowest ratio of a type pair's shoppers to the number expected by chance."""
_CHEAPER, _LATER = 0.5, 0.6
"""An accessory's highest share of the main price, and the least share of shoppers who chose it with or after that."""
_BACK = 0.5
"""The most shoppers who went from the accessory's type to the main product's, per shopper who went the other way."""
_MIN_TITLES, _MIN_SHARE = 3, 0.1
"""A type is an accessory of another if this many of its titles, and this share of them, say "for" the other."""


@dataclass(frozen=True, slots=True, eq=False)
class RelationCatalog:
    """The inputs of relations: the products of a version, ordered by id."""

    ids: Sequence[str]
    types: Sequence[str]
    """The type of each product by its title (n), as `ProductTypes.name_of` returns it; empty if it has none."""
    categories: Sequence[str]
    """The whole category path of each product (n); empty if it has none."""
    languages: Sequence[str]
    """The language of each product (n); empty if not known."""
    prices: NDArray[np.float64]
    """The price of each product (n,); NaN if not known."""
    vectors: StoredArray
    """The unit vectors of the product texts (n, dimension)."""
    background: Background
    named: Sequence[tuple[int, int, NamedModel]] = ()
    """The row of a product, the row of a product that its text names, and the name."""
    accessories: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """The number of titles of a type that say they are for another type, by both types."""

    @classmethod
    def of_version(cls, store: Store) -> RelationCatalog:
        """The catalog of the serving version. Raises StoreMissingError if nothing is published, StoreDamagedError if it
        cannot be read."""
        version = store.current()
        folder = store.version_folder(version)
        products = ProductStore(folder)
        known = ProductTypes.open(folder / TYPES_FOLDER, np.zeros(len(products), np.float32))
        types, categories, languages, prices, ids = [], [], [], [], []
        mentions: dict[int, list[NamedModel]] = {}
        for row in range(len(products)):
            product = products[row]
            ids.append(product.id)
            types.append(known.name_of(row))
            categories.append(CATEGORY_SEPARATOR.join(product.category))
            languages.append(product.language)
            prices.append(np.nan if product.price is None else product.price)
            if models := list(named_models(product)):
                mentions[row] = models
        return cls(
            ids,
            types,
            categories,
            languages,
            np.array(prices, np.float64),
            map_vectors(folder / VECTORS_FOLDER),
            store.manifest(version).background,
            tuple(_named(products, mentions)),
            _named_types(products, known, types),
        )

    @classmethod
    def empty(cls) -> RelationCatalog:
        """The catalog of an index without a version."""
        return cls((), (), (), (), np.empty(0), np.empty((0, 1), np.float32), DEFAULT_BACKGROUND)

    def alikeness(self, rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float64]:
        """The probability that the products of each pair (p,) are of one kind, 0 to 1."""
        similarity = np.empty(len(rows))
        for start in range(0, len(rows), _BLOCK):
            here = slice(start, start + _BLOCK)
            one, other = (whole_floats(self.vectors[each[here]]) for each in (rows, others))
            similarity[here] = self.background.standardise(np.einsum("ij,ij->i", one, other).astype(np.float64))
        logit = _BIAS + _BY_COSINE * similarity
        for weight, values in (
            (_BY_TYPE, self.types),
            (_BY_HEAD, list(map(_head, self.types))),
            (_BY_CATEGORY, self.categories),
        ):
            names = np.array(values, object)
            same = (names[rows] == names[others]) & (names[rows] != "")
            logit += np.where(same, weight, 0.0)
        return np.asarray(1 / (1 + np.exp(-logit)))


def _named(
    products: ProductStore, mentions: Mapping[int, Sequence[NamedModel]]
) -> Iterable[tuple[int, int, NamedModel]]:
    """Rows with the rows of the products that their texts name, by the longest name that the catalog has.

    A text names a product only if it is of the same brand or says that product's brand. A product that is itself made
    for other products is not one that these fit."""
    wanted = {key for models in mentions.values() for model in models for key in model.keys}
    named: defaultdict[str, list[int]] = defaultdict(list)
    brands: dict[int, str] = {}
    for row in range(len(products)) if wanted else ():
        product = products[row]
        if keys := model_keys(product) & wanted:
            brands[row] = fold(product.brand or "").partition(" ")[0]
            for key in keys:
                named[key].append(row)
    found: dict[tuple[int, int, RelationKind, bool], NamedModel] = {}
    for row, models in mentions.items():
        product = products[row]
        brand_values = (text for name, text in product.attributes.items() if "brand" in name and isinstance(text, str))
        brand_texts = fold(" ".join((product.brand or "", product.title, *brand_values)))
        for model in models:
            key = next((key for key in model.keys if set(named.get(key, ())) - {row}), "")
            others = [other for other in named.get(key, ()) if other != row]
            for other in others if len(others) <= _MAX_NAMED else ():
                if brands[other] in brand_texts or brands[other] in model.text:
                    found.setdefault((row, other, model.kind, model.reverse), model)
    fitting = {row for row, _, kind, _ in found if kind is RelationKind.FITS}
    for (row, other, kind, _), model in sorted(found.items(), key=lambda each: each[0][:2]):
        if kind is not RelationKind.FITS or other not in fitting:
            yield row, other, model


def _named_types(products: ProductStore, known: ProductTypes, types: Sequence[str]) -> dict[tuple[str, str], int]:
    """The number of titles of a type that say they are for another type, if there are enough."""
    counts: Counter[tuple[str, str]] = Counter()
    for row, name in enumerate(types):
        others = {known.number_of(thing) for thing in named_things(products[row].title)} if name else set()
        counts.update((name, " ".join(known.phrases[number])) for number in others if number >= 0)
    sizes = Counter(types)
    return {
        (name, other): count
        for (name, other), count in counts.items()
        if _head(name) != _head(other) and count >= max(_MIN_TITLES, _MIN_SHARE * sizes[name])
    }


def _head(name: str) -> str:
    return name.rpartition(" ")[2]


def relation_maker(catalog: RelationCatalog) -> TableMaker:
    """Makes the tables `relations` and `relation_types`, and `neighbours`, from which they are made."""

    return TableMaker("neighbours", (ACT_PARTIAL,), partial(_tables, catalog))


def _tables(catalog: RelationCatalog, read: PartialReader, context: Context) -> Mapping[str, pl.DataFrame]:
    near = neighbours(read, context)
    rows = pl.DataFrame({"product_id": catalog.ids}, schema={"product_id": pl.String}).with_row_index("row")
    acts = read(ACT_PARTIAL).join(rows.with_columns(pl.col("row").cast(pl.Int64)), on="product_id")
    work = _Work(catalog, acts, context)
    products = pl.concat([work.complements(), work.substitutes(near), _text_relations(catalog)])
    ordered = products.sort("kind", "product_id", "strength", "other_id", descending=[False, False, True, False])
    # Types whose titles say that they are for another type.
    sizes = Counter(catalog.types)
    titles = [
        ("accessory", name, other, RelationEvidence.TEXTS.value, count / sizes[name], 0)
        for (name, other), count in catalog.accessories.items()
    ]
    types = pl.concat([work.types(), pl.DataFrame(titles, schema=_TYPES_SCHEMA, orient="row")])
    types = types.sort("kind", "type", "strength", "other")
    return {"neighbours": near, RELATIONS: ordered, RELATION_TYPES: types}


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """The relations that shoppers' acts support."""

    catalog: RelationCatalog
    acts: pl.DataFrame
    context: Context

    def complements(self) -> pl.DataFrame:
        """Pairs of products that are not alike, chosen by the same shoppers in one visit or bought at any time."""
        wants = self.acts.filter(pl.col("kind").is_in(_WANTS))
        pairs = pl.concat([_pairs(wants, _SESSION), _pairs(wants.filter(pl.col("kind") == "purchase"), (WHO,))])
        table = pairs.group_by("row", "other").agg(shoppers=pl.col(WHO).n_unique(), later=pl.col("later").mean())
        table = self._in_one_trade(self._in_one_language(self._beyond_chance(table, wants, wants)))
        alike = self._alike(table)
        table = table.with_columns(alike=alike).filter(pl.col("alike") < _ALIKE)
        main, accessory = self._accessories(table)
        kind = pl.when(accessory).then(pl.lit(RelationKind.ACCESSORY)).otherwise(pl.lit(RelationKind.COMPLEMENT))
        # A row reads "the product is an accessory of the other", so the main product is the other.
        turned = table.with_columns(
            kind=kind,
            row=pl.when(main).then("other").otherwise("row"),
            other=pl.when(main).then("row").otherwise("other"),
        )
        return self._table(turned.with_columns(strength=pl.col("strength") * (1 - pl.col("alike"))))

    def substitutes(self, near: pl.DataFrame) -> pl.DataFrame:
        """Products that are alike and were viewed by the same shoppers, or chosen when the product was only viewed."""
        wants = self.acts.filter(pl.col("kind").is_in(_WANTS))
        views = self.acts.filter(pl.col("kind").is_in(VIEWS))
        chosen = wants.select(*_SESSION, "row").unique()
        passed = views.select(*_SESSION, "row").unique().join(chosen, on=[*_SESSION, "row"], how="anti")
        is_small = pl.len().over(_SESSION) <= _LARGEST_VISIT
        pairs = passed.filter(is_small).join(chosen.filter(is_small).rename({"row": "other"}), on=_SESSION)
        table = pairs.group_by("row", "other").agg(shoppers=pl.col(WHO).n_unique())
        table = self._beyond_chance(table, views, wants).select("row", "other", "shoppers", "strength")
        rows = pl.DataFrame({"name": self.catalog.ids}, schema={"name": pl.String}).with_row_index("at")
        rows = rows.with_columns(pl.col("at").cast(pl.Int64))
        viewed = near.filter(pl.col("kind") == "view").join(rows, left_on="product_id", right_on="name")
        viewed = viewed.join(rows.rename({"at": "other"}), left_on="neighbour_id", right_on="name")
        seen = viewed.select(
            row="at", other="other", shoppers="shoppers", strength=pl.col("similarity").cast(pl.Float64)
        )
        both = pl.concat([table, seen.cast(table.schema)])
        best = both.group_by("row", "other").agg(pl.col("shoppers").max(), pl.col("strength").max())
        best = best.with_columns(alike=self._alike(best), kind=pl.lit(RelationKind.SUBSTITUTE))
        best = best.filter(pl.col("alike") >= _ALIKE)
        return self._table(best.with_columns(strength=pl.col("strength") * pl.col("alike")))

    def types(self) -> pl.DataFrame:
        """Pairs of types, and of categories: shoppers chose a product of the one and acted on one of the other."""
        wants = self.acts.filter(pl.col("kind").is_in(_WANTS)).group_by(*_SESSION, "row").agg(pl.col("time").min())
        acts = self.acts.group_by(*_SESSION, "row").agg(pl.col("time").max())
        acts = acts.filter(pl.len().over(_SESSION) <= _LARGEST_VISIT)
        pairs = wants.join(acts.rename({"row": "other", "time": "then"}), on=_SESSION)
        pairs = self._in_one_trade(self._in_one_language(pairs.filter(pl.col("row") != pl.col("other"))))
        pairs = pairs.with_columns(alike=self._alike(pairs)).filter(pl.col("alike") < _ALIKE)
        names = self._names()
        typed = pairs.join(names, on="row").join(names.rename({"row": "other", "name": "to"}), on=["other", "level"])
        typed = typed.filter(pl.col("name") != pl.col("to"))
        counted = typed.group_by("name", "to").agg(
            shoppers=pl.col(WHO).n_unique(), later=(pl.col("then") >= pl.col("time")).mean()
        )
        back = counted.select(name="to", to="name", back="shoppers")
        counted = counted.join(back, on=["name", "to"], how="left").with_columns(pl.col("back").fill_null(0))
        counted = counted.filter(pl.col("shoppers") >= self.context.options.least_shoppers)
        people = self.acts[WHO].n_unique()
        wanting = wants.join(names, on="row").group_by("name").agg(wanting=pl.col(WHO).n_unique())
        acting = acts.join(names, on="row").group_by(to="name").agg(acting=pl.col(WHO).n_unique())
        # Shoppers with several visits meet more types, so chance is computed for one visit.
        table = counted.join(wanting, on="name").join(acting, on="to")
        visits = self.acts.select(_SESSION).n_unique()
        expected = pl.col("wanting") * pl.col("acting") / max(visits, people, 1)
        table = table.filter(pl.col("shoppers") >= _MIN_LIFT * expected)
        strength = (pl.col("shoppers") - expected) / (pl.col("shoppers") + SHRINKAGE)
        medians = self._median_prices()
        table = table.join(medians, on="name", how="left").join(
            medians.rename({"name": "to", "price": "to_price"}), on="to", how="left"
        )
        is_cheaper = pl.col("to_price") <= _CHEAPER * pl.col("price")
        is_accessory = is_cheaper & (pl.col("later") >= _LATER) & (pl.col("back") <= _BACK * pl.col("shoppers"))
        return table.select(
            kind=pl.when(is_accessory).then(pl.lit("accessory")).otherwise(pl.lit("complement")),
            type=pl.when(is_accessory).then("to").otherwise("name"),
            other=pl.when(is_accessory).then("name").otherwise("to"),
            evidence=pl.lit(RelationEvidence.TYPES.value),
            strength=strength,
            shoppers="shoppers",
        ).cast(_TYPES_SCHEMA)

    def _in_one_language(self, table: pl.DataFrame) -> pl.DataFrame:
        """Removes pairs in two languages: names of types and categories do not show whether they are alike."""
        languages = pl.Series(self.catalog.languages, dtype=pl.String)
        one, other = (languages.gather(table[side]) for side in ("row", "other"))
        return table.filter((one == other) | (one == "") | (other == ""))

    def _in_one_trade(self, table: pl.DataFrame) -> pl.DataFrame:
        """Removes pairs of two root categories, unless more visits have products of both than by chance: a query with a
        word of two trades brings a few shoppers to both."""
        roots = pl.Series([name.partition(CATEGORY_SEPARATOR)[0] for name in self.catalog.categories], dtype=pl.String)
        visits = self.acts.select(*_SESSION, root=roots.gather(self.acts["row"])).unique()
        visited = visits.group_by("root").len("visits")
        both = visits.join(visits.rename({"root": "to"}), on=_SESSION).group_by("root", "to").len("both")
        both = both.join(visited, on="root").join(visited.rename({"root": "to", "visits": "of_to"}), on="to")
        total = self.acts.select(_SESSION).n_unique()
        supported = both.filter(pl.col("both") * total > pl.col("visits") * pl.col("of_to")).select("root", "to")
        pairs = table.with_columns(root=roots.gather(table["row"]), to=roots.gather(table["other"]))
        related = pairs.join(supported, on=["root", "to"], how="semi")
        same = pairs.join(supported, on=["root", "to"], how="anti").filter(
            (pl.col("root") == pl.col("to")) | (pl.col("root") == "") | (pl.col("to") == "")
        )
        return pl.concat([related, same]).select(table.columns)

    def _names(self) -> pl.DataFrame:
        """Rows with the names of their types and categories, by level."""
        rows = np.arange(len(self.catalog.ids))
        levels = (("type", self.catalog.types), ("category", self.catalog.categories))
        tables = [
            pl.DataFrame({"row": rows, "name": list(names)}, schema={"row": pl.Int64, "name": pl.String}).with_columns(
                level=pl.lit(level)
            )
            for level, names in levels
        ]
        return pl.concat(tables).filter(pl.col("name") != "")

    def _median_prices(self) -> pl.DataFrame:
        prices = pl.DataFrame({"row": np.arange(len(self.catalog.ids)), "price": self.catalog.prices})
        return (
            self._names()
            .join(prices.filter(pl.col("price").is_not_nan()), on="row")
            .group_by("name")
            .agg(pl.col("price").median())
        )

    def _accessories(self, table: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
        """Whether the first product of each pair is the main one, and whether either is: the other is much cheaper, and
        chosen with it or later."""
        prices = self.catalog.prices
        one, other = (prices[table[side].to_numpy()] for side in ("row", "other"))
        later = table["later"].to_numpy()
        with np.errstate(invalid="ignore"):
            first = (other <= _CHEAPER * one) & (later >= _LATER)
            second = (one <= _CHEAPER * other) & (1 - later >= _LATER)
        return pl.Series("main", first), pl.Series("accessory", first | second)

    def _beyond_chance(self, table: pl.DataFrame, acts: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
        """Pairs with enough shoppers and their strength: the share of shoppers beyond those expected by chance, shrunk
        for small numbers."""
        table = table.filter(pl.col("shoppers") >= self.context.options.least_shoppers)
        one = acts.group_by("row").agg(one=pl.col(WHO).n_unique())
        two = others.group_by(other="row").agg(two=pl.col(WHO).n_unique())
        people = max(pl.concat([acts.select(WHO), others.select(WHO)]).n_unique(), 1)
        expected = pl.col("one").cast(pl.Float64) * pl.col("two") / people
        strength = (pl.col("shoppers") - expected) / (pl.col("shoppers") + SHRINKAGE)
        return (
            table.join(one, on="row")
            .join(two, on="other")
            .with_columns(strength=strength)
            .filter(pl.col("strength") > 0)
        )

    def _alike(self, table: pl.DataFrame) -> pl.Series:
        rows, others = (table[side].to_numpy().astype(np.int64) for side in ("row", "other"))
        return pl.Series("alike", self.catalog.alikeness(rows, others))

    def _table(self, table: pl.DataFrame) -> pl.DataFrame:
        ids = pl.Series(self.catalog.ids, dtype=pl.String)
        return table.select(
            kind="kind",
            product_id=ids.gather(table["row"]),
            other_id=ids.gather(table["other"]),
            evidence=pl.lit(RelationEvidence.SHOPPERS.value),
            detail=pl.lit(""),
            strength=pl.col("strength").clip(0, 1),
            shoppers="shoppers",
        ).cast(_SCHEMA)


def _pairs(wants: pl.DataFrame, within: Sequence[str]) -> pl.DataFrame:
    """Pairs of products (row < other) within visits, or of one shopper: who, row, other, and whether the other was
    chosen with the first or later."""
    items = wants.group_by(*dict.fromkeys((*within, WHO)), "row").agg(pl.col("time").min())
    items = items.filter(pl.len().over(within) <= _LARGEST_VISIT)
    others = items.select(*within, other="row", then="time")
    pairs = items.join(others, on=list(within)).filter(pl.col("row") < pl.col("other"))
    return pairs.select(WHO, "row", "other", later=(pl.col("then") >= pl.col("time")).cast(pl.Float64))


_BY_ATTRIBUTE, _BY_TEXT = 1.0, 0.8
"""Strengths of relations from attributes and from texts."""


def _text_relations(catalog: RelationCatalog) -> pl.DataFrame:
    """Relations from texts: a product fits, is a part of or contains another. Products that are alike do not fit each
    other; nothing fits a product made for others, such as a toner cartridge with a printer's model in its title."""
    if not catalog.named:
        return pl.DataFrame(schema=_SCHEMA)
    rows, others = (np.array([each[side] for each in catalog.named], np.int64) for side in (0, 1))
    alike = catalog.alikeness(rows, others)
    made_for_others = _made_for_others(catalog)
    found = []
    for (row, other, model), share in zip(catalog.named, alike.tolist(), strict=True):
        if model.kind is RelationKind.FITS and (share >= _ALIKE or _head(catalog.types[other]) in made_for_others):
            continue
        part, whole = (other, row) if model.reverse else (row, other)
        strength = _BY_ATTRIBUTE if model.evidence is RelationEvidence.ATTRIBUTES else _BY_TEXT
        ids = catalog.ids[part], catalog.ids[whole]
        found.append((model.kind.value, *ids, model.evidence.value, f"{model.field}: {model.text}", strength, 0))
    return pl.DataFrame(found, schema=_SCHEMA, orient="row")


def _made_for_others(catalog: RelationCatalog) -> frozenset[str]:
    """Heads of types with more products that name what they fit than products that are named."""
    fits = [(row, other) for row, other, model in catalog.named if model.kind is RelationKind.FITS]
    naming, named = (Counter(_head(catalog.types[row]) for row in {pair[side] for pair in fits}) for side in (0, 1))
    return frozenset(head for head, count in naming.items() if head and count > named[head])
