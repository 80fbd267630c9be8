"""The commands for live changes: upsert, delete, patch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from service.options import (
    FormatOption,
    IndexArgument,
    JsonOption,
    MapOption,
    MappingOption,
    feed_mapping,
    opened_engine,
)

if TYPE_CHECKING:
    from indexer.feeds import Rejected
    from retrieval.records import Product
    from service.engine import SearchEngine

_BATCH = 1_000
_MOST_SHOWN = 10


@dataclass(frozen=True, slots=True)
class _Taken:
    """How many products a feed had, how many of them are new or other than before, and the last change's number."""

    read: int = 0
    products: int = 0
    sequence: int = 0


def upsert(
    index: IndexArgument,
    feeds: Annotated[
        list[str],
        typer.Argument(help="Feeds in any format that rebuild reads; - is standard input.", metavar="FEED"),
    ],
    mapping: MappingOption = None,
    maps: MapOption = None,
    feed_format: FormatOption = "",
    as_json: JsonOption = False,
) -> None:
    """Add the products of a feed to an index, or replace those of the same id, at once and without a rebuild."""
    from indexer.feeds import read_products
    from retrieval.errors import FeedError

    fields = feed_mapping(mapping, maps)
    rejected: Counter[str] = Counter()
    shown: list[str] = []

    def reject(row: Rejected) -> None:
        rejected[row.reason] += 1
        if len(shown) < _MOST_SHOWN:
            shown.append(f"{row.file} line {row.line}: {row.reason}{f': {row.detail}' if row.detail else ''}")

    with opened_engine(index) as engine:
        rows = read_products(feeds, fields, reject, format=feed_format)
        taken = _upserted(engine, (row.product for row in rows))
    if rejected and not taken.read:
        raise FeedError(f"no row can be used, so nothing is changed; {'; '.join(shown)}")
    _show_rejected(rejected, shown)
    report = {"sequence": taken.sequence, "products": taken.products, "rejected": dict(rejected)}
    _show(report, "added or replaced", as_json)


def delete(
    index: IndexArgument,
    ids: Annotated[list[str], typer.Argument(help="Ids of products.", metavar="ID")],
    as_json: JsonOption = False,
) -> None:
    """Take products out of an index, at once; ids that are not there are no error."""
    with opened_engine(index) as engine:
        changed = engine.delete(ids)
    _show({"sequence": changed.sequence, "products": changed.products}, "deleted", as_json)


def patch(
    index: IndexArgument,
    product: Annotated[str, typer.Argument(help="A product's id.", metavar="ID")],
    values: Annotated[
        list[str], typer.Argument(help="New values; an empty one clears the field.", metavar="FIELD=VALUE")
    ],
    as_json: JsonOption = False,
) -> None:
    """Change some fields of a product, at once: its price, its availability, an attribute."""
    from service.change_values import parse_values

    parsed = parse_values(product, values)
    with opened_engine(index) as engine:
        changed = engine.patch(product, **parsed)
    _show({"sequence": changed.sequence, "products": changed.products}, "changed", as_json)


def _upserted(engine: SearchEngine, products: Iterator[Product]) -> _Taken:
    """Takes products in batches, each whole or not at all."""
    taken = _Taken()
    while batch := _cleaned(islice(products, _BATCH)):
        changed = engine.upsert(batch)
        sequence = max(taken.sequence, changed.sequence)
        taken = _Taken(taken.read + len(batch), taken.products + changed.products, sequence)
    return taken


def _cleaned(products: Iterable[Product]) -> list[Product]:
    """As a rebuild cleans them, so that the next one finds the feed's products to be these."""
    from indexer.cleaning.cleaner import Cleaner

    return list(Cleaner().clean(list(products)).products)


def _show_rejected(rejected: Counter[str], shown: list[str]) -> None:
    from service.terminal import show_notices

    more = rejected.total() - len(shown)
    show_notices((*shown, f"and {more:,} more rows") if more else tuple(shown))


def _show(report: dict[str, object], what: str, as_json: bool) -> None:
    import msgspec

    from service.terminal import out, write_json

    if as_json:
        write_json(msgspec.json.encode(report))
        return
    count = report["products"]
    out.print(f"{count:,} product{'' if count == 1 else 's'} {what}.", highlight=False)


EXAMPLES = (
    (upsert, "Example: shelfwise upsert store new-products.jsonl"),
    (delete, "Example: shelfwise delete store 3920564 3920565"),
    (patch, "Example: shelfwise patch store 3920564 price=9.99 availability=in_stock attributes.colour=red expires="),
)
"""Each command, and what its help ends with."""
