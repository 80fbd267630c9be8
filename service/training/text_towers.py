"""`shelfwise train towers`, from opinions to a folder that `shelfwise rebuild --encoder` takes.

STORE/training/tuning-0123456789abcdef.db the trials of a search for how to train
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import xxhash

from rerank.sessions.tables import DerivedTables
from rerank.teacher.teacher import open_teacher
from rerank.text_towers.artifacts import FORMAT, TextTowersSpec, read_towers, write_towers
from rerank.text_towers.dataset import (
    LEAST_GAIN,
    JudgedQuery,
    Opinion,
    Rows,
    TowerDataset,
    TowerSources,
    build_dataset,
    from_judgments,
    from_labels,
    from_reformulations,
)
from rerank.text_towers.layer_pruning import LayerPruning, LayerPruningOptions, prune_layers
from rerank.text_towers.model import ADAPTER_FOLDER, TextTower, open_text_tower
from rerank.text_towers.negatives import NegativeOptions, ProductTraits, is_near_miss, traits_of
from rerank.text_towers.options import RetrievedProducts, Score, TextTowerOptions, TextTowerTask, TrainedTowers
from rerank.text_towers.training import check_options, train_towers
from rerank.text_towers.validation import PoolEvaluator
from rerank.training.distillation import TeacherScores
from rerank.training.query_generation import SyntheticQuery, synthetic_queries
from rerank.training.trainer import Epoch, charted
from retrieval.encoders.registry import parse_runtime
from retrieval.encoders.weights import ModelSource, find_model
from retrieval.errors import EncoderUnavailableError, NothingBetterError, SettingError
from retrieval.judgments import read_judgments
from retrieval.progress import Progress
from retrieval.store.files import write_durably
from service.engine.snapshot import Snapshot
from service.settings import Settings
from service.training.text_towers_promotion import (
    PublishedEncoder,
    check_judges,
    judging,
    publish_encoder,
    without_judges,
)
from service.training.text_towers_tuning import tuned
from service.training.training_session import TEACHER_SCORES, TRAINING_FOLDER, fresh_tables, working

# Which folders trainings of the text towers write, and whose those are that lie there.
#
# STORE/training/towers/towers-0001/    trained towers; the number counts up
# STORE/training/towers/towers-0001-whole/  the same with all layers, where that keeps some of them
# STORE/training/towers-0123456789abcdef/   a training that was interrupted; what it wrote, if it did, is named in it

TOWERS_FOLDER = "towers"
_NAME = "towers-"
"""Begins the names of both: of towers, and of runs."""
_WHOLE = "-whole"
"""Ends the name of the folder with all layers, beside that with some."""
_RUN = re.compile(rf"{_NAME}[0-9a-f]{{16}}")
"""Only what is named so is a run, and may be removed."""
_CLAIM_FILE = "folder.json"
_STALE_SECONDS = 14 * 24 * 3_600.0
"""Seconds after which a run that nobody went on with is removed."""


def run_folder(work: Path, digest: str) -> Path:
    """Where a run keeps its state, among what an index's trainings keep."""
    return work / f"{_NAME}{digest}"


def new_folder(work: Path) -> Path:
    """The first number behind all that are there."""
    towers = work / TOWERS_FOLDER
    numbers = [int(path.name.removeprefix(_NAME)[:4]) for path in towers.glob(f"{_NAME}[0-9][0-9][0-9][0-9]*")]
    return towers / f"{_NAME}{max(numbers, default=0) + 1:04}"


def whole(folder: Path) -> Path:
    """The folder of the same towers with all layers."""
    return folder.with_name(f"{folder.name}{_WHOLE}")


def check_new_folder(named: Path | None, layers: int | None, unfinished: Collection[Path]) -> None:
    """Raises SettingError where the folder that is named is there, or where `layers` are to be kept that with all of
    them, and it is none of those that a run is to go on with."""
    for folder in () if named is None else (named,) if layers is None else (named, whole(named)):
        if folder.exists() and folder.absolute() not in unfinished:
            raise SettingError(f"{folder} exists; name a new folder for the towers, or remove it")


