"""Recall against time of vector libraries, on the vectors of an index: without filters, and with several widths."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from shelfwise.benchmarks.latency import title_queries
from shelfwise.benchmarks.peers.adapters.vectors import Rows, filtered_values
from shelfwise.benchmarks.peers.measure import machine
from shelfwise.benchmarks.peers.process import NotOfferedError, Spec, opened
from shelfwise.benchmarks.peers.protocol import Catalog, Vectors
from shelfwise.benchmarks.tables import figure_table
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.html_report import INSIDE, png, show_grid, size_text, svg
from shelfwise.retrieval.index.vectors import CHUNK_ROWS, VECTORS_FILE, whole_floats
from shelfwise.retrieval.progress import Progress
from shelfwise.retrieval.store.files import load_array, write_durably
from shelfwise.retrieval.store.manifest import VECTORS_FOLDER
from shelfwise.service.cli.output import say, show_table
from shelfwise.service.engine.engine import SearchEngine

_ADAPTERS = "shelfwise.benchmarks.peers.adapters.vectors"
SERVED = "FAISS as served"
LIBRARIES: Mapping[str, Spec] = {
    SERVED: Spec(_ADAPTERS, "OwnIndex"),
    "hnswlib": Spec(_ADAPTERS, "Hnswlib", "hnswlib"),
    "usearch": Spec(_ADAPTERS, "Usearch", "usearch"),
    "voyager": Spec(_ADAPTERS, "Voyager", "voyager"),
    "scalable-vs": Spec(_ADAPTERS, "ScalableVectorSearch", "scalable-vs"),
    "qdrant": Spec(_ADAPTERS, "QdrantVectors", "qdrant"),
}
SHARES = (1.0, 0.1, 0.01)
"""The shares of products that pass a filter."""
_TIE = 1e-5
"""A product as near as the last exact one counts as found: products with equal vectors are interchangeable."""
_AT_RECALL = (0.95, 0.99)


class Point(msgspec.Struct, frozen=True):
    """A library's result with one effort under one filter."""

    share: float
    effort: int
    recall: float
    p50: float
    """Milliseconds per search."""
    p99: float


class LibraryFigures(msgspec.Struct, frozen=True):
    """The measurements of one library."""

    library: str
    versions: Mapping[str, str]
    build_seconds: float
    bytes: int
    """The size on disk."""
    resident: int
    """The memory of its process in bytes, with the index opened and searched."""
    points: tuple[Point, ...]


class VectorsReport(msgspec.Struct, frozen=True):
    """The measurements of all libraries."""

    products: int
    dimension: int
    queries: int
    k: int
    machine: Mapping[str, str]
    libraries: tuple[LibraryFigures, ...]


@dataclass(frozen=True, slots=True)
class VectorsOptions:
    """Options of the measurement of vector libraries."""

    index: Path
    folder: Path
    libraries: Sequence[str]
    cache: Path
    queries: int = 500
    k: int = 100
    cores: int = 2
    again: bool = False


def choose_libraries(names: str) -> list[str]:
    """The libraries of these names, separated by commas, the serving one first; all without names. Raises SettingError
    for an unknown one."""
    wanted = [name.strip() for name in names.split(",") if name.strip()] or list(LIBRARIES)
    if unknown := [name for name in wanted if name not in LIBRARIES]:
        raise SettingError(f"--libraries: {unknown[0]!r} is not a library; it can be {', '.join(LIBRARIES)}")
    return list(dict.fromkeys((SERVED, *wanted)))


