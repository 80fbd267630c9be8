"""Commands that read feeds: `rebuild` and `check`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from pydantic import ByteSize, TypeAdapter, ValidationError
from rich.console import Console
from rich.text import Text
from typer import Argument, Exit, Option

from shelfwise.indexer.build import RebuildOptions, RebuildReport
from shelfwise.indexer.build import rebuild as run_rebuild
from shelfwise.indexer.embedding import STATIC, distil_encoder, teacher_name
from shelfwise.indexer.pictures import PictureOptions
from shelfwise.indexer.pipeline import FeedOptions, check_feeds
from shelfwise.indexer.quality.report import Finding, QualityReport, ReasonCount, html
from shelfwise.indexer.quality.rules import Measure, QualityRule, Severity, built_in_rules, merge_custom_rules
from shelfwise.indexer.rejects import REJECTED_FILE
from shelfwise.indexer.targets import MoveReport, ReencodeReport, reencode
from shelfwise.indexer.targets import move as run_move
from shelfwise.rerank.ranker.spec import ranker_store
from shelfwise.retrieval.elasticsearch.settings import ClusterSettings
from shelfwise.retrieval.encoders.base import Encoder
from shelfwise.retrieval.encoders.registry import open_encoder
from shelfwise.retrieval.errors import PublishRefusedError, SettingError
from shelfwise.retrieval.store.manifest import QUALITY_FILE, QUALITY_PAGE
from shelfwise.retrieval.store.products import ProductStore
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.value_texts import printable, share_text
from shelfwise.service.cli import output
from shelfwise.service.cli.options import (
    Backend,
    FeedFormat,
    Feeds,
    HtmlFile,
    Index,
    Runtime,
    SettingsFile,
    Workers,
    command,
)
from shelfwise.service.cli.output import (
    TerminalProgress,
    changes_text,
    count_text,
    counts_text,
    emit,
    say,
    show_pairs,
    show_rows,
)
from shelfwise.service.curation.relevance import RelevanceStore
from shelfwise.service.engine.versions import cluster_of, current_manifest
from shelfwise.service.settings import cache_folder, load_settings


def parse_size(option: str, text: str) -> int:
    """The bytes of a size such as 512MB or 2GiB; raises SettingError, which names the option."""
    try:
        size = int(TypeAdapter(ByteSize).validate_python(text))
    except (ValidationError, OverflowError):
        size = 0
    if not size:
        raise SettingError(f"{option} {text!r} is not a size; use 512MB, 2GB or 2GiB")
    return size


RulesFile = Annotated[Path | None, Option("--rules", help="A TOML file with your own quality rules.")]


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """Options for the backend, the encoder, and how much of an index is built."""

    backend: Annotated[
        Backend | None, Option(help="Backend of keyword search; by default as set, or that of the index.")
    ] = None
    encoder: Annotated[
        str,
        Option(
            help="Name or folder of a model; by default the one named before, or chosen by the catalog. "
            "Without a feed, the serving version is encoded. static distils one on this catalog, static:NAME from "
            "that model: it encodes a hundred times as fast."
        ),
    ] = ""
    runtime: Runtime = "auto"
    dimension: Annotated[
        int | None,
        Option(help="Cut vectors of --encoder to their first columns; suits models trained with --matryoshka.", min=1),
    ] = None
    memory: Annotated[
        str,
        Option(
            help="Memory of the serving machine, half of it for the vector index, such as 2GB: determines the "
            "kind of index. By default that of this machine, or the present kind."
        ),
    ] = ""
    pictures: Annotated[
        str,
        Option(
            help="Name or folder of a CLIP-like model, such as clip-ViT-B-32, that encodes the products' pictures; "
            "later rebuilds keep it, none leaves pictures out.",
            metavar="MODEL",
        ),
    ] = ""
    full: Annotated[
        bool, Option("--full", help="Also read, check and index unchanged products; their vectors stay.")
    ] = False
    settings: SettingsFile = None


@command("rebuild store products.jsonl.gz")
def rebuild(
    index: Index,
    where: BackendOptions,
    feed: FeedFormat,
    feeds: Annotated[
        list[str] | None,
        Argument(
            help="Feeds as exported by a shop, plain, gzip or zstd; - for standard input. "
            "Without one, the serving version is moved to the backend, or encoded with the encoder.",
            metavar="FEED",
        ),
    ] = None,
    *,
    rules: RulesFile = None,
    synonyms: Annotated[
        Path | None, Option(help="A file of synonyms: 'sofa, couch' or 'hdd => hard disk'. Later rebuilds keep them.")
    ] = None,
    keep: Annotated[int, Option(help="Number of versions to keep, including the new one.", min=1)] = 3,
    force: Annotated[bool, Option("--force", help="Publish even if much of the catalog would be lost.")] = False,
    workers: Workers = None,
    ray: Annotated[
        str,
        Option(
            "--ray",
            help="Read, check and encode on a Ray cluster: HOST:PORT, auto for the one of this machine, or local to "
            "start one for this run. Feeds and index must have the same paths on all machines.",
            metavar="ADDRESS",
        ),
    ] = "",
) -> None:
    """Read, check, encode, index and publish a catalog. Only changed products are encoded again."""
    if where.dimension and not where.encoder:
        raise SettingError("--dimension cuts the vectors of an encoder: name it with --encoder, even the serving one")
    memory = parse_size("--memory", where.memory) if where.memory else None
    if memory is not None and not feeds:
        raise SettingError("--memory needs a rebuild from a feed: name a feed")
    if ray and not feeds:
        raise SettingError("--ray needs a rebuild from feeds, as in: rebuild store FEED --ray local")
    if where.pictures and not feeds:
        raise SettingError("--pictures needs a rebuild from a feed: name a feed")
    if where.encoder and not feeds:
        if where.backend:
            raise SettingError("without a feed, --encoder cannot be combined with --backend: run twice")
        cluster = cluster_of(index, load_settings(where.settings))
        with TerminalProgress() as progress:
            encoder, name = _named_encoder(index, where, progress)
            reencoding = reencode(index, encoder, name, progress, cluster=cluster, keep=keep)
        _encode_answers(index, where.settings)
        emit(reencoding, _show_reencoding)
        return
    cluster = _cluster(index, where)
    if not feeds:
        with TerminalProgress() as progress:
            moved = run_move(index, cluster, progress, keep=keep)
        emit(moved, _show_move)
        return
    options = RebuildOptions(
        feeds=tuple(feeds),
        cache=cache_folder(),
        mapping=feed.fields(),
        encoder=where.encoder,
        runtime=where.runtime,
        dimension=where.dimension,
        synonyms=synonyms,
        weights=RelevanceStore(index).current().fields,
        keep=keep,
        format=feed.format,
        rules=_rules(rules),
        workers=workers,
        full=where.full,
        force=force,
        memory=memory,
        cluster=cluster,
        pictures=PictureOptions(where.pictures, load_settings(where.settings).pictures.folder),
        ray=ray,
    )
    with TerminalProgress() as progress:
        try:
            report = run_rebuild(index, options, progress)
        except PublishRefusedError:
            _show_rejects(_read_quality(index), index / REJECTED_FILE, output.err)
            raise
    _encode_answers(index, where.settings)
    emit(report, show_rebuild, index)


def _named_encoder(index: Path, where: BackendOptions, progress: TerminalProgress) -> tuple[Encoder, str]:
    """The encoder that the options name, and its name."""
    teacher = teacher_name(where.encoder)
    if teacher is None:
        return open_encoder(where.encoder, where.runtime, cache_folder(), dimension=where.dimension), where.encoder
    store = Store(index)
    serving = store.find_serving().manifest
    name = teacher or teacher_name(serving.encoder_name) or serving.encoder_name
    teacher_encoder = open_encoder(name, where.runtime, cache_folder())
    products = ProductStore(store.version_folder(serving.version))
    encoder = distil_encoder(teacher_encoder, name, products, cache_folder(), progress, dimension=where.dimension)
    return encoder, f"{STATIC}:{name}"


def _cluster(index: Path, where: BackendOptions) -> ClusterSettings | None:
    """The cluster of keyword search, if any: by the options, the settings, or the serving version."""
    settings = load_settings(where.settings)
    serving = current_manifest(Store(index))
    cluster = serving.cluster if serving else None
    is_clustered = (where.backend or settings.backend or (cluster and "elasticsearch")) == "elasticsearch"
    return settings.cluster if is_clustered else None


def _encode_answers(index: Path, settings: Path | None) -> None:
    """Encodes the texts for answers that have no vector of the serving encoder."""
    from shelfwise.service.answers.faq import FaqStore
    from shelfwise.service.engine.engine import SearchEngine  # a rebuild without such texts opens no engine

    if FaqStore(index).revision():
        with SearchEngine.open(index, settings=load_settings(settings)) as engine:
            engine.answers.encode()


def show_rebuild(report: RebuildReport, index: Path) -> None:
    """Prints the summary of a rebuild."""
    changes = report.changes
    findings = ", ".join(count_text(count, severity) for severity, count in report.findings.items())
    seconds = ", ".join(f"{phase} {spent:.1f}" for phase, spent in report.seconds.items())
    show_pairs(
        (
            ("products", f"{report.products:,} of {report.read:,} rows read"),
            ("changes", f"{changes_text(changes)} since {changes.previous_version}" if changes else ""),
            ("live changes", f"{report.live:,} take precedence over the feed" if report.live else ""),
            ("rejected", f"{sum(report.rejected.values()):,}" if report.rejected else "none"),
            ("values dropped", counts_text(report.noted)),
            ("cleaned", counts_text(report.cleaned)),
            ("quality", f"{findings or 'no findings'}; see {index / QUALITY_PAGE}"),
            ("encoder", f"{report.encoder}: {report.encoder_reason}"),
            ("vectors", f"{report.encoded:,} encoded, {report.reused:,} reused"),
            ("pictures", _pictures_text(report)),
            ("vector index", f"{report.index}: {report.index_reason}"),
            ("token states", f"{report.token_states:,}" if report.token_states else "none: this encoder has none"),
            ("seconds", f"{sum(report.seconds.values()):.1f} ({seconds})"),
            ("resumed", f"an interrupted run had finished {', '.join(report.resumed)}" if report.resumed else ""),
            ("size", f"{report.bytes / 1e6:,.1f} MB"),
        )
    )
    if report.published:
        say((report.version, "bold"), " is published and serves.")
    else:
        say("Nothing changed since ", (report.version, "bold"), ", which still serves.")
    _show_rejects(_read_quality(index), index / REJECTED_FILE)
    if report.token_states and not ranker_store(index).names():
        say(f"To rank better: shelfwise train ranker {index} --from-catalog")


def _read_quality(index: Path) -> QualityReport:
    return msgspec.json.decode((index / QUALITY_FILE).read_bytes(), type=QualityReport)


def _pictures_text(report: RebuildReport) -> str:
    if not (info := report.pictures):
        return ""
    failed = f"; unusable: {counts_text(dict(info.failed))}" if info.failed else ""
    old = f"; {info.old:,} older copies: their servers do not respond" if info.old else ""
    return f"{count_text(info.pictures, 'product')} with a picture, by {info.encoder_name}{failed}{old}"


def _show_move(report: MoveReport) -> None:
    where = "in the index directory" if report.backend == "embedded" else "in Elasticsearch"
    version = (report.version, "bold")
    if report.published:
        say(version, f" is published and serves: {report.products:,} products, {where}.")
    elif report.restored:
        say(version, " still serves; its lost parts in the cluster were restored.")
    else:
        say(version, f" still serves: it is already {where}.")


def _show_reencoding(report: ReencodeReport) -> None:
    version = (report.version, "bold")
    if not report.published:
        say(version, f" still serves: its vectors are already by {report.encoder}.")
        return
    spent = f"{report.encoded:,} texts encoded in {report.seconds:,.0f} s"
    say(version, f" is published and serves: {report.products:,} products by {report.encoder}, {spent}.")


@command("check products.csv --html report.html")
def check(
    feeds: Feeds,
    feed: FeedFormat,
    rules: RulesFile = None,
    page: HtmlFile = None,
    rejected: Annotated[
        Path | None, Option("--rejected", help="Write rejected rows to this file, to be repaired and read again.")
    ] = None,
    workers: Workers = None,
) -> None:
    """Report a feed's data quality: missing, inconsistent, wrong or old data, with example rows. Nothing is changed.

    The exit status is 1 if the feed has rows, but no usable one."""
    _check_writable("--html", page)
    _check_writable("--rejected", rejected)
    options = FeedOptions(tuple(feeds), mapping=feed.fields(), format=feed.format, rules=_rules(rules))
    with TerminalProgress() as progress:
        report = check_feeds(options, rejected, progress, workers=workers)
    if page is not None:
        page.write_text(html(report), "utf-8")
    emit(report, show_quality, rejected)
    if report.read and not report.products:
        raise Exit(1)


def _check_writable(option: str, path: Path | None) -> None:
    """Raises SettingError if a file cannot be written, before a long feed is read."""
    if path is not None and path.is_dir():
        raise SettingError(f"{option}: {path} is a directory; name a file in it")
    if path is not None and not path.absolute().parent.is_dir():
        raise SettingError(f"{option}: there is no folder {path.parent}; create it, or name another file")


def _rules(path: Path | None) -> tuple[QualityRule, ...]:
    return merge_custom_rules(path) if path else built_in_rules()


_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.INFO: "dim"}
_MAX_COUNTS = 8
_MAX_EXAMPLE = 60


def show_quality(report: QualityReport, rejected: Path | None = None) -> None:
    """Prints a report with scores, findings with an example each, and counts, at least 80 columns wide."""
    title = f"{count_text(report.products, 'product')} of {count_text(report.read, 'row')} read"
    sums: Counter[tuple[Measure, Severity]] = Counter()
    for finding in report.findings:
        sums[finding.measure, finding.severity] += finding.count
    rows = (
        (each.measure.value, share_text(each.score), *(sums[each.measure, one] or None for one in Severity))
        for each in report.scores
    )
    show_rows(("measure", "score", "errors", "warnings", "infos"), rows, title=title)
    say()
    empty = "No rule found a problem." if report.products else "There is no product to check."
    show_rows(("", "finding", "products", "share"), map(_finding_row, report.findings), empty=empty)
    noted = {name: each.count for name, each in report.noted.items() if not _is_remark(each)}
    for label, counts in (("dropped", noted), ("cleaned", report.cleaned)):
        parts = [f"{printable(name)} {count:,}" for name, count in list(counts.items())[:_MAX_COUNTS]]
        more = f", {len(counts) - _MAX_COUNTS} more" if len(counts) > _MAX_COUNTS else ""
        if counts:
            say(f"{label}: {', '.join(parts)}{more}")
    _show_rejects(report, rejected)


def _show_rejects(report: QualityReport, rejected: Path | None, to: Console | None = None) -> None:
    """Prints each reason for rejected rows with an example, the file with these rows, and remarks on whole feeds."""
    for reason, each in list(report.rejected.items())[:_MAX_COUNTS]:
        first = next(iter(each.examples), None)
        example = f", such as {Path(first.file).name}:{first.line} {first.title}".rstrip() if first else ""
        say(f"rejected: {count_text(each.count, 'row')}: {printable(reason + example)}", to=to)
    if report.rejected and rejected:
        say(f"The rejected rows are in {rejected}: repair them there and add that file to the feeds.", to=to)
    elif report.rejected:
        say("To write the rejected rows to a file: --rejected FILE", to=to)
    for name, each in report.noted.items():
        for remark in each.examples if _is_remark(each) else ():
            say(f"{Path(remark.file).name}: {printable(f'{name}; {remark.title}')}", to=to)


def _is_remark(noted: ReasonCount) -> bool:
    """Whether the notes are about whole feeds, not about values."""
    return any(not each.line for each in noted.examples)


def _finding_row(finding: Finding) -> tuple[str | int | Text, ...]:
    text = Text(printable(finding.says))
    if finding.examples:
        first = finding.examples[0]
        example = printable(f"{Path(first.file).name}:{first.line} {first.id}: {first.value or first.title}")
        text.append(f"\n{example[:_MAX_EXAMPLE]}", style="dim")
    severity = Text(finding.severity.value, style=_COLOURS[finding.severity])
    return severity, text, finding.count, share_text(finding.share)