def claim_folder(folder: Path, run: Path) -> None:
    """Notes which folder a run writes. One that was to write there, and was ended before it did, takes another when it
    goes on: or it would take these towers for its own."""
    for other in _runs(run.parent):
        before = _claimed_folder(other)
        if other != run and before and not {before, whole(before)}.isdisjoint((folder, whole(folder))):
            (other / _CLAIM_FILE).unlink()
    write_durably(run / _CLAIM_FILE, msgspec.json.encode(str(folder)))


def written_by(run: Path) -> Path | None:
    """The folder of the towers that a run has written, or has begun to."""
    folder = _claimed_folder(run)
    return folder if folder and (folder.exists() or whole(folder).exists()) else None


def unfinished(work: Path) -> set[Path]:
    """The folders of towers that are written, and whose run is not over: they are still to be published."""
    written = [folder for run in _runs(work) if (folder := written_by(run))]
    return {*written, *map(whole, written)}


def remove_stale_runs(work: Path, run: Path) -> None:
    """All runs but this one that nobody went on with for long."""
    for other in _runs(work):
        if other != run and time.time() - other.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(other)


def _runs(work: Path) -> list[Path]:
    return [path for path in work.glob(f"{_NAME}*") if _RUN.fullmatch(path.name)]


def _claimed_folder(run: Path) -> Path | None:
    """The folder that a run is to write its towers to, where it came so far."""
    try:
        return Path(msgspec.json.decode((run / _CLAIM_FILE).read_bytes(), type=str))
    except (OSError, msgspec.MsgspecError):
        return None


_STUDY, _PRUNING = "tuning-", "pruning"
_NAMED = {"judgments": "--judgments", "catalog": "--from-catalog"}


@dataclass(frozen=True, slots=True)
class TextTowersRequest:
    """What to train on, and where what comes of it goes."""

    judgments: Sequence[Path] = ()
    """Files; none for what shoppers did. Beside `catalog` they train nothing, but judge what is to be published."""
    catalog: int = 0
    """Train on so many queries made from the catalog's own products; 0 for none."""
    validation: Path | None = None
    """A judgments file whose queries choose; None takes a tenth of the others."""
    held_out: Collection[str] = ()
    """Queries that may have no part in it."""
    paraphrases: bool = False
    """Queries of few positives learn what answers those that shoppers replaced them by; only where clicks train."""
    synthetic: int = 0
    """Train on so many queries made from products that nobody has searched, beside judgments or clicks."""
    encoder: str = ""
    """A model's name or folder to begin with; the index's own by default."""
    teacher: str = ""
    """A cross-encoder's name or folder, where the loss wants one."""
    out: Path | None = None
    """A new folder; one under the index's `training` by default."""
    cache: Path = Path(".cache")
    publish: bool = False
    """Let them serve where they are better, the whole catalog encoded by them, as judged by a fifth of the queries, or
    by all of `judgments` where those train nothing."""
    runtime: str = "auto"
    """What they serve in."""
    options: TextTowerOptions = field(default_factory=TextTowerOptions)
    tune: int = 0
    """So many short trainings look for better options first; 0 takes those that are given."""

    @property
    def source(self) -> str:
        return "catalog" if self.catalog else "judgments" if self.judgments else "clicks"


@dataclass(frozen=True, slots=True)
class TextTowersResult:
    """Trained towers, where they are, and what became of them."""

    folder: Path
    spec: TextTowersSpec
    whole: Path | None = None
    """The same with all layers, where these keep some of them."""
    published: PublishedEncoder | None = None
    """None where they were not to be published."""


