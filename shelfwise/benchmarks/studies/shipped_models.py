"""The shipped models: a ranker for stores without one, and the table encoder of installations without torch.

The ranker is a features head distilled on the catalogs of several stores at once, so that it carries over to others.
Its mixing weight with the first stage is chosen on catalogs that its networks have not seen: each is left out once.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from scipy.special import expit
from typer import Argument, Option

from shelfwise.benchmarks.studies import run_study
from shelfwise.rerank.evaluation.promotion import NDCG
from shelfwise.rerank.model_card import ModelReport
from shelfwise.rerank.model_store import MODEL_FILE, WEIGHTS_FILE
from shelfwise.rerank.ranker.features import FEATURES, MEMORY_COLUMNS, SIGNALS
from shelfwise.rerank.ranker.network import NetworkShape, RankerNetwork, save_network
from shelfwise.rerank.ranker.onnx_export import export_network
from shelfwise.rerank.ranker.spec import RankerSpec, write_ranker
from shelfwise.rerank.teacher import DEFAULT_TEACHER
from shelfwise.rerank.training.datasets import full_batches, merged_scores
from shelfwise.rerank.training.distillation import (
    DistillationCatalog,
    DistilOptions,
    agreement,
    distil,
    mix_targets,
    split_lists,
)
from shelfwise.rerank.training.list_scores import fit_calibration, scores_of
from shelfwise.rerank.training.trainer import LoopOptions, Run
from shelfwise.retrieval.encoders.base import PROJECTION_FILE
from shelfwise.retrieval.encoders.folder import TOKENIZER_FILE, TORCH_FOLDER
from shelfwise.retrieval.encoders.static import quantise_rows
from shelfwise.retrieval.encoders.weights import DEFAULT_MODEL, MODULES_FILE, ORIGIN_FILE
from shelfwise.retrieval.errors import TrainingError
from shelfwise.retrieval.progress import NullProgress, Progress
from shelfwise.retrieval.store.files import atomic_folder
from shelfwise.service.cli.options import Teacher, command
from shelfwise.service.cli.output import TerminalProgress, emit, say, show_rows
from shelfwise.service.engine.snapshot import serving_snapshot
from shelfwise.service.settings import cache_folder
from shelfwise.service.training.ranker_dataset import CatalogOptions, list_data, score_lists
from shelfwise.service.training.ranker_from_lists import EVENT_WEIGHTS
from shelfwise.service.training.training_session import TEACHER_SCORES, TRAINING_FOLDER

MIXES = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Candidate weights of the merged score relative to the network's."""
_READ = FEATURES[: MEMORY_COLUMNS.start]
"""Features without the store's memory of queries."""


@dataclass(frozen=True, slots=True)
class DefaultOptions:
    """Training data and options."""

    catalog: CatalogOptions = field(default_factory=lambda: CatalogOptions(queries=4_000))
    """Options for each catalog."""
    distilling: DistilOptions = field(default_factory=DistilOptions)


@dataclass(frozen=True, slots=True)
class _CatalogStore:
    name: str
    encoder: str
    vector_dimension: int
    teacher: str
    """Identity of the teacher."""
    catalog: DistillationCatalog
    fits: NDArray[np.float64]
    """Relevance of each candidate by the teacher (m,)."""


