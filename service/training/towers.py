"""`shelfwise train towers`, from opinions to a folder that `shelfwise rebuild --encoder` takes.

STORE/training/tuning-0123456789abcdef.db the trials of a search for how to train
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import msgspec
import xxhash

from rerank.behaviour.derived import Derived
from rerank.teacher.teacher import open_teacher
from rerank.towers.adapters import ADAPTER_FOLDER
from rerank.towers.material import LEAST_GAIN, JudgedQuery, Material, Sources
from rerank.towers.model import Tower, open_tower
from rerank.towers.options import Found, Score, Task, TowerOptions, TrainedTowers, Watching
from rerank.towers.pruning import PruneOptions, Pruning, prune
from rerank.towers.sources import from_labels, from_reformulations
from rerank.towers.training import check_options, train_towers
from rerank.towers.validation import Judge
from rerank.towers.written import FORMAT, TowersSpec, read_towers, write_towers
from rerank.training.teacher_scores import TeacherScores
from rerank.training.tensorboard import charted
from retrieval.encoders import named_runtime
from retrieval.errors import EncoderUnavailableError, NothingBetterError, SettingError
from retrieval.weights import ModelSource, find_model
from service.settings import Settings
from service.snapshot import Snapshot
from service.training.catalog_queries import catalog_queries
from service.training.encoder_gate import check_judges, judging, without_judges
from service.training.encoder_publishing import PublishedEncoder, publish_encoder
from service.training.from_catalog import Progress
from service.training.tower_folders import (
    TOWERS_FOLDER,
    new_folder,
    refuse_old,
    remove_forgotten,
    run_folder,
    take,
    unfinished,
    whole,
    written_by,
)
from service.training.tower_material import counted_material, found_by_index, judged_queries
from service.training.tower_tuning import tuned
from service.training.training import TEACHER_SCORES, TRAINING_FOLDER, fresh_tables, working

_STUDY, _PRUNING = "tuning-", "pruning"
_NAMED = {"judgments": "--judgments", "catalog": "--from-catalog"}


@dataclass(frozen=True, slots=True)
class TowersRequest:
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
    options: TowerOptions = field(default_factory=TowerOptions)
    tune: int = 0
    """So many short trainings look for better options first; 0 takes those that are given."""

    @property
    def source(self) -> str:
        """What they learn from: the catalog, judgments or clicks."""
        return "catalog" if self.catalog else "judgments" if self.judgments else "clicks"


@dataclass(frozen=True, slots=True)
class WrittenTowers:
    """Trained towers, where they are, and what became of them."""

    folder: Path
    spec: TowersSpec
    whole: Path | None = None
    """The same with all layers, where these keep some of them."""
    published: PublishedEncoder | None = None
    """None where they were not to be published."""


def train_text_towers(root: Path, settings: Settings, request: TowersRequest, progress: Progress) -> WrittenTowers:
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
    refuse_old(request.out, request.options.layers, unfinished(root / TRAINING_FOLDER))
    if request.publish:
        named_runtime(request.runtime)
        if request.catalog and not request.judgments:
            raise SettingError(
                "queries made from the catalog cannot judge what learned from such queries: name judged ones with "
                "--judgments, or write a folder only, with --aside"
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


def _clicked(derived: Derived, request: TowersRequest) -> Sources:
    sources = _sources(from_labels(derived.labels), request)
    if not request.paraphrases:
        return sources
    return replace(sources, paraphrases=from_reformulations(derived.reformulations, derived.queries))


def _sources(training: Sequence[JudgedQuery], request: TowersRequest) -> Sources:
    validation = judged_queries(request.validation) if request.validation else None
    return Sources(training, validation, request.held_out)


def _published(
    root: Path,
    settings: Settings,
    snapshot: Snapshot,
    work: Path,
    sources: Sources,
    judges: Sequence[JudgedQuery] | None,
    request: TowersRequest,
    progress: Progress,
) -> WrittenTowers:
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
    """What a training stands on, whatever its options are."""

    snapshot: Snapshot
    made: Material
    found: Found
    source: ModelSource
    work: Path
    progress: Progress

    def judge(self, options: TowerOptions) -> Judge:
        """What chooses among weights."""
        return Judge(self.made, self.found, self.snapshot.products, options.pool, options.seed)

    def digest(self, request: TowersRequest) -> str:
        """Another one for anything that would make other weights: what one run left is of no use to the other."""
        made = self.made
        told = {"options": asdict(request.options), "teacher": request.teacher, "base": self.source.fingerprint}
        digest = xxhash.xxh3_64(msgspec.json.encode([told, self.snapshot.manifest.version, made.queries]))
        for array in (made.training, made.query_of, made.rows, made.gains, made.weights):
            digest.update(array.tobytes())
        return digest.hexdigest()


def _written(
    snapshot: Snapshot, work: Path, sources: Sources, request: TowersRequest, progress: Progress
) -> tuple[WrittenTowers, Judge, Path]:
    """The towers, what chose among their weights, and the folder of the run."""
    source = _begun_with(snapshot, request)
    check_options(open_tower(source, request.options.max_length), request.options)
    sources = _with_synthetic(snapshot, sources, request, progress)
    made = counted_material(snapshot, sources, request.options.seed, progress)
    found = found_by_index(snapshot, made, request.options.negatives, progress)
    ground = _Ground(snapshot, made, found, source, work, progress)
    if request.tune:
        request = replace(request, options=_tuned(ground, request))
    judge, run = ground.judge(request.options), run_folder(work, ground.digest(request))
    remove_forgotten(work, run)
    written = written_by(run)
    refuse_old(request.out, request.options.layers, (written, whole(written)) if written else ())
    folder = request.out or written or new_folder(work)
    if written == folder.absolute() and folder.exists():
        progress.begin("towers", None, "")
        progress.end(f"were trained before: {folder}")
        unpruned = whole(folder) if request.options.layers else None
        return WrittenTowers(folder, read_towers(folder), unpruned), judge, run
    return _trained(ground, request, folder, run, judge), judge, run


def _begun_with(snapshot: Snapshot, request: TowersRequest) -> ModelSource:
    served = snapshot.manifest.encoder_name
    if not request.encoder and Path(served).is_absolute() and not Path(served).exists():
        raise EncoderUnavailableError(
            f"the encoder that serves was made of {served}, which is gone; put it back, or name a model to begin with: "
            "--encoder"
        )
    return find_model(request.encoder or served, request.cache)


def _with_synthetic(snapshot: Snapshot, sources: Sources, request: TowersRequest, progress: Progress) -> Sources:
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


def _tuned(ground: _Ground, request: TowersRequest) -> TowerOptions:
    """The best options of some trainings of one epoch each."""
    score, made, products = _score(request, ground.work), ground.made, ground.snapshot.products

    def train(options: TowerOptions, folder: Path, watching: Watching) -> float:
        short = replace(options, epochs=1, rounds=1, mix=False)
        tower = open_tower(ground.source, options.max_length)
        return train_towers(Task(tower, made, ground.found, products, short, folder, watching, score)).best.validation

    study = ground.work / f"{_STUDY}{ground.digest(request)}.db"
    if not study.exists():
        # None of these trainings was ever begun: a folder that is there is of no run that this one goes on with.
        refuse_old(request.out, request.options.layers, ())
    return tuned(request.options, request.tune, study, train, ground.progress)


def _trained(ground: _Ground, request: TowersRequest, folder: Path, run: Path, judge: Judge) -> WrittenTowers:
    options, progress, made, products = request.options, ground.progress, ground.made, ground.snapshot.products
    tower = open_tower(ground.source, options.max_length)
    try:
        trained = _better(ground, request, tower, run)
    except NothingBetterError:
        # The same run would find the same again.
        shutil.rmtree(run)
        raise
    spec, adapter = _spec(ground, request, trained), run / ADAPTER_FOLDER if options.lora else None
    folder.parent.mkdir(parents=True, exist_ok=True)
    take(folder.absolute(), run)
    if options.layers is None:
        write_towers(tower, spec, folder, adapter)
        return WrittenTowers(folder, spec)
    if not whole(folder).exists():
        write_towers(tower, spec, whole(folder), adapter)
    watching = Watching(progress.begin, progress.advance, progress.end)
    pruning = Pruning(tower, made, products, judge, run / _PRUNING, PruneOptions(seed=options.seed), watching)
    fewer, curve = prune(pruning, options.layers)
    spec = msgspec.structs.replace(spec, layers=options.layers, pruning=curve)
    write_towers(fewer, spec, folder)
    return WrittenTowers(folder, spec, whole(folder))


def _better(ground: _Ground, request: TowersRequest, tower: Tower, run: Path) -> TrainedTowers:
    """What training made of a tower; raises NothingBetterError where it is no better by that."""
    progress, options = ground.progress, request.options
    with charted(ground.work, run.name, TOWERS_FOLDER) as judged:
        watching, score = Watching(progress.begin, progress.advance, progress.end, judged), _score(request, ground.work)
        task = Task(tower, ground.made, ground.found, ground.snapshot.products, options, run, watching, score)
        trained = train_towers(task)
    if not trained.improved:
        raise NothingBetterError(
            f"no part of the training was better than {ground.source.name} as it was "
            f"(nDCG@10 {trained.best.validation:.4f}), so nothing is written; lower the learning rate, or give more "
            f"judged queries"
        )
    return trained


def _score(request: TowersRequest, work: Path) -> Score | None:
    if request.options.loss.teacher == "none":
        return None
    if not request.teacher:
        raise SettingError("the loss wants a teacher's scores: name a cross-encoder as --teacher")
    return TeacherScores(open_teacher(request.teacher, cache=request.cache), work / TEACHER_SCORES).score


def _spec(ground: _Ground, request: TowersRequest, trained: TrainedTowers) -> TowersSpec:
    made, source = ground.made, ground.source
    counted = {
        "training queries": len(made.training),
        "validation queries": len(made.validation),
        "positives": made.positives,
        "paraphrases": made.paraphrases,
        "synthetic queries": made.synthetic,
    }
    return TowersSpec(
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
