"""`shelfwise train towers`: from relevance labels to an encoder folder for `shelfwise rebuild --encoder`.

STORE/training/tuning-0123456789abcdef.db the trials of a search for training options
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from shelfwise.indexer.embedding import teacher_name
from shelfwise.rerank.evaluation.promotion import NDCG
from shelfwise.rerank.model_card import ModelReport, model_use, option_values, write_card
from shelfwise.rerank.ranker.spec import ERASURES
from shelfwise.rerank.text_towers.dataset import (
    JudgedQuery,
    Rows,
    TowerDataset,
    TowerSources,
    build_dataset,
    from_judgments,
    from_labels,
)
from shelfwise.rerank.text_towers.model import (
    ADAPTER_FOLDER,
    FORMAT,
    TOWERS_FILE,
    TextTowersSpec,
    open_text_tower,
    read_towers,
    write_towers,
)
from shelfwise.rerank.text_towers.task import (
    NegativeOptions,
    PoolEvaluator,
    RetrievedProducts,
    TextTowerOptions,
    TextTowerTask,
    TrainedTowers,
    suited,
)
from shelfwise.rerank.text_towers.text_tower_training import check_options, train_towers
from shelfwise.rerank.training.trainer import Epoch, run_digest, tensorboard_curve
from shelfwise.retrieval.encoders.folder import TORCH_FOLDER
from shelfwise.retrieval.encoders.registry import parse_runtime
from shelfwise.retrieval.encoders.weights import ModelSource, find_model
from shelfwise.retrieval.errors import EncoderUnavailableError, NothingBetterError, SettingError, TrainingError
from shelfwise.retrieval.judgments import read_judgments
from shelfwise.retrieval.progress import Progress
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER
from shelfwise.retrieval.store.versions import Store
from shelfwise.service.engine.snapshot import Snapshot
from shelfwise.service.events.privacy import erasures
from shelfwise.service.settings import Settings
from shelfwise.service.training.click_dataset import EventFacts
from shelfwise.service.training.ranker_dataset import map_chunks
from shelfwise.service.training.text_towers_promotion import (
    PublishedEncoder,
    check_judges,
    judging,
    publish_encoder,
    without_judges,
)
from shelfwise.service.training.training_session import TRAINING_FOLDER, fresh_tables, working

if TYPE_CHECKING:
    import optuna

# STORE/training/towers/towers-0001/        trained towers; the number counts up
# STORE/training/towers-0123456789abcdef/   an interrupted training, with the digest of what it trains on

TOWERS_FOLDER = "towers"
_NAME = "towers-"
_RUN = re.compile(rf"{_NAME}[0-9a-f]{{16}}")
"""Pattern of the names of runs; only such folders may be removed."""
_STALE_SECONDS = 14 * 24 * 3_600.0
"""Seconds after which an unfinished run is removed."""


def new_folder(work: Path) -> Path:
    """The folder with the next unused number."""
    towers = work / TOWERS_FOLDER
    numbers = [int(path.name.removeprefix(_NAME)) for path in towers.glob(f"{_NAME}[0-9][0-9][0-9][0-9]")]
    return towers / f"{_NAME}{max(numbers, default=0) + 1:04}"


def run_of(folder: Path, work: Path) -> Path | None:
    """The unfinished run that wrote these towers, which are still to be published; None for any other folder."""
    if not (folder / TOWERS_FILE).is_file():
        return None
    run = work / f"{_NAME}{read_towers(folder).run}"
    return run if run.is_dir() else None


def remove_stale_runs(work: Path, run: Path) -> None:
    """Removes old unfinished runs except this one."""
    for other in work.glob(f"{_NAME}*"):
        is_run = _RUN.fullmatch(other.name) and other != run
        if is_run and time.time() - other.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(other)


@dataclass(frozen=True, slots=True)
class TextTowersRequest:
    """Training data and options, and the destination."""

    judgments: Sequence[Path] = ()
    """Judgments files; empty for clicks."""
    validation: Path | None = None
    """Judgments file with validation queries; None uses a tenth of the others."""
    encoder: str = ""
    """Name or folder of the initial model; by default that of the index."""
    out: Path | None = None
    """New folder; by default one under the index's `training`."""
    cache: Path = Path(".cache")
    publish: bool = False
    """Whether to encode the catalog, and serve it if it is better on a fifth of the queries."""
    runtime: str = "auto"
    """Runtime in which they serve."""
    options: TextTowerOptions = field(default_factory=TextTowerOptions)
    tune: int = 0
    """Number of short trainings that search for better options first."""

    @property
    def source(self) -> str:
        return "judgments" if self.judgments else "clicks"