def measure_vectors(options: VectorsOptions, progress: Progress) -> VectorsReport:
    """Measures each library, in a separate process, on the vectors of an index, with parts of its titles as queries.

    A library whose result is in the folder is not measured again, unless `again` is set. Raises what
    `SearchEngine.open` does, StoreError for a library that cannot be installed or fails.
    """
    options.folder.mkdir(parents=True, exist_ok=True)
    with SearchEngine.open(options.index, follow=False) as engine:
        queries = engine.snapshot.encoder.encode_queries(title_queries(engine, options.queries))
        version = options.index / "versions" / engine.manifest.version
    comparison = _Comparison(
        options, whole_floats(load_array(version / VECTORS_FOLDER / VECTORS_FILE)), queries, progress
    )
    measured = tuple(map(comparison.figures, options.libraries))
    facts = len(comparison.vectors), comparison.vectors.shape[1], len(queries), options.k
    return VectorsReport(*facts, machine(), measured)


class _Comparison:
    def __init__(self, options: VectorsOptions, vectors: Vectors, queries: Vectors, progress: Progress) -> None:
        self.vectors = vectors
        self._values = filtered_values(len(vectors))
        self._options, self._queries, self._progress = options, queries, progress
        self._folder = folder = options.folder.absolute()
        np.save(folder / "vectors.npy", vectors)
        np.save(folder / "queries.npy", queries)
        (folder / "items.jsonl").touch()
        progress.begin("exact", len(SHARES), "filters")
        self._least = {share: self._hundredth(share) for share in SHARES}
        progress.end(f"the nearest {options.k} of {len(vectors):,} vectors for {len(queries):,} queries")

    def _hundredth(self, share: float) -> NDArray[np.float32]:
        """The cosine of the last of each query's k nearest (q,)."""
        rows = np.flatnonzero(self._values < share)
        k = min(self._options.k, len(rows))
        best = np.empty((0, len(self._queries)), np.float32)
        for start in range(0, len(rows), CHUNK_ROWS):
            best = np.concatenate([best, self.vectors[rows[start : start + CHUNK_ROWS]] @ self._queries.T])
            best = np.partition(best, -k, axis=0)[-k:] if len(best) > k else best
        self._progress.advance(1)
        return best.min(axis=0)  # type: ignore[no-any-return]

    def figures(self, library: str) -> LibraryFigures:
        kept = self._folder / f"{library.replace(' ', '-')}.json"
        if kept.exists() and not self._options.again:
            return msgspec.json.decode(kept.read_bytes(), type=LibraryFigures)
        self._progress.begin(library, None, "")
        folder = self._folder / library.replace(" ", "-")
        folder.mkdir(exist_ok=True)
        for old in folder.rglob("*"):
            if old.is_file():
                old.unlink()
        with opened(LIBRARIES[library], self._catalog(folder), kept.with_suffix(".log")) as (peer, built, _):

            def sweep(effort: int, share: float) -> Mapping[str, Any]:
                given = {
                    "queries": str(self._folder / "queries.npy"),
                    "k": self._options.k,
                    "effort": effort,
                    "share": share,
                }
                swept: Mapping[str, Any] = peer.call("sweep", **given).result()
                return swept

            points = tuple(self._points(sweep, peer.call("offered").result()))
            resident = peer.resident()
        figures = LibraryFigures(library, built.versions, built.seconds, built.bytes, resident, points)
        write_durably(kept, msgspec.json.encode(figures))
        plain = [point for point in points if point.share == 1]
        self._progress.end(", ".join(f"{point.recall:.3f} in {point.p50:.2f} ms" for point in plain))
        return figures

    def _points(self, sweep: Callable[[int, float], Mapping[str, Any]], efforts: Sequence[int]) -> Iterator[Point]:
        for share in SHARES:
            for effort in efforts:
                with suppress(NotOfferedError):
                    swept = sweep(effort, share)
                    spent = 1_000 * np.array(swept["seconds"])
                    recall = self._recall(np.load(swept["found"]), share)
                    yield Point(share, effort, recall, *map(float, np.percentile(spent, (50, 99))))

    def _recall(self, found: Rows, share: float) -> float:
        """The mean share of the k nearest that are among the rows found (q, k)."""
        rows = np.maximum(found, 0)
        cosines = np.einsum("qkd,qd->qk", self.vectors[rows], self._queries)
        passes = (found >= 0) & (self._values[rows] < share)
        hits = (passes & (cosines >= self._least[share][:, None] - _TIE)).sum(axis=1)
        possible = min(self._options.k, int((self._values < share).sum()))
        return float(np.minimum(hits / possible, 1).mean())

    def _catalog(self, folder: Path) -> Catalog:
        nothing = Path()
        return Catalog(
            items=self._folder / "items.jsonl",
            vectors=self._folder / "vectors.npy",
            feed=nothing,
            folder=folder,
            encoder=nothing,
            encoder_name="",
            cross_encoder="",
            cache=self._options.cache,
            elasticsearch="",
            cores=self._options.cores,
        )


