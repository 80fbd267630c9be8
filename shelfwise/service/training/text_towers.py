"""`shelfwise train towers`: from relevance labels to an encoder folder for `shelfwise rebuild --encoder`.

STORE/training/tuning-0123456789abcdef.db the trials of a search for training options
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from itertools import takewhile
from pathlib import Path

import msgspec
import numpy as np
import xxhash

from shelfwise.indexer.static_encoder import teacher_name
from shelfwise.rerank.evaluation.promotion import NDCG
from shelfwise.rerank.model_card import ModelCard, model_use, option_values, write_card
from shelfwise.rerank.ranker.spec import ERASURES
from shelfwise.rerank.sessions.tables import DerivedTables
from shelfwise.rerank.teacher import open_teacher
from shelfwise.rerank.text_towers.artifacts import FORMAT, TOWERS_FILE, TextTowersSpec, read_towers, write_towers
from shelfwise.rerank.text_towers.dataset import (
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
from shelfwise.rerank.text_towers.layer_pruning import LayerPruning, LayerPruningOptions, prune_layers
from shelfwise.rerank.text_towers.model import ADAPTER_FOLDER, open_text_tower
from shelfwise.rerank.text_towers.negatives import NegativeOptions, ProductTraits, is_near_miss, traits_of
from shelfwise.rerank.text_towers.options import (
    RetrievedProducts,
    Score,
    TextTowerOptions,
    TextTowerTask,
    TrainedTowers,
    suited,
)
from shelfwise.rerank.text_towers.training import check_options, train_towers
from shelfwise.rerank.text_towers.validation import PoolEvaluator
from shelfwise.rerank.training.distillation import TeacherScores
from shelfwise.rerank.training.query_generation import SyntheticQuery, synthetic_queries
from shelfwise.rerank.training.trainer import Epoch, tensorboard_curve
from shelfwise.retrieval.encoders.folder import TORCH_FOLDER
from shelfwise.retrieval.encoders.registry import parse_runtime
from shelfwise.retrieval.encoders.weights import ModelSource, find_model
from shelfwise.retrieval.errors import EncoderUnavailableError, NothingBetterError, SettingError
from shelfwise.retrieval.judgments import read_judgments
from shelfwise.retrieval.progress import Progress
from shelfwise.retrieval.store.files import write_durably
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.engine.snapshot import Snapshot
from shelfwise.service.events.privacy import erasures
from shelfwise.service.settings import Settings
from shelfwise.service.training.click_dataset import EventFacts
from shelfwise.service.training.ranker_dataset import map_chunks
from shelfwise.service.training.text_towers_promotion import (
    EncoderReport,
    PublishedEncoder,
    check_judges,
    judging,
    publish_encoder,
    without_judges,
)
from shelfwise.service.training.text_towers_tuning import tuned
from shelfwise.service.training.training_session import TEACHER_SCORES, TRAINING_FOLDER, fresh_tables, working

# STORE/training/towers/towers-0001/        trained towers; the number counts up
# STORE/training/towers/towers-0001-whole/  the same with all layers, if towers-0001 has only some
# STORE/training/towers-0123456789abcdef/   an interrupted training, with the name of the folder that it writes

TOWERS_FOLDER = "towers"
_NAME = "towers-"
_RUN = re.compile(rf"{_NAME}[0-9a-f]{{16}}")
"""Pattern of the names of runs; only such folders may be removed."""
_CLAIM_FILE = "folder.json"
_STALE_SECONDS = 14 * 24 * 3_600.0
"""Seconds after which an unfinished run is removed."""


def new_folder(work: Path) -> Path:
    """The folder with the next unused number."""
    towers = work / TOWERS_FOLDER
    numbers = [int(path.name.removeprefix(_NAME)[:4]) for path in towers.glob(f"{_NAME}[0-9][0-9][0-9][0-9]*")]
    return towers / f"{_NAME}{max(numbers, default=0) + 1:04}"


def whole(folder: Path) -> Path:
    """The folder of the same towers with all layers."""
    return folder.with_name(f"{folder.name}-whole")


def check_new_folder(named: Path | None, layers: int | None, unfinished: Collection[Path]) -> None:
    """Raises SettingError if the named folder exists, or that with all layers if only `layers` are kept, unless an
    unfinished run writes it."""
    for folder in () if named is None else (named,) if layers is None else (named, whole(named)):
        if folder.exists() and folder.absolute() not in unfinished:
            raise SettingError(f"{folder} exists; name a new folder for the towers, or remove it")


def claim_folder(folder: Path, run: Path) -> None:
    """Records the folder that a run writes. An interrupted run that claimed it takes another one when resumed, so that
    it does not take these towers for its own."""
    for other in _runs(run.parent):
        before = _claimed_folder(other)
        if other != run and before and not {before, whole(before)}.isdisjoint((folder, whole(folder))):
            (other / _CLAIM_FILE).unlink()
    write_durably(run / _CLAIM_FILE, msgspec.json.encode(str(folder)))


def written_by(run: Path) -> Path | None:
    """The folder of towers that a run has started to write."""
    folder = _claimed_folder(run)
    return folder if folder and (folder.exists() or whole(folder).exists()) else None


def unfinished(work: Path) -> set[Path]:
    """The folders of towers whose run is not finished: they are still to be published."""
    written = [folder for run in _runs(work) if (folder := written_by(run))]
    return {*written, *map(whole, written)}


def remove_stale_runs(work: Path, run: Path) -> None:
    """Removes old unfinished runs except this one."""
    for other in _runs(work):
        if other != run and time.time() - other.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(other)


def _runs(work: Path) -> list[Path]:
    return [path for path in work.glob(f"{_NAME}*") if _RUN.fullmatch(path.name)]


def _claimed_folder(run: Path) -> Path | None:
    """The folder to which a run writes its towers, once it is known."""
    try:
        return Path(msgspec.json.decode((run / _CLAIM_FILE).read_bytes(), type=str))
    except (OSError, msgspec.MsgspecError):
        return None


_NAMED = {"judgments": "--judgments", "catalog": "--from-catalog"}


@dataclass(frozen=True, slots=True)
class TextTowersRequest:
    """Training data and options, and the destination."""

    judgments: Sequence[Path] = ()
    """Judgments files; empty for clicks. With `catalog` they are used for evaluation, not for training."""
    catalog: int = 0
    """Number of synthetic training queries; 0 for none."""
    validation: Path | None = None
    """Judgments file with validation queries; None uses a tenth of the others."""
    held_out: Collection[str] = ()
    """Queries that are not used."""
    paraphrases: bool = False
    """Whether queries are also trained on the results of queries that replaced them; only with clicks."""
    synthetic: int = 0
    """Number of synthetic queries for products without searches, in addition to judgments or clicks."""
    encoder: str = ""
    """Name or folder of the initial model; by default that of the index."""
    teacher: str = ""
    """Name or folder of a cross-encoder, if the loss needs one."""
    out: Path | None = None
    """New folder; by default one under the index's `training`."""
    cache: Path = Path(".cache")
    publish: bool = False
    """Whether to encode the catalog, and serve it if it is better on a fifth of the queries, or on `judgments` that are
    not used for training."""
    runtime: str = "auto"
    """Runtime in which they serve."""
    options: TextTowerOptions = field(default_factory=TextTowerOptions)
    tune: int = 0
    """Number of short trainings that search for better options first."""

    @property
    def source(self) -> str:
        return "catalog" if self.catalog else "judgments" if self.judgments else "clicks"