def train_default(indexes: Sequence[Path], target: Path, options: DefaultOptions, progress: Progress) -> ModelReport:
    """Trains on the serving versions of several index directories, and writes a ranker's folder.

    Raises TrainingError for fewer than two indexes, or indexes of different encoders, SettingError if `target` exists,
    and the errors of `shelfwise.service.training.training_session.train_from_catalog`.
    """
    if len(indexes) < 2:
        raise TrainingError("a default ranker needs at least two catalogs")
    stores = [_store(root, options, progress) for root in indexes]
    if len(kinds := sorted({store.encoder for store in stores})) > 1:
        raise TrainingError(f"the indexes have different encoders: {', '.join(kinds)}; rebuild them with one")
    progress.begin("left out", len(stores), "catalogs")
    agreements = np.array([_left_out(stores, at, options, progress) for at in range(len(stores))])
    # The smallest gain over the merged order counts, since the ranker must not lose on any catalog.
    gains = agreements[:, :-1] - agreements[:, -1:]
    chosen = int(gains.min(axis=0).argmax())
    progress.end(f"weight of the merged score: {MIXES[chosen]:g}")
    progress.begin("features", None, "steps")
    network = _trained(stores, options, progress)
    progress.end(f"{len(stores)} catalogs")
    spec = _spec(stores, network, MIXES[chosen], options)
    report = ModelReport(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        measured_on="synthetic queries of each catalog, judged by the teacher, by networks trained on the others",
        measures={
            f"{NDCG} on {store.name}{order}": float(reached[column])
            for store, reached in zip(stores, agreements, strict=True)
            for order, column in (("", chosen), (" of the merged order", -1))
        },
        against="the merged order",
    )
    with atomic_folder(target) as scratch:
        export_network(network, scratch / MODEL_FILE)
        save_network(network, scratch / WEIGHTS_FILE)
        write_ranker(scratch, spec, report)
    return report


def _store(root: Path, options: DefaultOptions, progress: Progress) -> _CatalogStore:
    with serving_snapshot(root) as snapshot:
        path = root / TRAINING_FOLDER / TEACHER_SCORES
        teacher_lists = score_lists(snapshot, options.catalog, path, snapshot.built, progress)
        # Without the features that only some catalogs have, such as prices: they would identify the catalog, and have
        # another meaning in a store where some products have them. Constant features are ignored later, too.
        features = teacher_lists.lists.features[:, : len(_READ)].copy()
        features[:, [FEATURES.index(name) for name in SIGNALS if name != "has_states"]] = 0
        lists = replace(teacher_lists.lists, features=features)
        data = list_data(snapshot, lists, mix_targets(lists, teacher_lists.teacher_scores))
        manifest = snapshot.manifest
        scored = DistillationCatalog(data, split_lists(teacher_lists.lists, seed=options.distilling.seed))
        fits = expit(teacher_lists.teacher_scores.astype(np.float64))
        return _CatalogStore(root.name, manifest.encoder_name, manifest.dimension, teacher_lists.teacher, scored, fits)


def _left_out(stores: Sequence[_CatalogStore], at: int, options: DefaultOptions, progress: Progress) -> list[float]:
    """Results on this catalog of a network trained on the others, for each mixing weight, then of the merged order."""
    network = _trained([store for index, store in enumerate(stores) if index != at], options)
    data, parts = stores[at].catalog.data, stores[at].catalog.split
    numbers = np.sort(np.concatenate([parts.validation, parts.held_out]))
    merged = merged_scores(data.lists)[data.lists.places(numbers)]
    network_scores = scores_of(network, full_batches(data, numbers), EVENT_WEIGHTS)
    progress.advance(1)
    orders = (*(network_scores + mix * merged for mix in MIXES), merged)
    return [float(agreement(data, numbers, scores).mean()) for scores in orders]


def _trained(
    stores: Sequence[_CatalogStore], options: DefaultOptions, progress: Progress | None = None
) -> RankerNetwork:
    dimension = stores[0].catalog.data.states.dimension
    shape = NetworkShape(dimension, 0, len(_READ), layers=0, history=0)
    advance = (progress or NullProgress()).advance
    with tempfile.TemporaryDirectory() as folder:
        network, _ = distil([store.catalog for store in stores], shape, options.distilling, Run(Path(folder), advance))
    return network.eval()