@dataclass(frozen=True, slots=True)
class TextTowersResult:
    """Trained towers, their folder, and whether they serve."""

    folder: Path
    spec: TextTowersSpec
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
    if request.out is not None and request.out.exists() and run_of(request.out, root / TRAINING_FOLDER) is None:
        raise SettingError(f"{request.out} exists; name a new folder for the towers, or remove it")
    if request.publish:
        parse_runtime(request.runtime)
    if request.source == "clicks":
        with fresh_tables(root, settings, progress) as tables:
            read = tables.snapshot, tables.work, request, progress
            training = _Training(root, settings, *read, tables.erasures, tables.facts)
            return training.published(from_labels(tables.derived.labels))
    judged = [each for path in request.judgments for each in judged_queries(path, progress)]
    with working(root, settings) as (snapshot, work, _):
        training = _Training(root, settings, snapshot, work, request, progress, erasures(root / EVENTS_FOLDER))
        return training.published(judged)


_USE = model_use(
    "Text towers: an encoder of queries and products, whose cosine finds candidates (docs/towers.md).",
    "The ranker and user tower trained on the previous vectors are no longer valid: train them again.",
)


@dataclass(slots=True, eq=False)
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
    source: ModelSource = field(init=False)
    """The initial model."""
    made: TowerDataset = field(init=False)
    found: RetrievedProducts = field(init=False)

    def published(self, judged: Sequence[JudgedQuery]) -> TextTowersResult:
        """Publishes the towers if they are better on a fifth of the queries. A run that is killed while encoding does
        not train again."""
        request = self.request
        validation = judged_queries(request.validation, self.progress) if request.validation else None
        judges = judging(judged) if request.publish else []
        if request.publish:
            check_judges(self.snapshot, judges)
        self._read(without_judges(TowerSources(judged, validation), judges))
        run = self.work / f"{_NAME}{self._digest()}"
        done = self._written(run)
        if request.publish:
            # The measure that chose among weights.
            options = self.request.options
            pool = PoolEvaluator(self.made, self.found, self.snapshot.products, options.pool, options.seed)
            # If the vectors of an index were cut, they stay cut.
            dimension = None if request.encoder else self.snapshot.manifest.dimension
            published = publish_encoder(
                self.root,
                self.settings,
                done.folder,
                judges,
                pool,
                request.runtime,
                request.cache,
                self.progress,
                dimension=dimension,
            )
            done = replace(done, published=published)
        self._write_card(done)
        shutil.rmtree(run)
        return done

    def _write_card(self, done: TextTowersResult) -> None:
        """Writes the model card next to the seal, which is older than the promotion decision."""
        spec, decision = done.spec, done.published.report if done.published else None
        report = ModelReport(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            against=self.snapshot.manifest.encoder if decision else "",
            rejection_reasons=decision.rejection_reasons if decision else (),
            options=option_values(spec.options),
            measured_on="queries used neither for training nor for validation" if decision else "",
            measures={f"{NDCG} of the validation queries": spec.validation},
            decision=decision,
        )
        facts = {"base": spec.base, "best part": spec.best, "share of the trained weights": spec.share}
        data = {"catalog": spec.version, "source": spec.source, **spec.trained_on, **self.events}
        write_card(done.folder, done.folder.name, _USE, report, facts, data)

    def _read(self, sources: TowerSources) -> None:
        """Opens the initial model, builds the dataset, and completes the options."""
        self.source = self._base_model()
        options = self.request.options
        check_options(open_text_tower(self.source, options.max_length), options)
        self.progress.begin("dataset", None, "")
        self.made = build_dataset(sources, self.snapshot.products.row_of, options.seed)
        out = self.made.dropped
        self.progress.end(
            f"{len(self.made.training):,} queries for training, {len(self.made.validation):,} for validation, "
            f"{self.made.positives:,} positives; excluded: {out.leaked:,} queries in both parts, "
            f"{out.without_positive:,} without a positive, {out.gone:,} labels for products that no longer exist"
        )
        options = suited(options, len(self.made.training_pairs), is_table=self.source.is_table)
        self.request = replace(self.request, options=options)
        self.found = retrieve_products(self.snapshot, self.made, options.negatives, self.progress)
        if self.request.tune:
            self.request = replace(self.request, options=self._tuned())

    def _written(self, run: Path) -> TextTowersResult:
        remove_stale_runs(self.work, run)
        out = self.request.out
        folders = (out,) if out else sorted((self.work / TOWERS_FOLDER).glob(f"{_NAME}*"))
        written = next((each for each in folders if run_of(each, self.work) == run), None)
        if written is None:
            if out and out.exists():
                raise SettingError(f"{out} has the towers of another run; name a new folder, or remove it")
            return self._trained(out or new_folder(self.work), run)
        self.progress.begin("towers", None, "")
        self.progress.end(f"already trained: {written}")
        return TextTowersResult(written, read_towers(written))

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

    def _digest(self) -> str:
        """A digest that changes with everything that affects the weights, so that only an equal run is resumed."""
        made, request = self.made, self.request
        run = {"options": asdict(request.options), "base": self.source.fingerprint}
        identity = msgspec.json.encode([run, self.snapshot.manifest.version, made.queries]).decode()
        return run_digest(identity, made.training, made.query_of, made.rows, made.gains, made.weights)

    def _tuned(self) -> TextTowerOptions:
        """The best options of some short trainings."""
        request = self.request

        def train(options: TextTowerOptions, folder: Path, judged: Callable[[Epoch], None]) -> float:
            short = replace(options, epochs=1, rounds=1, mix=False)
            tower = open_text_tower(self.source, options.max_length)
            products = self.snapshot.products
            task = TextTowerTask(tower, self.made, self.found, products, short, folder, judged=judged)
            return train_towers(task).best.validation

        study = self.work / f"tuning-{self._digest()}.db"
        return tuned(request.options, request.tune, study, train, self.progress)

    def _trained(self, folder: Path, run: Path) -> TextTowersResult:
        """Trains towers and writes them to a folder; raises NothingBetterError if they are not better."""
        options = self.request.options
        tower = open_text_tower(self.source, options.max_length)
        judged, products = tensorboard_curve(run, TOWERS_FOLDER), self.snapshot.products
        task = TextTowerTask(tower, self.made, self.found, products, options, run, self.progress, judged)
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
        write_towers(tower, spec, self.source, folder, adapter)
        return TextTowersResult(folder, spec)

    def _spec(self, trained: TrainedTowers) -> TextTowersSpec:
        made, source, request = self.made, self.source, self.request
        counted = {
            "training queries": len(made.training),
            "validation queries": len(made.validation),
            "positives": made.positives,
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
            run=self._digest(),
            stopped=trained.stopped,
            notices=trained.notices,
        )


