"""Live changes of an index: `index upsert`, `delete` and `patch`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Annotated

import msgspec
import typer

from indexer.cleaning.cleaner import Cleaner
from indexer.feeds.reader import RejectedRow, read_products
from retrieval.errors import ChangeError, FeedError
from retrieval.records import Product
from service.cli.options import FeedFormat, Feeds, Index, command
from service.cli.output import count_text, emit, say, show_notices
from service.cli.search import open_engine
from service.engine.engine import SearchEngine

_BATCH = 1_000
_MOST_SHOWN = 10


class ChangeReport(msgspec.Struct, frozen=True):
    """What a change did: the number of the last change, and how many products are new or different."""

    sequence: int = 0
    products: int = 0


class UpsertReport(ChangeReport, frozen=True):
    """The same of a feed, with the rows that could not be used, by reason."""

    rejected: dict[str, int] = {}


@command("index upsert store new-products.jsonl")
def upsert(index: Index, feeds: Feeds, feed: FeedFormat) -> None:
    """Add the products of a feed to an index, or replace those of the same id, at once and without a rebuild."""
    rejected: Counter[str] = Counter()
    examples: list[str] = []

    def reject(row: RejectedRow) -> None:
        rejected[row.reason] += 1
        if len(examples) < _MOST_SHOWN:
            examples.append(f"{row.file} line {row.line}: {row.reason}{f': {row.detail}' if row.detail else ''}")

    fields = feed.fields()
    with open_engine(index) as engine:
        rows = read_products(feeds, fields, reject, format=feed.format)
        read, done = _upsert(engine, (row.product for row in rows))
    if rejected and not read:
        raise FeedError(f"no row can be used, so nothing is changed; {'; '.join(examples)}")
    more = rejected.total() - len(examples)
    show_notices((*examples, f"and {more:,} more rows") if more else examples)
    emit(UpsertReport(done.sequence, done.products, dict(rejected)), _show_change, "added or replaced")


@command("index delete store 3920564 3920565")
def delete(index: Index, ids: Annotated[list[str], typer.Argument(help="Ids of products.", metavar="ID")]) -> None:
    """Remove products from an index, at once; ids that are not there are no error."""
    with open_engine(index) as engine:
        changed = engine.delete(ids)
    emit(ChangeReport(changed.sequence, changed.products), _show_change, "deleted")


@command("index patch store 3920564 price=9.99 availability=in_stock attributes.colour=red expires=")
def patch(
    index: Index,
    product: Annotated[str, typer.Argument(help="A product's id.", metavar="ID")],
    values: Annotated[
        list[str], typer.Argument(help="New values; an empty one clears the field.", metavar="FIELD=VALUE")
    ],
) -> None:
    """Change some fields of a product, at once: its price, its availability, an attribute."""
    parsed = parse_values(product, values)
    with open_engine(index) as engine:
        changed = engine.patch(product, **parsed)
    emit(ChangeReport(changed.sequence, changed.products), _show_change, "changed")


def _upsert(engine: SearchEngine, products: Iterator[Product]) -> tuple[int, ChangeReport]:
    """Upserts products in batches, each whole or not at all; returns how many were read, and what was done."""
    read, done = 0, ChangeReport()
    while batch := _clean(islice(products, _BATCH)):
        changed = engine.upsert(batch)
        read += len(batch)
        done = ChangeReport(max(done.sequence, changed.sequence), done.products + changed.products)
    return read, done


def _clean(products: Iterable[Product]) -> list[Product]:
    """As a rebuild cleans them, so that the next one finds the feed's products equal to these."""
    return list(Cleaner().clean(list(products)).products)


def _show_change(report: ChangeReport, done: str) -> None:
    say(f"{count_text(report.products, 'product')} {done}.")


# The values of a patch as they are typed in a terminal: FIELD=VALUE, read by the field's type.

_NUMBERS = ("price", "rating", "rating_count")
_REPEATABLE = ("images", "identifiers.", "attributes.")
_STRUCTURED = ("identifiers", "attributes", "variants")


def parse_values(product_id: str, typed: Sequence[str]) -> dict[str, object]:
    """The value of each field, for `retrieval.updates.validation.validate_patch` to check.

    An empty value clears the field. A category's levels are separated by `>`; images, one kind of identifier and one
    attribute are given several values by being named several times; whole mappings and variants are JSON. Raises
    ChangeError for what is not FIELD=VALUE, and for a second value where a field has one.
    """
    given: dict[str, list[str]] = {}
    for each in typed:
        name, equals, value = each.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ChangeError(f"product {product_id!r}: {each!r} is no FIELD=VALUE, such as price=9.99", product_id)
        given.setdefault(name, []).append(value)
    return {name: _parse_value(product_id, name, values) for name, values in given.items()}


def _parse_value(product_id: str, name: str, values: list[str]) -> object:
    value = values[0]
    if len(values) > 1:
        if not name.startswith(_REPEATABLE):
            raise ChangeError(
                f"product {product_id!r}: {name} is given {len(values)} values, it has one", product_id, name
            )
        return values
    if not value:
        return None
    if name in _NUMBERS:
        try:
            return float(value)
        except ValueError:
            return value  # which is then refused as the field's value
    if name == "category":
        return [level.strip() for level in value.split(">")]
    if name == "images" or name.startswith("identifiers."):
        return [value]
    return _parse_literal(value) if name in _STRUCTURED or name.startswith("attributes.") else value


def _parse_literal(value: str) -> object:
    """18 is a number, true a boolean, "18" in quotes a text, as is all that is no JSON."""
    try:
        found: object = msgspec.json.decode(value)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return value
    return found