def _spec(stores: Sequence[_CatalogStore], network: RankerNetwork, mix: float, options: DefaultOptions) -> RankerSpec:
    scores, fits = [], []
    for store in stores:
        numbers = store.catalog.split.validation
        positions = store.catalog.data.lists.places(numbers)
        network_scores = scores_of(network, full_batches(store.catalog.data, numbers), EVENT_WEIGHTS)
        scores.append(network_scores + mix * merged_scores(store.catalog.data.lists)[positions])
        fits.append(store.fits[positions])
    return RankerSpec(
        encoder=stores[0].encoder,
        state_dimension=network.shape.state_dimension,
        vector_dimension=stores[0].vector_dimension,
        features=_READ,
        layers=0,
        precision="fp32",
        mix=mix,
        event_weights=EVENT_WEIGHTS,
        calibration=fit_calibration(np.concatenate(scores).astype(np.float64), np.concatenate(fits)),
        neutral=tuple(network.centre.tolist()),
        trained_on={
            "catalogs": ", ".join(store.name for store in stores),
            "queries": sum(len(store.catalog.split.training) for store in stores),
            "teacher": stores[0].teacher,
            "seed": options.distilling.seed,
        },
    )


@command("shipped_models ranker first-store second-store --out default-ranker")
def ranker(
    indexes: Annotated[list[Path], Argument(help="Index directories of different stores.", metavar="INDEX")],
    out: Annotated[Path, Option(help="New folder for the ranker.")],
    queries: Annotated[int, Option(help="Queries to generate from each catalog.", min=200, max=1_000_000)] = 4_000,
    epochs: Annotated[int, Option(help="Maximum number of epochs; it stops early.", min=1, max=100)] = 6,
    seed: Annotated[int, Option(help="Seed of the queries and the initial weights.", min=0)] = 0,
    teacher: Teacher = DEFAULT_TEACHER,
) -> None:
    """Train one ranker on the catalogs of several stores, for stores without a ranker. The shipped ranker was made this
    way."""
    catalog = CatalogOptions(queries, teacher=teacher, cache=cache_folder(), seed=seed)
    distillation = DistilOptions(LoopOptions(epochs=epochs), seed=seed)
    with TerminalProgress() as progress:
        report = train_default(indexes, out, DefaultOptions(catalog, distillation), progress)
    emit(report, _show_ranker, out)


def _show_ranker(report: ModelReport, folder: Path) -> None:
    show_rows(("measure", NDCG), report.measures.items())
    say(f"Written to {folder}: measured on {report.measured_on}")


@command("shipped_models table general-store --out english-table")
def table(
    index: Annotated[Path, Argument(help=f"Index built with --encoder static:{DEFAULT_MODEL}.", metavar="INDEX")],
    out: Annotated[Path, Option(help="New folder for the table.")],
    columns: Annotated[int, Option(help="Columns to keep.", min=1, max=384)] = 256,
) -> None:
    """Pack the static encoder of an index as the table that is shipped for installations without torch: rows of int8 in
    model2vec's format."""
    with serving_snapshot(index) as snapshot:
        source = index / "encoders" / snapshot.manifest.encoder / TORCH_FOLDER
    rows = load_file(source / "model.safetensors")["embedding.weight"]
    projection = np.load(source / PROJECTION_FILE)
    # The principal directions of the rows, so that the first columns keep most of the dot products.
    lengths, ascending = np.linalg.eigh(rows.T @ rows)
    directions = ascending[:, ::-1][:, :columns]
    packed, scales = quantise_rows(rows @ directions)
    with atomic_folder(out) as scratch:
        save_file({"embeddings": packed, "weights": scales}, scratch / "model.safetensors")
        np.save(scratch / PROJECTION_FILE, np.ascontiguousarray(directions.T @ projection, np.float32))
        for name in (TOKENIZER_FILE, MODULES_FILE):
            shutil.copy(source / name, scratch / name)
        (scratch / ORIGIN_FILE).write_text(f"{DEFAULT_MODEL}\n", "utf-8")
    share = float(lengths[::-1][:columns].sum() / lengths.sum())
    say(f"Written to {out}: {share:.1%} of the squared length of the rows in {columns} columns")


if __name__ == "__main__":
    run_study(ranker, table)
