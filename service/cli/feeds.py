"""The commands that change an index: from a store's feeds, and by live changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieval.errors import ChangeError, SettingError
from service.cli.options import (
    Backend,
    BackendOption,
    FeedsArgument,
    FormatOption,
    IndexArgument,
    IndexOption,
    JsonOption,
    MapOption,
    MappingOption,
    OptionalFeedsArgument,
    RulesOption,
    SettingsOption,
    VectorsBackend,
    VectorsOption,
    WorkersOption,
    cache_folder,
    feed_mapping,
    opened_engine,
)

if TYPE_CHECKING:
    from indexer.feeds.reader import RejectedRow
    from indexer.quality.rules import QualityRule
    from retrieval.elasticsearch.settings import ClusterSettings
    from retrieval.records import Product
    from service.engine.engine import SearchEngine


def rebuild(
    feeds: OptionalFeedsArgument = None,
    index: IndexOption = Path("store"),
    backend: BackendOption = None,
    vectors: VectorsOption = None,
    settings: SettingsOption = None,
    feed_format: FormatOption = "",
    mapping: MappingOption = None,
    maps: MapOption = None,
    rules: RulesOption = None,
    encoder: Annotated[
        str,
        typer.Option(
            help="A model's name or folder; by default the one that was named before, or else the catalog decides. "
            "Without a feed, what serves is encoded."
        ),
    ] = "",
    runtime: Annotated[str, typer.Option(help="auto, torch, torch-bf16, onnx-fp32 or onnx-int8.")] = "auto",
    dimension: Annotated[
        int | None,
        typer.Option(
            help="Cut vectors of --encoder to their first columns; what was trained with --matryoshka bears it well.",
            min=1,
        ),
    ] = None,
    synonyms: Annotated[
        Path | None, typer.Option(help="A file of synonyms: 'sofa, couch' or 'hdd => hard disk'.")
    ] = None,
    keep: Annotated[int, typer.Option(help="Versions to keep, the new one among them.", min=1)] = 3,
    force: Annotated[
        bool, typer.Option("--force", help="Publish even where much of the catalog would be lost.")
    ] = False,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read, check, encode, index and publish a catalog; only what changed is encoded again."""
    import msgspec

    from indexer.build import RebuildOptions
    from indexer.build import rebuild as run
    from service.cli.output import ProgressLines, show_report, write_json

    if dimension and not encoder:
        raise SettingError(
            "--dimension cuts the vectors of an encoder: name it with --encoder, the one that serves too"
        )
    if encoder and not feeds:
        if backend or vectors:
            raise SettingError("without a feed, --encoder and --backend or --vectors are two runs: one after the other")
        _encode_again(index, settings, encoder, runtime, dimension, keep, as_json=as_json)
        return
    cluster, vectors_in_cluster = _backends(index, settings, backend, vectors)
    if not feeds:
        _move(index, cluster, keep, vectors_in_cluster=vectors_in_cluster, as_json=as_json)
        return
    options = RebuildOptions(
        feeds=tuple(feeds),
        cache=cache_folder(),
        mapping=feed_mapping(mapping, maps),
        encoder=encoder,
        runtime=runtime,
        dimension=dimension,
        synonyms=synonyms,
        keep=keep,
        format=feed_format,
        rules=_rules(rules),
        workers=workers,
        force=force,
        cluster=cluster,
        vectors_in_cluster=vectors_in_cluster,
    )
    with ProgressLines() as progress:
        report = run(index, options, progress)
    if as_json:
        write_json(msgspec.json.encode(report))
        return
    show_report(report, index)
    if report.token_states:
        _offer_training(index)


def _offer_training(index: Path) -> None:
    """Names the next step to better results, where it was not taken yet."""
    from rerank.ranker.spec import ranker_store
    from service.cli.output import out

    if not ranker_store(index).names():
        out.print(
            f"To rank better: shelfwise train ranker --from-catalog --index {index}", markup=False, soft_wrap=True
        )


def _backends(
    index: Path, path: Path | None, backend: Backend | None, vectors: VectorsBackend | None
) -> tuple[ClusterSettings | None, bool]:
    """The cluster, where words are to be searched in one, and whether vectors are, too: as asked for, or as set, or as
    it is with the version that serves."""
    from retrieval.store.versions import Store
    from service.engine.versions import current_manifest
    from service.settings import load_settings

    settings = load_settings(path)
    serving = current_manifest(Store(index))
    place = serving.cluster if serving else None
    is_clustered = (backend or settings.backend or (place and Backend.ELASTICSEARCH)) == Backend.ELASTICSEARCH
    has_vectors = place and place.vectors and VectorsBackend.ELASTICSEARCH
    in_cluster = (vectors or settings.vectors or has_vectors) == VectorsBackend.ELASTICSEARCH
    if is_clustered:
        return settings.cluster, in_cluster
    if (vectors or settings.vectors) == VectorsBackend.ELASTICSEARCH:
        raise SettingError("vectors are searched in Elasticsearch only where words are: set backend to elasticsearch")
    return None, False