@dataclass(frozen=True, slots=True)
class TextTowersResult:
    """Trained towers, their folder, and whether they serve."""

    folder: Path
    spec: TextTowersSpec
    whole: Path | None = None
    """The same towers with all layers, if only some are kept."""
    published: PublishedEncoder | None = None
    """Result of publishing; None if it was not requested."""


def train_text_towers(
    root: Path, settings: Settings, request: TextTowersRequest, progress: Progress
) -> TextTowersResult:
    """Trains the encoder of an index on judged queries or on clicks, and writes it to a new folder; on request it is
    published if it is better than the serving one.

    An interrupted run is resumed, also while encoding. Raises StoreMissingError, StoreForeignError or StoreDamagedError
    for a directory that cannot serve, StoreLockedError if another program trains for it or rebuilds it, JudgmentsError
    for a file that cannot be read, EncoderError if a model is not available, SettingError for contradictory options or
    an existing folder, and TrainingError if there is too little data for training or evaluation, or if the result is
    not better.
    """
    if request.paraphrases and request.source != "clicks":
        raise SettingError(
            f"--paraphrases: they need queries and clicks of shoppers, and this training uses only "
            f"{_NAMED[request.source]}; leave out one of the two"
        )
    if request.synthetic and request.catalog:
        raise SettingError("--synthetic: --from-catalog makes all of its queries already; leave out one of the two")
    check_new_folder(request.out, request.options.layers, unfinished(root / TRAINING_FOLDER))
    if request.publish:
        parse_runtime(request.runtime)
        if request.catalog and not request.judgments:
            raise SettingError(
                "queries generated from the catalog cannot test a training on such queries: name judged ones with "
                "--judgments, or write a folder only, with --no-publish"
            )
    if request.source == "clicks":
        with fresh_tables(root, settings, progress) as tables:
            read = tables.snapshot, tables.work, request, progress
            training = _Training(root, settings, *read, tables.erasures, tables.facts)
            return training.published(_clicked(tables.derived, request, progress))
    judged = [each for path in request.judgments for each in judged_queries(path, progress)]
    with working(root, settings) as (snapshot, work, _):
        training = _Training(root, settings, snapshot, work, request, progress, erasures(root / EVENTS_FOLDER))
        if request.source == "judgments":
            return training.published(_sources(judged, request, progress))
        made = catalog_queries(snapshot, request.catalog, request.options.seed, progress)
        return training.published(_sources(made, request, progress), judged)