def train_text_towers(
    root: Path, settings: Settings, request: TextTowersRequest, progress: Progress
) -> TextTowersResult:
    """Trains the encoder of an index on judged queries or its shoppers' clicks, and writes it to a folder of its own;
    where the request says so, it is published if it is better than the one that serves.

    A run that was interrupted goes on where it was, also in encoding. Raises StoreMissingError, StoreForeignError or
    StoreDamagedError for a directory that cannot serve, StoreLockedError where another program trains for it, or
    rebuilds it when the towers are to be published, JudgmentsError for a file that cannot be read, EncoderError where a
    model cannot be had, SettingError for a folder that is there already, where nothing could judge, for paraphrases of
    what are no clicks and a runtime that does not exist, and TrainingError where there is too little to learn from or
    to judge by, or nothing better came of it.
    """
    if request.paraphrases and request.source != "clicks":
        raise SettingError(
            f"--paraphrases: they come of what shoppers asked and clicked, and this training learns from "
            f"{_NAMED[request.source]} alone; leave out one of the two"
        )
    if request.synthetic and request.catalog:
        raise SettingError("--synthetic: --from-catalog makes all of its queries already; leave out one of the two")
    check_new_folder(request.out, request.options.layers, unfinished(root / TRAINING_FOLDER))
    if request.publish:
        parse_runtime(request.runtime)
        if request.catalog and not request.judgments:
            raise SettingError(
                "queries made from the catalog cannot judge what learned from such queries: name judged ones with "
                "--judgments, or write a folder only, with --no-publish"
            )
    if request.source == "clicks":
        with fresh_tables(root, settings, progress) as tables:
            sources = _clicked(tables.derived, request)
            return _published(root, settings, tables.snapshot, tables.work, sources, None, request, progress)
    judged = [each for path in request.judgments for each in judged_queries(path)]
    with working(root, settings) as (snapshot, work, _):
        if request.source == "judgments":
            return _published(root, settings, snapshot, work, _sources(judged, request), None, request, progress)
        made = catalog_queries(snapshot, request.catalog, request.options.seed, progress)
        return _published(root, settings, snapshot, work, _sources(made, request), judged, request, progress)


def _clicked(derived: DerivedTables, request: TextTowersRequest) -> TowerSources:
    sources = _sources(from_labels(derived.labels), request)
    if not request.paraphrases:
        return sources
    return replace(sources, paraphrases=from_reformulations(derived.reformulations, derived.queries))


def _sources(training: Sequence[JudgedQuery], request: TextTowersRequest) -> TowerSources:
    validation = judged_queries(request.validation) if request.validation else None
    return TowerSources(training, validation, request.held_out)


def _published(
    root: Path,
    settings: Settings,
    snapshot: Snapshot,
    work: Path,
    sources: TowerSources,
    judges: Sequence[JudgedQuery] | None,
    request: TextTowersRequest,
    progress: Progress,
) -> TextTowersResult:
    """`judges` None is a fifth of what `sources` train. The run is kept until all is done: one that is killed while it
    encodes does not train again."""
    if not request.publish:
        done, _, run = _written(snapshot, work, sources, request, progress)
        shutil.rmtree(run)
        return done
    judges = judging(sources.training) if judges is None else judges
    check_judges(snapshot, judges)
    done, pool, run = _written(snapshot, work, without_judges(sources, judges), request, progress)
    # An index whose vectors were cut keeps them so.
    cut = None if request.encoder else snapshot.manifest.dimension
    published = publish_encoder(
        root, settings, done.folder, judges, pool, request.runtime, request.cache, progress, dimension=cut
    )
    shutil.rmtree(run)
    return replace(done, published=published)


@dataclass(frozen=True, slots=True, eq=False)
class _Ground:
    snapshot: Snapshot
    made: TowerDataset
    found: RetrievedProducts
    source: ModelSource
    work: Path
    progress: Progress

    def judge(self, options: TextTowerOptions) -> PoolEvaluator:
        """What chooses among weights."""
        return PoolEvaluator(self.made, self.found, self.snapshot.products, options.pool, options.seed)

    def digest(self, request: TextTowersRequest) -> str:
        """Another one for anything that would make other weights: what one run left is of no use to the other."""
        made = self.made
        run = {"options": asdict(request.options), "teacher": request.teacher, "base": self.source.fingerprint}
        digest = xxhash.xxh3_64(msgspec.json.encode([run, self.snapshot.manifest.version, made.queries]))
        for array in (made.training, made.query_of, made.rows, made.gains, made.weights):
            digest.update(array.tobytes())
        return digest.hexdigest()


