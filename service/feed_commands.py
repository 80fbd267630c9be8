"""The commands that read a store's feeds: rebuild and check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrieval.errors import SettingError
from service.options import (
    Backend,
    BackendOption,
    FeedsArgument,
    FormatOption,
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
)

if TYPE_CHECKING:
    from indexer.quality.rule import Rule
    from retrieval.cluster_settings import ClusterSettings


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
    from service.terminal import ProgressLines, show_report, write_json

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
    from rerank.ranker.registry import RankerRegistry
    from service.terminal import out

    if not RankerRegistry(index).names():
        out.print(
            f"To rank better: shelfwise train ranker --from-catalog --index {index}", markup=False, soft_wrap=True
        )


def _backends(
    index: Path, path: Path | None, backend: Backend | None, vectors: VectorsBackend | None
) -> tuple[ClusterSettings | None, bool]:
    """The cluster, where words are to be searched in one, and whether vectors are, too: as asked for, or as set, or as
    it is with the version that serves."""
    from retrieval.published import Store
    from service.settings import load_settings
    from service.version_list import current_manifest

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

    from indexer.moving import move
    from service.terminal import ProgressLines, show_move, write_json

    with ProgressLines() as progress:
        report = move(index, cluster, progress, vectors=vectors_in_cluster, keep=keep)
    write_json(msgspec.json.encode(report)) if as_json else show_move(report)


def _encode_again(
    index: Path, path: Path | None, encoder: str, runtime: str, dimension: int | None, keep: int, *, as_json: bool
) -> None:
    import msgspec

    from indexer.reencoding import reencode
    from retrieval.encoders import open_encoder
    from service.settings import load_settings
    from service.terminal import ProgressLines, show_reencoded, write_json
    from service.version_list import cluster_of

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

    from indexer.checking import check as run
    from indexer.intake import IntakeOptions
    from service.quality_view import show_quality
    from service.terminal import ProgressLines, write_json

    _check_writable("--html", page)
    _check_writable("--rejected", rejected)
    options = IntakeOptions(tuple(feeds), feed_mapping(mapping, maps), feed_format, _rules(rules))
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


def _rules(path: Path | None) -> tuple[Rule, ...]:
    from indexer.quality.rules import built_in_rules, with_own_rules

    return with_own_rules(path) if path else built_in_rules()


EXAMPLES = (
    (rebuild, "Example: shelfwise rebuild products.jsonl.gz --index store"),
    (check, "Example: shelfwise check products.csv --html report.html"),
)