def _clicked(derived: DerivedTables, request: TextTowersRequest, progress: Progress) -> TowerSources:
    sources = _sources(from_labels(derived.labels), request, progress)
    if not request.paraphrases:
        return sources
    return replace(sources, paraphrases=from_reformulations(derived.reformulations, derived.queries))


def _sources(training: Sequence[JudgedQuery], request: TextTowersRequest, progress: Progress) -> TowerSources:
    validation = judged_queries(request.validation, progress) if request.validation else None
    return TowerSources(training, validation, request.held_out)


_USE = model_use(
    "Text towers: an encoder of queries and products, whose cosine finds candidates (docs/towers.md).",
    "The ranker and user tower trained on the previous vectors are no longer valid: train them again.",
)


@dataclass(frozen=True, slots=True, eq=False)
class _Training:
    root: Path
    settings: Settings
    snapshot: Snapshot
    work: Path
    request: TextTowersRequest
    progress: Progress
    erasures: int
    """Number of erasures of shoppers so far: see `shelfwise.service.events.privacy.erasures`."""
    events: EventFacts = field(default_factory=dict)

    def published(self, sources: TowerSources, judges: Sequence[JudgedQuery] | None = None) -> TextTowersResult:
        """Publishes the towers if they are better. Without `judges`, a fifth of the training queries decides. A run
        that is killed while encoding does not train again."""
        request = self.request
        if not request.publish:
            done, _, run = self._written(sources)
            write_card(done.folder, self._card(done, None))
            shutil.rmtree(run)
            return done
        judges = judging(sources.training) if judges is None else judges
        check_judges(self.snapshot, judges)
        done, pool, run = self._written(without_judges(sources, judges))
        published = publish_encoder(
            self.root,
            self.settings,
            done.folder,
            judges,
            pool,
            request.runtime,
            request.cache,
            self.progress,
            # If the vectors of an index were cut, they stay cut.
            dimension=None if request.encoder else self.snapshot.manifest.dimension,
        )
        write_card(done.folder, self._card(done, published.report))
        shutil.rmtree(run)
        return replace(done, published=published)

    def _card(self, done: TextTowersResult, report: EncoderReport | None) -> ModelCard:
        """Model card, written next to the seal, which is older than the promotion decision."""
        spec = done.spec
        return ModelCard(
            title=done.folder.name,
            use=_USE,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            against=self.snapshot.manifest.encoder if report else "",
            reasons=report.rejection_reasons if report else (),
            is_rejected=bool(report and report.rejection_reasons),
            facts={"base": spec.base, "best part": spec.best, "share of the trained weights": spec.share},
            data={"catalog": spec.version, "source": spec.source, **spec.trained_on, **self.events},
            options=option_values(spec.options),
            measured_on=f"{report.queries:,} queries used neither for training nor for validation" if report else "",
            measures={f"{NDCG} of the validation queries": spec.validation},
            comparisons=report.comparisons if report else (),
        )

    def _written(self, sources: TowerSources) -> tuple[TextTowersResult, PoolEvaluator, Path]:
        source, progress = self._base_model(), self.progress
        options = self.request.options
        check_options(open_text_tower(source, options.max_length), options)
        made = build_tower_dataset(self.snapshot, self._with_synthetic(sources), options.seed, progress)
        options = suited(options, len(made.training_pairs), is_table=source.is_table)
        request = replace(self.request, options=options)
        found = retrieve_products(self.snapshot, made, request.options.negatives, progress)
        ground = _Ground(self.snapshot, made, found, source, self.work, request, progress, self.erasures)
        if request.tune:
            ground = replace(ground, request=replace(request, options=ground.tuned()))
        layers, run = ground.request.options.layers, self.work / f"{_NAME}{ground.digest()}"
        remove_stale_runs(self.work, run)
        written = written_by(run)
        check_new_folder(request.out, layers, (written, whole(written)) if written else ())
        folder = request.out or written or new_folder(self.work)
        if written == folder.absolute() and folder.exists():
            progress.begin("towers", None, "")
            progress.end(f"already trained: {folder}")
            result = TextTowersResult(folder, read_towers(folder), whole(folder) if layers else None)
        else:
            result = ground.trained(folder, run)
        return result, ground.judge(), run

    def _base_model(self) -> ModelSource:
        served = self.snapshot.manifest.encoder_name
        if not self.request.encoder and Path(served).is_absolute() and not Path(served).exists():
            raise EncoderUnavailableError(
                f"the serving encoder was trained from {served}, which no longer exists; restore it, or name a "
                "model with --encoder"
            )
        if not self.request.encoder and teacher_name(served) is not None:
            # A table distilled for this index has no name of its own: its folder contains its source.
            folder = Store(self.root).encoders / self.snapshot.manifest.encoder
            return find_model(str(folder / TORCH_FOLDER), self.request.cache)
        source = find_model(self.request.encoder or served, self.request.cache)
        if self.request.encoder or _erasures_of(source) in (None, self.erasures):
            return source
        try:
            return find_model(source.origin, self.request.cache)
        except EncoderUnavailableError as error:
            raise EncoderUnavailableError(
                f"the serving encoder was trained on data of a shopper who has been erased, and {source.origin}, from "
                f"which its training started, is not available: name a model with --encoder ({error})"
            ) from error

    def _with_synthetic(self, sources: TowerSources) -> TowerSources:
        """The data with queries generated for products that answer no training query, if requested."""
        request, products = self.request, self.snapshot.products
        if not request.synthetic:
            return sources
        opinions = [pair for each in sources.training for pair in each.opinions.items()]
        searched = {product for product, opinion in opinions if opinion.gain >= LEAST_GAIN}
        rows = [row for row in range(len(products)) if products.id_of(row) not in searched]
        if not rows:
            self.progress.begin("queries", None, "")
            self.progress.end("no synthetic ones: every product answers a query already")
            return sources
        made = catalog_queries(self.snapshot, request.synthetic, request.options.seed, self.progress, rows)
        return replace(sources, synthetic=made)