def _written(
    snapshot: Snapshot, work: Path, sources: TowerSources, request: TextTowersRequest, progress: Progress
) -> tuple[TextTowersResult, PoolEvaluator, Path]:
    source = _begun_with(snapshot, request)
    check_options(open_text_tower(source, request.options.max_length), request.options)
    sources = _with_synthetic(snapshot, sources, request, progress)
    made = build_tower_dataset(snapshot, sources, request.options.seed, progress)
    found = retrieve_products(snapshot, made, request.options.negatives, progress)
    ground = _Ground(snapshot, made, found, source, work, progress)
    if request.tune:
        request = replace(request, options=_tuned(ground, request))
    judge, run = ground.judge(request.options), run_folder(work, ground.digest(request))
    remove_stale_runs(work, run)
    written = written_by(run)
    check_new_folder(request.out, request.options.layers, (written, whole(written)) if written else ())
    folder = request.out or written or new_folder(work)
    if written == folder.absolute() and folder.exists():
        progress.begin("towers", None, "")
        progress.end(f"were trained before: {folder}")
        unpruned = whole(folder) if request.options.layers else None
        return TextTowersResult(folder, read_towers(folder), unpruned), judge, run
    return _trained(ground, request, folder, run, judge), judge, run


def _begun_with(snapshot: Snapshot, request: TextTowersRequest) -> ModelSource:
    served = snapshot.manifest.encoder_name
    if not request.encoder and Path(served).is_absolute() and not Path(served).exists():
        raise EncoderUnavailableError(
            f"the encoder that serves was made of {served}, which is gone; put it back, or name a model to begin with: "
            "--encoder"
        )
    return find_model(request.encoder or served, request.cache)


def _with_synthetic(
    snapshot: Snapshot, sources: TowerSources, request: TextTowersRequest, progress: Progress
) -> TowerSources:
    """With queries made from products that answer none of those that train, where the request wants some."""
    if not request.synthetic:
        return sources
    searched = {
        product for each in sources.training for product, opinion in each.opinions.items() if opinion.gain >= LEAST_GAIN
    }
    rows = [row for row in range(len(snapshot.products)) if snapshot.products.id_of(row) not in searched]
    if not rows:
        progress.begin("queries", None, "")
        progress.end("no synthetic ones: every product answers a query already")
        return sources
    made = catalog_queries(snapshot, request.synthetic, request.options.seed, progress, rows)
    return replace(sources, synthetic=made)


def _tuned(ground: _Ground, request: TextTowersRequest) -> TextTowerOptions:
    score, made, products = _score(request, ground.work), ground.made, ground.snapshot.products

    def train(options: TextTowerOptions, folder: Path, judged: Callable[[Epoch], None]) -> float:
        short = replace(options, epochs=1, rounds=1, mix=False)
        tower = open_text_tower(ground.source, options.max_length)
        task = TextTowerTask(tower, made, ground.found, products, short, folder, judged=judged, score=score)
        return train_towers(task).best.validation

    study = ground.work / f"{_STUDY}{ground.digest(request)}.db"
    if not study.exists():
        # None of these trainings was ever begun: a folder that is there is of no run that this one goes on with.
        check_new_folder(request.out, request.options.layers, ())
    return tuned(request.options, request.tune, study, train, ground.progress)


def _trained(
    ground: _Ground, request: TextTowersRequest, folder: Path, run: Path, judge: PoolEvaluator
) -> TextTowersResult:
    options, progress, made, products = request.options, ground.progress, ground.made, ground.snapshot.products
    tower = open_text_tower(ground.source, options.max_length)
    try:
        trained = _better(ground, request, tower, run)
    except NothingBetterError:
        # The same run would find the same again.
        shutil.rmtree(run)
        raise
    spec, adapter = _spec(ground, request, trained), run / ADAPTER_FOLDER if options.lora else None
    folder.parent.mkdir(parents=True, exist_ok=True)
    claim_folder(folder.absolute(), run)
    if options.layers is None:
        write_towers(tower, spec, folder, adapter)
        return TextTowersResult(folder, spec)
    if not whole(folder).exists():
        write_towers(tower, spec, whole(folder), adapter)
    pruning = LayerPruning(
        tower, made, products, judge, run / _PRUNING, LayerPruningOptions(seed=options.seed), progress
    )
    fewer, curve = prune_layers(pruning, options.layers)
    spec = msgspec.structs.replace(spec, layers=options.layers, pruning=curve)
    write_towers(fewer, spec, folder)
    return TextTowersResult(folder, spec, whole(folder))