def _move(index: Path, cluster: ClusterSettings | None, keep: int, *, vectors_in_cluster: bool, as_json: bool) -> None:
    import msgspec

    from indexer.migrate import move
    from service.cli.output import ProgressLines, show_move, write_json

    with ProgressLines() as progress:
        report = move(index, cluster, progress, vectors=vectors_in_cluster, keep=keep)
    write_json(msgspec.json.encode(report)) if as_json else show_move(report)


def _encode_again(
    index: Path, path: Path | None, encoder: str, runtime: str, dimension: int | None, keep: int, *, as_json: bool
) -> None:
    import msgspec

    from indexer.migrate import reencode
    from retrieval.encoders.registry import open_encoder
    from service.cli.output import ProgressLines, show_reencoded, write_json
    from service.engine.versions import cluster_of
    from service.settings import load_settings

    cluster = cluster_of(index, load_settings(path))
    opened = open_encoder(encoder, runtime, cache_folder(), dimension=dimension)
    with ProgressLines() as progress:
        report = reencode(index, opened, encoder, progress, cluster=cluster, keep=keep)
    write_json(msgspec.json.encode(report)) if as_json else show_reencoded(report)


def check(
    feeds: FeedsArgument,
    feed_format: FormatOption = "",
    mapping: MappingOption = None,
    maps: MapOption = None,
    rules: RulesOption = None,
    page: Annotated[Path | None, typer.Option("--html", help="Also write the report as one HTML page.")] = None,
    rejected: Annotated[
        Path | None, typer.Option("--rejected", help="Write the rows that cannot be used, to be repaired and read.")
    ] = None,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Report a feed's data quality: what is missing, inconsistent, wrong or old, with example rows. Changes nothing."""
    import msgspec

    from indexer.pipeline import FeedOptions
    from indexer.pipeline import check_feeds as run
    from service.cli.output import ProgressLines, write_json
    from service.cli.quality import show_quality

    _check_writable("--html", page)
    _check_writable("--rejected", rejected)
    options = FeedOptions(tuple(feeds), feed_mapping(mapping, maps), feed_format, _rules(rules))
    with ProgressLines() as progress:
        report = run(options, rejected, progress, workers=workers)
    if page is not None:
        from indexer.quality.page import html

        page.write_text(html(report), "utf-8")
    write_json(msgspec.json.encode(report)) if as_json else show_quality(report)


def _check_writable(option: str, path: Path | None) -> None:
    """Raises SettingError where a file cannot be there: it is told before a long feed is read."""
    if path is not None and path.is_dir():
        raise SettingError(f"{option}: {path} is a directory; name a file in it")
    if path is not None and not path.absolute().parent.is_dir():
        raise SettingError(f"{option}: there is no folder {path.parent}; make it, or name another file")


def _rules(path: Path | None) -> tuple[QualityRule, ...]:
    from indexer.quality.rules import built_in_rules, merge_custom_rules

    return merge_custom_rules(path) if path else built_in_rules()


EXAMPLES = (
    (rebuild, "Example: shelfwise rebuild products.jsonl.gz --index store"),
    (check, "Example: shelfwise check products.csv --html report.html"),
)


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
    from indexer.feeds.reader import read_products
    from retrieval.errors import FeedError

    fields = feed_mapping(mapping, maps)
    rejected: Counter[str] = Counter()
    shown: list[str] = []

    def reject(row: RejectedRow) -> None:
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
    from service.cli.output import show_notices

    more = rejected.total() - len(shown)
    show_notices((*shown, f"and {more:,} more rows") if more else tuple(shown))


def _show(report: dict[str, object], what: str, as_json: bool) -> None:
    import msgspec

    from service.cli.output import out, write_json

    if as_json:
        write_json(msgspec.json.encode(report))
        return
    count = report["products"]
    out.print(f"{count:,} product{'' if count == 1 else 's'} {what}.", highlight=False)


CHANGE_EXAMPLES = (
    (upsert, "Example: shelfwise upsert store new-products.jsonl"),
    (delete, "Example: shelfwise delete store 3920564 3920565"),
    (patch, "Example: shelfwise patch store 3920564 price=9.99 availability=in_stock attributes.colour=red expires="),
)
"""Each command, and what its help ends with."""


# The values of a patch as they are typed in a terminal: FIELD=VALUE, read by the field's type.

_NUMBERS = ("price", "rating", "rating_count")
_SEVERAL = ("images", "identifiers.", "attributes.")
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
    return {name: _value(product_id, name, values) for name, values in given.items()}


def _value(product_id: str, name: str, values: list[str]) -> object:
    value = values[0]
    if len(values) > 1:
        if not name.startswith(_SEVERAL):
            raise ChangeError(
                f"product {product_id!r}: {name} is given {len(values)} values, it has one", product_id, name
            )
        return values
    if not value:
        return None
    if name in _NUMBERS:
        return _number(value)
    if name == "category":
        return [level.strip() for level in value.split(">")]
    if name == "images" or name.startswith("identifiers."):
        return [value]
    return _literal(value) if name in _STRUCTURED or name.startswith("attributes.") else value


def _number(value: str) -> object:
    """A number, or the text itself, which is then refused as the field's value."""
    try:
        return float(value)
    except ValueError:
        return value


def _literal(value: str) -> object:
    """18 is a number, true a boolean, "18" in quotes a text, as is all that is no JSON."""
    import msgspec

    try:
        found: object = msgspec.json.decode(value)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return value
    return found