def _erasures_of(source: ModelSource) -> int | None:
    """The number of erasures before the first clicks that a model learned from; None if it learned from none."""
    if not (source.folder / TOWERS_FILE).is_file():
        return None
    return read_towers(source.folder).trained_on.get(ERASURES)


@dataclass(frozen=True, slots=True, eq=False)
class _Ground:
    snapshot: Snapshot
    made: TowerDataset
    found: RetrievedProducts
    source: ModelSource
    work: Path
    request: TextTowersRequest
    progress: Progress
    erasures: int

    def judge(self) -> PoolEvaluator:
        """The measure that chooses among weights."""
        options = self.request.options
        return PoolEvaluator(self.made, self.found, self.snapshot.products, options.pool, options.seed)

    def digest(self) -> str:
        """A digest that changes with everything that affects the weights, so that only an equal run is resumed."""
        made, request = self.made, self.request
        run = {"options": asdict(request.options), "teacher": request.teacher, "base": self.source.fingerprint}
        digest = xxhash.xxh3_64(msgspec.json.encode([run, self.snapshot.manifest.version, made.queries]))
        for array in (made.training, made.query_of, made.rows, made.gains, made.weights):
            digest.update(array.tobytes())
        return digest.hexdigest()

    def tuned(self) -> TextTowerOptions:
        """The best options of some short trainings."""
        request, score = self.request, self._score()

        def train(options: TextTowerOptions, folder: Path, judged: Callable[[Epoch], None]) -> float:
            short = replace(options, epochs=1, rounds=1, mix=False)
            tower = open_text_tower(self.source, options.max_length)
            products = self.snapshot.products
            task = TextTowerTask(tower, self.made, self.found, products, short, folder, judged=judged, score=score)
            return train_towers(task).best.validation

        study = self.work / f"tuning-{self.digest()}.db"
        if not study.exists():
            # None of these trainings was ever started, so an existing folder belongs to no run that could be resumed.
            check_new_folder(request.out, request.options.layers, ())
        return tuned(request.options, request.tune, study, train, self.progress)

    def trained(self, folder: Path, run: Path) -> TextTowersResult:
        """Trains towers and writes them to a folder; raises NothingBetterError if they are not better."""
        options = self.request.options
        tower = open_text_tower(self.source, options.max_length)
        judged, score, products = tensorboard_curve(run, TOWERS_FOLDER), self._score(), self.snapshot.products
        task = TextTowerTask(tower, self.made, self.found, products, options, run, self.progress, judged, score)
        trained = train_towers(task)
        if not trained.improved:
            # The same run would have the same result.
            shutil.rmtree(run)
            raise NothingBetterError(
                f"no part of the training was better than the initial {self.source.name} "
                f"(nDCG@10 {trained.best.validation:.4f}), so nothing is written; lower the learning rate, or add "
                f"more judged queries"
            )
        spec, adapter = self._spec(trained), run / ADAPTER_FOLDER if options.lora else None
        folder.parent.mkdir(parents=True, exist_ok=True)
        claim_folder(folder.absolute(), run)
        if options.layers is None:
            write_towers(tower, spec, self.source, folder, adapter)
            return TextTowersResult(folder, spec)
        if not whole(folder).exists():
            write_towers(tower, spec, self.source, whole(folder), adapter)
        pruning_options = LayerPruningOptions(seed=options.seed)
        pruning = LayerPruning(
            tower, self.made, products, self.judge(), run / "pruning", pruning_options, self.progress
        )
        fewer, curve = prune_layers(pruning, options.layers)
        spec = msgspec.structs.replace(spec, layers=options.layers, pruning=curve)
        write_towers(fewer, spec, self.source, folder)
        return TextTowersResult(folder, spec, whole(folder))

    def _score(self) -> Score | None:
        request = self.request
        if request.options.loss.teacher == "none":
            return None
        if not request.teacher:
            raise SettingError("the loss needs a teacher's scores: name a cross-encoder with --teacher")
        return TeacherScores(open_teacher(request.teacher, request.cache), self.work / TEACHER_SCORES).score

    def _spec(self, trained: TrainedTowers) -> TextTowersSpec:
        made, source, request = self.made, self.source, self.request
        counted = {
            "training queries": len(made.training),
            "validation queries": len(made.validation),
            "positives": made.positives,
            "paraphrases": made.paraphrases,
            "synthetic queries": made.synthetic,
        }
        before, now = _erasures_of(source), self.erasures if request.source == "clicks" else None
        known = [each for each in (before, now) if each is not None]
        counted |= {ERASURES: min(known)} if known else {}
        return TextTowersSpec(
            FORMAT,
            source.name,
            source.fingerprint,
            self.snapshot.manifest.version,
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


_NEAR = 30
"""Number of products nearest to a positive among which its near misses are sought."""


def judged_queries(path: Path, progress: Progress) -> list[JudgedQuery]:
    """The queries of a judgments file; raises JudgmentsError if it cannot be read, TrainingError if it has no
    positive."""
    progress.begin(f"read {path.name}", None, "")
    judgments = read_judgments(path)
    progress.end("; ".join((f"{len(judgments.grades):,} queries", *judgments.notices)))
    return from_judgments(judgments)


def build_tower_dataset(snapshot: Snapshot, sources: TowerSources, seed: int, progress: Progress) -> TowerDataset:
    """The training data of a snapshot's towers; raises TrainingError if there is too little."""
    progress.begin("dataset", None, "")
    made = build_dataset(sources, snapshot.products.row_of, seed)
    out = made.dropped
    paraphrases = f"{made.paraphrases:,} queries are trained on the results of the queries that replaced them; "
    synthetic = f" ({made.synthetic:,} of them synthetic)" if made.synthetic else ""
    progress.end(
        f"{len(made.training):,} queries{synthetic} for training, {len(made.validation):,} for validation, "
        f"{made.positives:,} positives; {'' if sources.paraphrases is None else paraphrases}"
        f"excluded: {out.leaked:,} queries in both parts, {out.without_positive:,} without a positive, "
        f"{out.gone:,} labels for products that no longer exist"
    )
    return made


def retrieve_products(
    snapshot: Snapshot, made: TowerDataset, options: NegativeOptions, progress: Progress
) -> RetrievedProducts:
    """The `options.last` best products of both retrievers for each query, over the whole catalog, and the near misses
    of training products, if requested.

    Raises EncoderError if queries cannot be encoded, ClusterError if a cluster does not respond.
    """
    words, vectors = _retrieved(snapshot, made, options.last, progress)
    return RetrievedProducts(words, vectors, _near_misses(snapshot, made, progress) if options.near_misses else {})


def _retrieved(snapshot: Snapshot, made: TowerDataset, depth: int, progress: Progress) -> tuple[list[Rows], list[Rows]]:
    progress.begin("retrieving", len(made.queries), "queries")

    def both(queries: Sequence[str]) -> list[tuple[Rows, Rows]]:
        groups = map(snapshot.analyzer.groups, queries)
        words = [snapshot.keyword.search(each, depth).rows if each else np.empty(0, np.int64) for each in groups]
        vectors = snapshot.encoder.encode_queries(queries)
        return [(rows, snapshot.vectors.search(each, depth).rows) for rows, each in zip(words, vectors, strict=True)]

    found = map_chunks(both, made.queries, progress.advance)
    progress.end(f"the best {depth:,} by words and by vectors")
    return [words for words, _ in found], [vectors for _, vectors in found]


def _near_misses(snapshot: Snapshot, made: TowerDataset, progress: Progress) -> Mapping[int, Rows]:
    """The near misses of each positive product, by row: once, however many queries it answers."""
    rows = np.unique(made.rows[made.training_pairs]).tolist()
    progress.begin("near misses", len(rows), "products")

    @cache
    def traits(row: int) -> ProductTraits:
        return traits_of(snapshot.products[row])

    def missed(part: Sequence[int]) -> Iterator[Rows]:
        for row, vector in zip(part, snapshot.vectors.gather(np.array(part)), strict=True):
            # A product is nearest to itself, and has its own title.
            near = snapshot.vectors.search(vector, _NEAR + 1).rows
            yield near[np.array([is_near_miss(traits(row), traits(other)) for other in near.tolist()], bool)]

    found = map_chunks(lambda part: list(missed(part)), rows, progress.advance)
    having = sum(len(each) > 0 for each in found)
    progress.end(f"{having:,} of {len(rows):,} positives have one of another size or type among the {_NEAR} nearest")
    return dict(zip(rows, found, strict=True))


_FITTING = 300
"""Number of keyword matches of a query among which equally fitting products are sought."""


def catalog_queries(
    snapshot: Snapshot, count: int, seed: int, progress: Progress, rows: Sequence[int] | None = None
) -> list[JudgedQuery]:
    """Synthetic queries, fewer if the catalog does not have enough, for the products at `rows` or for all.

    The positive of a query is the product from which it was generated. Products that BM25 ranks before it fit its words
    equally well, and their relevance is unknown, so they are neither negatives nor positives. Raises TrainingError for
    a catalog that gives no queries, ClusterError if a cluster does not respond.
    """
    progress.begin("queries", None, "queries")
    rows = range(len(snapshot.products)) if rows is None else rows
    made = synthetic_queries((snapshot.products[row] for row in rows), count, seed)
    progress.end(f"{len(made):,} synthetic queries from {len(rows):,} products")
    progress.begin("equal fits", len(made), "queries")

    made_queries = map_chunks(lambda part: [_judged(snapshot, query) for query in part], made, progress.advance)
    fitting = sum(len(each.opinions) - 1 for each in made_queries)
    progress.end(f"{fitting / len(made_queries):.1f} other products a query fit its words as well as its own")
    return made_queries


def _judged(snapshot: Snapshot, query: SyntheticQuery) -> JudgedQuery:
    groups, products = snapshot.analyzer.groups(query.text), snapshot.products
    rows = snapshot.keyword.search(groups, _FITTING).rows.tolist() if groups else ()
    fitting = takewhile(lambda product: product != query.product_id, map(products.id_of, rows))
    return JudgedQuery(query.text, {**dict.fromkeys(fitting, Opinion(LEAST_GAIN, 0.0)), query.product_id: Opinion(1.0)})