def _better(ground: _Ground, request: TextTowersRequest, tower: TextTower, run: Path) -> TrainedTowers:
    """What training made of a tower; raises NothingBetterError where it is no better by that."""
    progress, options = ground.progress, request.options
    with charted(ground.work, run.name, TOWERS_FOLDER) as judged:
        score, products = _score(request, ground.work), ground.snapshot.products
        task = TextTowerTask(tower, ground.made, ground.found, products, options, run, progress, judged, score)
        trained = train_towers(task)
    if not trained.improved:
        raise NothingBetterError(
            f"no part of the training was better than {ground.source.name} as it was "
            f"(nDCG@10 {trained.best.validation:.4f}), so nothing is written; lower the learning rate, or give more "
            f"judged queries"
        )
    return trained


def _score(request: TextTowersRequest, work: Path) -> Score | None:
    if request.options.loss.teacher == "none":
        return None
    if not request.teacher:
        raise SettingError("the loss wants a teacher's scores: name a cross-encoder as --teacher")
    return TeacherScores(open_teacher(request.teacher, cache=request.cache), work / TEACHER_SCORES).score


def _spec(ground: _Ground, request: TextTowersRequest, trained: TrainedTowers) -> TextTowersSpec:
    made, source = ground.made, ground.source
    counted = {
        "training queries": len(made.training),
        "validation queries": len(made.validation),
        "positives": made.positives,
        "paraphrases": made.paraphrases,
        "synthetic queries": made.synthetic,
    }
    return TextTowersSpec(
        FORMAT,
        source.name,
        source.fingerprint,
        ground.snapshot.manifest.version,
        request.source,
        counted | {name.replace("_", " "): count for name, count in asdict(made.dropped).items()},
        asdict(request.options),
        trained.curve,
        trained.best.number,
        trained.mixed.share,
        trained.mixed.validation,
        trained.averaged,
        stopped=trained.stopped,
        notices=trained.notices,
    )


_CHUNK = 256
_NEAR = 30
"""Products nearest to a positive, among which its near misses are looked for."""


def judged_queries(path: Path) -> list[JudgedQuery]:
    """Of a judgments file; raises JudgmentsError for one that cannot be read, TrainingError for one without a
    positive."""
    return from_judgments(read_judgments(path))


def build_tower_dataset(snapshot: Snapshot, sources: TowerSources, seed: int, progress: Progress) -> TowerDataset:
    """What a snapshot's towers learn from, with a word on what was left out; raises TrainingError where that is too
    little."""
    progress.begin("material", None, "")
    made = build_dataset(sources, snapshot.products.row_of, seed)
    out = made.dropped
    paraphrases = f"{made.paraphrases:,} queries learn what answers the ones that shoppers replaced them by; "
    synthetic = f" ({made.synthetic:,} of them synthetic)" if made.synthetic else ""
    progress.end(
        f"{len(made.training):,} queries{synthetic} train and {len(made.validation):,} choose, "
        f"{made.positives:,} positives; {'' if sources.paraphrases is None else paraphrases}"
        f"left out: {out.leaked:,} queries that stood on both sides, {out.without_positive:,} that nothing "
        f"answers, {out.gone:,} opinions of products that are gone"
    )
    return made


def retrieve_products(
    snapshot: Snapshot, made: TowerDataset, options: NegativeOptions, progress: Progress
) -> RetrievedProducts:
    """The `options.last` best of both retrievers for each query, over the whole catalog, and the near misses of what is
    trained on, where some are to be drawn.

    Raises EncoderError where queries cannot be encoded, ClusterError where a cluster does not answer.
    """
    words, vectors = _retrieved(snapshot, made, options.last, progress)
    return RetrievedProducts(words, vectors, _near_misses(snapshot, made, progress) if options.near_misses else {})