def milliseconds_at(figures: LibraryFigures, share: float, recall: float) -> float | None:
    """The lowest p50 in milliseconds at which a library reaches a recall; None if no tried effort does."""
    reached = [point.p50 for point in figures.points if point.share == share and point.recall >= recall]
    return min(reached, default=None)


def show_vectors(report: VectorsReport) -> None:
    """Shows the build, size and time of each library; first those that are ahead of the serving one."""
    say("\n".join(_ahead(report)) or f"No library is ahead of {SERVED}.")
    setting = f"{report.queries:,} queries, one thread, recall@{report.k}"
    times = [f"p50 ms at {recall:g}, {share:.0%}" for share in SHARES for recall in _AT_RECALL]
    table = figure_table(
        ["library", "build s", "disk", "memory", *times],
        f"{report.products:,} vectors of {report.dimension}, {setting}",
    )
    for each in report.libraries:
        cells = (_cell(each, share, recall) for share in SHARES for recall in _AT_RECALL)
        table.add_row(
            each.library, f"{each.build_seconds:.0f}", size_text(each.bytes), size_text(each.resident), *cells
        )
    show_table(table)
    say(", ".join(f"{name} {version}" for each in report.libraries for name, version in each.versions.items()))
    say(", ".join(f"{name} {value}" for name, value in report.machine.items()))


def _cell(figures: LibraryFigures, share: float, recall: float) -> str:
    """The milliseconds at a recall, or the highest recall that was reached."""
    if (spent := milliseconds_at(figures, share, recall)) is not None:
        return f"{spent:.2f}"
    highest = max((point.recall for point in figures.points if point.share == share), default=None)
    return "no filter" if highest is None else f"at most {highest:.3f}"


def _ahead(report: VectorsReport) -> Iterator[str]:
    served, *others = report.libraries
    for share, recall in itertools.product(SHARES, _AT_RECALL):
        ours = milliseconds_at(served, share, recall)
        for each in others:
            theirs = milliseconds_at(each, share, recall)
            if theirs is not None and (ours is None or theirs < ours):
                under = "" if share == 1 else f" under a filter of {share:.0%}"
                times = "and what serves does not" if ours is None else f"in {ours / theirs:.1f} times less time"
                yield f"{each.library} reaches a recall of {recall:g}{under}, {times}"


def write_vector_plots(report: VectorsReport, folder: Path) -> list[Path]:
    """Draws recall by time for each filter, as SVG and PNG files; returns the files."""
    written = []
    for share in SHARES:

        def draw(axes: Axes, share: float = share) -> None:
            for each in report.libraries:
                points = sorted((point.p50, point.recall) for point in each.points if point.share == share)
                axes.plot(
                    *zip(*points, strict=True) if points else ([], []), marker="o", markersize=3, label=each.library
                )
            axes.set_xscale("log")
            axes.set_xlabel("ms a search")
            axes.set_ylabel(f"recall@{report.k}")
            show_grid(axes, legend=INSIDE)

        name = f"recall-{share:.0%}".replace("%", "")
        vector, pixels = folder / f"{name}.svg", folder / f"{name}.png"
        vector.write_text(svg(3.2, draw, f"recall by time, {share:.0%} of the products"), "utf-8")
        pixels.write_bytes(png(3.2, draw))
        written += [vector, pixels]
    return written