def _erasures_of(source: ModelSource) -> int | None:
    """The number of erasures before the first clicks that a model learned from; None if it learned from none."""
    if not (source.folder / TOWERS_FILE).is_file():
        return None
    return read_towers(source.folder).trained_on.get(ERASURES)


def judged_queries(path: Path, progress: Progress) -> list[JudgedQuery]:
    """The queries of a judgments file; raises JudgmentsError if it cannot be read, TrainingError if it has no
    positive."""
    progress.begin(f"read {path.name}", None, "")
    judgments = read_judgments(path)
    progress.end("; ".join((f"{len(judgments.grades):,} queries", *judgments.notices)))
    return from_judgments(judgments)


def retrieve_products(
    snapshot: Snapshot, made: TowerDataset, options: NegativeOptions, progress: Progress
) -> RetrievedProducts:
    """The `options.last` best products of both retrievers for each query, over the whole catalog.

    Raises EncoderError if queries cannot be encoded, ClusterError if a cluster does not respond.
    """
    depth = options.last
    progress.begin("retrieving", len(made.queries), "queries")

    def both(queries: Sequence[str]) -> list[tuple[Rows, Rows]]:
        groups = map(snapshot.analyzer.groups, queries)
        words = [snapshot.keyword.search(each, depth).rows if each else np.empty(0, np.int64) for each in groups]
        vectors = snapshot.encoder.encode_queries(queries)
        return [(rows, snapshot.vectors.search(each, depth).rows) for rows, each in zip(words, vectors, strict=True)]

    found = map_chunks(both, made.queries, progress.advance)
    progress.end(f"the best {depth:,} by words and by vectors")
    return RetrievedProducts([words for words, _ in found], [vectors for _, vectors in found])


# A bounded search for training options of a store's towers: short trainings, each guided by the previous ones.

Train = Callable[[TextTowerOptions, Path, Callable[[Epoch], None]], float]
"""Trains new towers in their own folder; returns the nDCG@10 of the validation queries."""
_WARM_UP = 4
"""Number of trials before a bad one is stopped early."""
_STUDY = "towers"