def _retrieved(snapshot: Snapshot, made: TowerDataset, depth: int, progress: Progress) -> tuple[list[Rows], list[Rows]]:
    progress.begin("retrieving", len(made.queries), "queries")

    def words(query: str) -> Rows:
        groups = snapshot.analyzer.groups(query)
        return snapshot.keyword.search(groups, depth).rows if groups else np.empty(0, np.int64)

    def both(queries: Sequence[str]) -> tuple[list[Rows], list[Rows]]:
        vectors = snapshot.encoder.encode_queries(queries)
        found = [words(query) for query in queries], [snapshot.vectors.search(each, depth).rows for each in vectors]
        progress.advance(len(queries))
        return found

    chunks = [made.queries[start : start + _CHUNK] for start in range(0, len(made.queries), _CHUNK)]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="retrieve") as threads:
        parts = list(threads.map(both, chunks))
    progress.end(f"the best {depth:,} by words and by vectors")
    return [each for part, _ in parts for each in part], [each for _, part in parts for each in part]


def _near_misses(snapshot: Snapshot, made: TowerDataset, progress: Progress) -> Mapping[int, Rows]:
    """Of each product that is trained on as a positive, by its row: once, however many queries it answers."""
    rows = np.unique(made.rows[made.training_pairs])
    progress.begin("near misses", len(rows), "products")

    @cache
    def traits(row: int) -> ProductTraits:
        return traits_of(snapshot.products[row])

    def missed(part: Rows) -> list[Rows]:
        near = [snapshot.vectors.search(vector, _NEAR + 1).rows for vector in snapshot.vectors.gather(part)]
        # A product is nearest to itself, and has its own title.
        fits = [
            [is_near_miss(traits(row), traits(other)) for other in others.tolist()]
            for row, others in zip(part.tolist(), near, strict=True)
        ]
        progress.advance(len(part))
        return [others[np.array(chosen, bool)] for others, chosen in zip(near, fits, strict=True)]

    chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="near") as threads:
        found = [each for part in threads.map(missed, chunks) for each in part]
    having = sum(len(each) > 0 for each in found)
    progress.end(f"{having:,} of {len(rows):,} positives have one of another size or type among the {_NEAR} nearest")
    return dict(zip(rows.tolist(), found, strict=True))


_FITTING = 300
"""Products of a query that words find, among which those that fit as well are looked for."""


def catalog_queries(
    snapshot: Snapshot, count: int, seed: int, progress: Progress, rows: Sequence[int] | None = None
) -> list[JudgedQuery]:
    """So many synthetic queries, fewer where the catalog has not so many in it; of the products at `rows` or of all.

    A query's positive is the product that it was made from. What BM25 finds before that one fits its words as well, and
    nobody knows whether it answers: it is no negative, and trains nothing. Raises TrainingError for a catalog that
    gives none, ClusterError where a cluster does not answer.
    """
    progress.begin("queries", None, "queries")
    rows = range(len(snapshot.products)) if rows is None else rows
    made = synthetic_queries((snapshot.products[row] for row in rows), count, seed)
    progress.end(f"{len(made):,} synthetic queries from {len(rows):,} products")
    progress.begin("what fits", len(made), "queries")

    def judged(part: Sequence[SyntheticQuery]) -> list[JudgedQuery]:
        found = [_judged(snapshot, query) for query in part]
        progress.advance(len(part))
        return found

    parts = [made[start : start + _CHUNK] for start in range(0, len(made), _CHUNK)]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="fits") as threads:
        made_queries = [each for part in threads.map(judged, parts) for each in part]
    fitting = sum(len(each.opinions) - 1 for each in made_queries)
    progress.end(f"{fitting / len(made_queries):.1f} other products of a query fit its words as well as its own")
    return made_queries


def _judged(snapshot: Snapshot, query: SyntheticQuery) -> JudgedQuery:
    opinions = {_id: Opinion(LEAST_GAIN, 0.0) for _id in _fitting(snapshot, query)}
    return JudgedQuery(query.text, {**opinions, query.product_id: Opinion(1.0)})


def _fitting(snapshot: Snapshot, query: SyntheticQuery) -> list[str]:
    groups = snapshot.analyzer.groups(query.text)
    if not groups:
        return []
    found = [snapshot.products.id_of(row) for row in snapshot.keyword.search(groups, _FITTING).rows.tolist()]
    return found[: found.index(query.product_id)] if query.product_id in found else found