def tuned(options: TextTowerOptions, trials: int, path: Path, train: Train, progress: Progress) -> TextTowerOptions:
    """The best options of a number of trials, of which the given options are the first. The study is stored in the file
    `path`, from which a killed search is resumed.

    Learning rate, temperature, margin and negatives are searched by the Tree-structured Parzen Estimator (Bergstra et
    al. 2011, Algorithms for Hyper-Parameter Optimization, section 4); a trial below the median of earlier ones is
    stopped. Raises TrainingError if no trial completed or the file is not a study.
    """
    study = _study(path, options.seed)
    scratch = path.with_suffix("")
    if not _done(study):
        loss, negatives = options.loss, options.negatives.count
        given = {"learning_rate": options.learning_rate, "temperature": loss.temperature, "margin": loss.margin}
        study.enqueue_trial({**given, "negatives": negatives})
    while (done := len(_done(study))) < trials:
        trial = study.ask()
        tried = _suggested(trial, options)
        progress.begin(f"trial {done + 1} of {trials}", None, "")
        value = _value(study, trial, tried, scratch, train)
        outcome = "pruned" if value is None else f"nDCG@10 {value:.4f}"
        progress.end(f"{outcome} with {_words(tried)}")
    shutil.rmtree(scratch, ignore_errors=True)
    whole = [each for each in _done(study) if each.value is not None]
    if not whole:
        raise TrainingError("no trial completed: lower --learning-rate, or check the labels")
    best = max(whole, key=lambda each: (each.value or 0.0, -each.number))
    found = _with(options, best.params)
    progress.begin("tuning", None, "")
    progress.end(f"nDCG@10 {best.value:.4f} with {_words(found)}; all trials are in {path}")
    return found


def _study(path: Path, seed: int) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    from sqlalchemy.exc import SQLAlchemyError

    try:
        study = optuna.create_study(
            storage=f"sqlite:///{path}",
            study_name=_STUDY,
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_WARM_UP),
            load_if_exists=True,
        )
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        message = str(error).partition("\n")[0]
        raise TrainingError(f"{path} has no search that can resume ({message}); remove it to start again") from error
    # Another seed for each resumption; the same one would repeat earlier trials.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.get_trials(deepcopy=False)))
    return study


def _done(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The completed trials, including bad ones; a killed trial stays marked as running."""
    return [each for each in study.get_trials(deepcopy=False) if each.state.is_finished()]


def _suggested(trial: optuna.Trial, options: TextTowerOptions) -> TextTowerOptions:
    """Suggested options within the usual bounds, or those of the given options if they are outside. The pointwise
    loss has no margin."""
    rate, margin = options.learning_rate, options.loss.margin
    temperature, count = options.loss.temperature, options.negatives.count
    widest = 0.0 if options.loss.name == "pointwise" else max(0.2, margin)
    return _with(
        options,
        {
            "learning_rate": trial.suggest_float("learning_rate", min(1e-5, rate), max(1e-3, rate), log=True),
            "temperature": trial.suggest_float("temperature", min(0.01, temperature), max(0.1, temperature), log=True),
            "margin": trial.suggest_float("margin", 0.0, widest),
            "negatives": trial.suggest_int("negatives", 0, max(3, count)),
        },
    )


def _with(options: TextTowerOptions, found: Mapping[str, float]) -> TextTowerOptions:
    loss = replace(options.loss, temperature=found["temperature"], margin=found["margin"])
    negatives = replace(options.negatives, count=int(found["negatives"]))
    return replace(options, learning_rate=found["learning_rate"], loss=loss, negatives=negatives)


def _value(
    study: optuna.Study, trial: optuna.Trial, options: TextTowerOptions, folder: Path, train: Train
) -> float | None:
    """nDCG@10 of a trial; None for one that was stopped, or whose loss was non-finite."""
    import optuna

    def judged(epoch: Epoch) -> None:
        trial.report(epoch.validation, epoch.number)
        if epoch.number and trial.should_prune():
            raise optuna.TrialPruned

    shutil.rmtree(folder, ignore_errors=True)
    try:
        value = train(options, folder, judged)
    except optuna.TrialPruned:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return None
    except TrainingError:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return None
    study.tell(trial, value)
    return value


def _words(options: TextTowerOptions) -> str:
    return (
        f"learning rate {options.learning_rate:.2g}, temperature {options.loss.temperature:.3f}, margin "
        f"{options.loss.margin:.3f}, {options.negatives.count} negatives"
    )
