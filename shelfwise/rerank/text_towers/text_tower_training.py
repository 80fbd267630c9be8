"""Training of the text towers: parts with validation, rounds of negative mining, early stopping, checkpoints. An
interrupted run resumes after the last part and reaches the same weights, because all randomness depends only on the
seed and the numbers of parts and rounds."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from datasets import Dataset
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.sampler import DefaultBatchSampler
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import SequentialSampler
from transformers.trainer_callback import PrinterCallback
from transformers.utils.logging import get_verbosity, set_verbosity

from shelfwise.rerank.text_towers.dataset import Augmentation, Floats, Rows, TowerDataset
from shelfwise.rerank.text_towers.model import (
    ADAPTER_FOLDER,
    TextTower,
    WeightMixture,
    attach,
    between,
    is_table,
    merge,
    mix,
    on_gpu,
    trains_in_bfloat16,
)
from shelfwise.rerank.text_towers.task import (
    CatalogProducts,
    NegativeOptions,
    PoolEvaluator,
    TextTowerOptions,
    TextTowerTask,
    TrainedTowers,
    suited,
)
from shelfwise.rerank.text_towers.tower_loss import Examples, TowerLoss
from shelfwise.rerank.training.trainer import (
    STATE_FILE,
    Epoch,
    NonFiniteLossError,
    RunState,
    Trainer,
    best_of,
    slope,
    weights_of,
)
from shelfwise.retrieval.encoders.torch import no_progress_bar, vector_dimension
from shelfwise.retrieval.errors import NothingBetterError, SettingError, TrainingError
from shelfwise.retrieval.progress import Progress
from shelfwise.retrieval.store.files import atomic_file
from shelfwise.retrieval.store.products import encoder_text
from shelfwise.retrieval.text.analysis import fold

LABEL = "label"


def train_towers(task: TextTowerTask) -> TrainedTowers:
    """Trains a task's tower in place and leaves the weights with the best validation, or a better mixture with the
    initial weights. A non-finite loss stops the run and keeps the best part; if the GPU runs out of memory, the chunk
    is halved. Adapters are saved in the task's folder and merged. Raises SettingError for options that do not suit the
    model. Raises TrainingError for a non-finite loss before any improvement, for damaged checkpoints, and if one text
    exceeds the memory."""
    task.folder.mkdir(parents=True, exist_ok=True)
    model = task.tower.model
    options = suited(task.options, len(task.made.training_pairs), is_table=is_table(model))
    task = replace(task, options=options)
    check_options(task.tower, options)
    model.requires_grad_()
    adapted = None if options.lora is None else attach(model, options.lora, options.seed)
    try:
        trained = _TowerTraining(task).go()
    finally:
        model.eval()
    if adapted is not None:
        merge(model, adapted, task.folder / ADAPTER_FOLDER)
    return trained


def check_options(tower: TextTower, options: TextTowerOptions) -> None:
    """Raises SettingError for options that do not suit the model or each other."""
    if options.fgm and options.lora is not None:
        raise SettingError("FGM moves embeddings along their gradient: train all weights with it, or leave it out")
    if options.fgm and is_table(tower.model):
        raise SettingError("FGM moves the embeddings below a network's layers; a table has none: leave it out")
    dimensions = options.loss.dimensions
    if dimensions and max(dimensions) >= (there := vector_dimension(tower.model)):
        raise SettingError(f"--matryoshka has {max(dimensions)} columns; the model has {there}: choose fewer")


class _TowerTraining:
    def __init__(self, task: TextTowerTask) -> None:
        made, options, size = task.made, task.options, len(task.products)
        self._task, self._tower, self._options, self._progress = task, task.tower, options, task.progress
        self._loss = TowerLoss(task.tower.model, options.loss, positives(made, size), size).to(task.tower.model.device)
        self._optimizer = optimizer_of(self._loss, options)
        self._start = weights_of(self._loss)
        self._judge = PoolEvaluator(made, task.found, task.products, options.pool, options.seed)
        self._mining = Mining(task)
        self._pairs = made.training_pairs
        steps = -(-len(self._pairs) // options.batch)
        self._total = steps * options.epochs
        cut = np.linspace(0, steps, min(options.parts, steps) + 1).round().astype(int).tolist()
        self._parts = [(epoch, begin, end) for epoch in range(options.epochs) for begin, end in pairwise(cut)]
        """Epoch, first step and end within the epoch."""
        self._notices: list[str] = []

    def go(self) -> TrainedTowers:
        stopped = ""
        trainer = Trainer(
            self._loss,
            self._optimizer,
            self._task.folder,
            len(self._parts),
            self._options.patience,
            lambda number: self._train_part(number - 1),
            self._validate,
            self._task.judged,
            self._end_part,
            self._refuse_damage,
            checkpoints_start=True,
            on_out_of_memory=self._halve_chunk,
        )
        is_new = not (self._task.folder / STATE_FILE).exists()
        if is_new:
            self._progress.begin("validation", None, "")
        progress = trainer.start().progress
        if is_new:
            self._progress.end(f"nDCG@10 {progress.best:.4f} before the first step")
        try:
            trainer.run()
        except NonFiniteLossError as error:
            stopped = self._stop(trainer.state, error)
        state, progress = trainer.state, trainer.state.progress
        curve, is_mean = tuple(progress.curve), progress.averaged_best > progress.best
        self._loss.load_state_dict(state.averaged if is_mean else state.best_weights)
        reached, averaged = (progress.averaged_best, progress.averaged) if is_mean else (progress.best, 1)
        mixed = self._mixed(reached, has_learned=is_mean or best_of(curve).number > 0)
        return TrainedTowers(curve, self._total, mixed, averaged, stopped, tuple(self._notices))

    def _validate(self) -> float:
        return self._judge.ndcg(self._tower)

    def _end_part(self, state: RunState, epoch: Epoch) -> None:
        summary = f"loss {epoch.loss:.4f}, nDCG@10 {epoch.validation:.4f}"
        if self._options.average:
            average(self._loss, state, epoch.validation, self._validate)
            progress = state.progress
            summary += f"; the mean of {progress.averaged} parts {progress.averaged_best:.4f}"
        self._progress.end(summary)

    def _refuse_damage(self, checkpoint: Path) -> None:
        raise self._task.damaged(checkpoint)

    def _mixed(self, reached: float, *, has_learned: bool) -> WeightMixture:
        if not has_learned or not self._options.mix:
            return WeightMixture(1.0, reached)
        self._progress.begin("mixing", None, "")
        mixed = mix(self._loss, self._start, reached, self._validate)
        self._progress.end(f"{mixed.share:.0%} trained weights, the rest initial: nDCG@10 {mixed.validation:.4f}")
        return mixed

    def _train_part(self, number: int) -> float:
        part = self._part(number)
        done = sum(end - begin for _, begin, end in self._parts[:number])
        batches = -(-len(part.texts) // self._options.batch)
        self._progress.begin(f"part {number + 1} of {len(self._parts)}", batches, "steps")
        at = number, done, self._total
        return train_part(self._task, self._loss, part, self._optimizer, at)

    def _part(self, number: int) -> ExamplePart:
        task, options = self._task, self._options
        epoch, begin, end = self._parts[number]
        order = np.random.default_rng([options.seed, 2, epoch]).permutation(len(self._pairs))
        pairs = self._pairs[order[begin * options.batch : end * options.batch]]
        mined = self._mining.pools(number, len(self._parts))
        rng = np.random.default_rng([options.seed, 3, number])
        negatives = draw_negatives(task.made, pairs, mined, options.negatives, len(task.products), rng)
        augmentation = Augmentation(options.augment, f"{options.seed}/{number}")
        return build_part(task.made, pairs, negatives, task.products, task.tower, augmentation)

    def _stop(self, state: RunState, error: NonFiniteLossError) -> str:
        """Reason why training ended; raises NothingBetterError if no part improved."""
        loss = f"the loss became {error.value} {error.place} of {self._total:,}"
        cure = "lower the learning rate, or check the labels"
        if best_of(state.progress.curve).number == 0:
            raise NothingBetterError(f"{loss}, before the towers were any better; {cure}") from error
        return f"{loss}; the best weights so far are kept; {cure}"

    def _halve_chunk(self) -> None:
        size = self._loss.mini_batch_size
        if size == 1:
            raise TrainingError("the GPU has no memory for one text: choose a smaller model")
        self._loss.cached, self._loss.mini_batch_size = True, size // 2
        self._notices.append(f"the GPU's memory was full: {size // 2} texts are run at a time, no longer {size}")


_FASTER = "faster"


def optimizer_of(loss: TowerLoss, options: TextTowerOptions) -> AdamW:
    """AdamW over all trained weights; the loss's own scalars have a higher learning rate."""
    own = [weight for name, weight in loss.named_parameters() if not name.startswith("model.")]
    weights = [weight for weight in loss.model.parameters() if weight.requires_grad]
    groups = [{"params": weights, _FASTER: 1.0}, *([{"params": own, _FASTER: 100.0}] if own else [])]
    # Fused: a step reads the ten million weights of a table once.
    return AdamW(groups, lr=options.learning_rate, weight_decay=options.weight_decay, fused=True)


def train_part(
    task: TextTowerTask, loss: TowerLoss, part: ExamplePart, optimizer: Optimizer, at: tuple[int, int, int]
) -> float:
    """Trains one part and returns the mean loss. `at` is the part's number, the number of earlier steps, and the total
    of steps. Randomness depends on the seed and the part. Raises NonFiniteLossError, and torch's error if memory runs
    out."""
    (number, done, total), tower, options = at, task.tower, task.options
    loss.examples = part.examples
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] = options.learning_rate * group[_FASTER]
    rising = max(1, round(total * options.warm_up))
    schedule = LambdaLR(optimizer, lambda step: slope(done + step, total, rising))
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(task.folder / "trainer"),
        per_device_train_batch_size=options.batch,
        num_train_epochs=1,
        max_grad_norm=options.clip,
        seed=options.seed * 1_000 + number,
        bf16=options.precision == "bf16" or (options.precision == "auto" and trains_in_bfloat16(tower)),
        use_cpu=not on_gpu(tower),
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        batch_sampler=_in_order,
    )
    # With several GPUs, transformers would wrap the model permanently.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    with no_progress_bar(), _quiet():
        trainer = _Trainer(
            model=tower.model, args=arguments, train_dataset=part.texts, loss=loss, optimizers=(optimizer, schedule)
        )
        trainer.remove_callback(PrinterCallback)
        trainer.done, trainer.progress, trainer.fgm = done, task.progress, options.fgm
        try:
            trainer.train()
        finally:
            # Validation and mining run in the mode from before the first step.
            trainer.accelerator.unwrap_model(tower.model, keep_fp32_wrapper=False)
            tower.model.eval()
    return sum(trainer.losses) / max(len(trainer.losses), 1)


@contextmanager
def _quiet() -> Iterator[None]:
    before = get_verbosity()
    set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        set_verbosity(before)


def _in_order(dataset: Any, batch_size: int, drop_last: bool, **_: object) -> DefaultBatchSampler:  # noqa: ANN401
    return DefaultBatchSampler(SequentialSampler(dataset), batch_size, drop_last)


class _Trainer(SentenceTransformerTrainer):
    """Stops at a non-finite loss, reports every step, and adds the adversarial (FGM) pass."""

    done = 0
    progress: Progress
    fgm = 0.0

    def __init__(self, **given: Any) -> None:  # noqa: ANN401 - the library's own
        super().__init__(**given)
        self.losses: list[float] = []
        self._is_moved = False

    def training_step(self, model: Any, inputs: Any, *given: Any, **named: Any) -> Any:  # noqa: ANN401
        """See `transformers.Trainer`."""
        loss = super().training_step(model, inputs, *given, **named)
        if self.fgm:
            with self._moved_embeddings():
                super().training_step(model, inputs, *given, **named)
        return loss

    @contextmanager
    def _moved_embeddings(self) -> Iterator[None]:
        body: Any = self.model[0]
        weight = body.model.get_input_embeddings().weight
        before = weight.detach().clone()
        length = weight.grad.norm()
        if length > 0:
            weight.data.add_(weight.grad / length, alpha=self.fgm)
        self._is_moved = True
        try:
            yield
        finally:
            weight.data.copy_(before)
            self._is_moved = False

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Writes no model card."""

    def compute_loss(self, model: Any, inputs: Any, *given: Any, **named: Any) -> Any:  # noqa: ANN401
        """See `transformers.Trainer`."""
        loss: Any = super().compute_loss(model, inputs, *given, **named)
        value = float(torch.as_tensor(loss).detach())
        if not math.isfinite(value):
            step = self.done + len(self.losses) + (0 if self._is_moved else 1)
            raise NonFiniteLossError(value, f"at step {step:,}")
        if not self._is_moved:
            self.losses.append(value)
            self.progress.advance(1)
        return loss


# Averages the weights of several parts while validation improves: Wortsman et al. 2022, Model soups, section 2 (the
# greedy soup), over checkpoints of one run in order.


def average(network: nn.Module, state: RunState, validation: float, judge: Callable[[], float]) -> None:
    """Adds a network's weights to the mean of a run if validation does not decrease; restarts the mean with them if
    they alone are better. The network is unchanged."""
    progress, latest = state.progress, weights_of(network)
    if progress.averaged:
        mean = between(state.averaged, latest, 1 / (progress.averaged + 1))
        network.load_state_dict(mean)
        reached = judge()
        network.load_state_dict(latest)
        if reached >= max(progress.averaged_best, validation):
            state.averaged, progress.averaged, progress.averaged_best = mean, progress.averaged + 1, reached
            return
        if progress.averaged_best >= validation:
            return
    state.averaged, progress.averaged, progress.averaged_best = latest, 1, validation


@dataclass(frozen=True, slots=True, eq=False)
class ExamplePart:
    """Examples of some steps, in training order."""

    texts: Dataset
    examples: Examples


def positives(made: TowerDataset, size: int) -> torch.Tensor:
    """All positives as query * `size` + row, (m,), ascending."""
    keys = made.query_of * size + made.rows
    return torch.from_numpy(np.sort(keys[made.is_positive]))


def build_part(
    made: TowerDataset,
    pairs: Rows,
    negatives: Rows,
    products: CatalogProducts,
    tower: TextTower,
    augmentation: Augmentation,
) -> ExamplePart:
    """Builds the examples of `pairs` (n,) with their `negatives` (n, k)."""
    rows = np.column_stack([made.rows[pairs], negatives])
    known, place = np.unique(rows, return_inverse=True)
    place = place.reshape(rows.shape)
    read = [products[row] for row in known.tolist()]
    texts = [encoder_text(product) for product in read]
    queries = [made.queries[number] for number in made.query_of[pairs].tolist()]
    folded = (fold(product.title).encode("utf-8", "replace") for product in read)
    titles = np.array([xxhash.xxh3_64_intdigest(each) >> 1 for each in folded], np.int64)[place]
    often = np.bincount(place.reshape(-1), minlength=len(known))
    examples = Examples(
        torch.from_numpy(made.query_of[pairs]),
        torch.from_numpy(rows),
        torch.from_numpy(titles),
        torch.from_numpy(made.weights[pairs]),
        torch.from_numpy(np.log(often / often.sum()).astype(np.float32)[place]),
    )
    ready = [tower.ready_product(text) for text in texts]
    answers = list(zip(queries, place[:, 0].tolist(), strict=True))
    columns: dict[str, list[str] | list[int]] = {
        "query": [tower.ready_query(augmentation.query(query, read[at])) for query, at in answers],
        "positive": [
            ready[at]
            if (seen := augmentation.positive(query, read[at])) is read[at]
            else tower.ready_product(encoder_text(seen))
            for query, at in answers
        ],
    }
    for column in range(1, rows.shape[1]):
        columns[f"negative_{column}"] = [ready[at] for at in place[:, column].tolist()]
    columns[LABEL] = list(range(len(pairs)))
    return ExamplePart(Dataset.from_dict(columns), examples)


# Hard negatives: products that a retriever ranks high for a query and that are not known positives.

_BLOCK = 256
"""Queries per block of cosines."""
_JUDGED_SHARE = 0.5
"""Probability that the first negative is a judged one, if there is one."""
_NOTHING = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class NegativePools:
    """Negative pools of each training query, without its positives."""

    retrieved: Sequence[Rows]
    judged: Sequence[Rows]
    """Judged products below the gain of a positive."""


def window(ranked: Rows, first: int, last: int) -> Rows:
    """Ranks `first` to `last`, from 1, of rows best first; the lower half if there are fewer."""
    return ranked[min(first - 1, len(ranked) // 2) : last]


def build_pools(made: TowerDataset, rankings: Sequence[Sequence[Rows]]) -> NegativePools:
    """Builds pools; `rankings` has each retriever's results for each query of `made.training`."""
    retrieved, judged = [], []
    for place, (positive, unfit) in enumerate(_known(made)):
        found = [_NOTHING, *(ranking[place] for ranking in rankings)]
        retrieved.append(np.setdiff1d(np.concatenate(found), positive))
        judged.append(unfit)
    return NegativePools(retrieved, judged)


def draw_negatives(
    made: TowerDataset, pairs: Rows, found: NegativePools, options: NegativeOptions, size: int, rng: np.random.Generator
) -> Rows:
    """Draws negatives (n, count) for training pairs (n,); `size` is the catalog's. Random products that are not
    positives fill up short pools."""
    place_of = {number: place for place, number in enumerate(made.training.tolist())}
    positives = [positive for positive, _ in _known(made)]
    result = np.empty((len(pairs), options.count), np.int64)
    for at, query in enumerate(made.query_of[pairs].tolist()):
        place = place_of[query]
        chosen = found.retrieved[place]
        if len(chosen):
            chosen = rng.choice(chosen, min(options.count, len(chosen)), replace=False)
        judged = found.judged[place]
        if options.count and len(judged) and rng.random() < _JUDGED_SHARE:
            chosen = np.concatenate([rng.choice(judged, 1), chosen])[: options.count]
        missing = options.count - len(chosen)
        result[at] = np.concatenate([chosen, _any(positives[place], missing, size, rng)]) if missing else chosen
    return result


def nearest(queries: Floats, products: Floats, rows: Rows, last: int) -> list[Rows]:
    """The `last` products of greatest cosine for each query (q, d), best first; `products` (p, d) are unit vectors with
    their `rows` (p,)."""
    last = min(last, len(rows))
    blocks = (queries[start : start + _BLOCK] for start in range(0, len(queries), _BLOCK))
    return [ranked for block in blocks for ranked in _best(block @ products.T, rows, last)]


def _best(scores: NDArray[np.float32], rows: Rows, last: int) -> Iterator[Rows]:
    places = np.argpartition(-scores, last - 1, axis=1)[:, :last]
    # Ties are ordered by row, whatever the partition returned.
    places = np.sort(places, axis=1)
    order = np.argsort(-np.take_along_axis(scores, places, axis=1), axis=1, kind="stable")
    yield from rows[np.take_along_axis(places, order, axis=1)]


def _known(made: TowerDataset) -> Iterator[tuple[Rows, Rows]]:
    """The positives of each training query, and its judged non-positives, ascending."""
    starts = np.searchsorted(made.query_of, made.training)
    ends = np.searchsorted(made.query_of, made.training, side="right")
    is_positive = made.is_positive
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        rows, fits = made.rows[start:end], is_positive[start:end]
        yield rows[fits], rows[~fits]


def _any(positive: Rows, count: int, size: int, rng: np.random.Generator) -> Rows:
    proposed = rng.integers(0, size, count + len(positive) + 8)
    left = proposed[~np.isin(proposed, positive)]
    # A catalog of positives only has no negatives: the loss masks these.
    return np.resize(left if len(left) else proposed, count)


# Negatives are mined in rounds: first from the index, then with the current weights. Each round's ranking is stored,
# because a resumed run has other weights than the round began with.


class Mining:
    """Provides the negative pools; caches the last round."""

    def __init__(self, task: TextTowerTask) -> None:
        self._task = task
        self._made, self._options, found = task.made, task.options, task.found
        first, last = self._options.negatives.first, self._options.negatives.last
        numbers = self._made.training.tolist()
        self._words = [window(found.words[number], first, last) for number in numbers]
        self._vectors = [window(found.vectors[number], first, last) for number in numbers]
        self._last: tuple[int, NegativePools] | None = None

    def pools(self, part: int, parts: int) -> NegativePools:
        """Pools of the round of a part; raises TrainingError if the stored ranking is damaged."""
        number = part * min(self._options.rounds, parts) // parts
        if self._last is None or self._last[0] != number:
            vectors = self._ranked(number) if number else self._vectors
            self._last = number, build_pools(self._made, [self._words, vectors])
        return self._last[1]

    def _ranked(self, number: int) -> list[Rows]:
        path = self._task.folder / f"negatives-{number}.npy"
        if path.exists():
            return list(self._read(path))
        ranked = np.stack(self._ranked_now(number))
        with atomic_file(path, durable=False) as file:
            np.save(file, ranked)
        return list(ranked)

    def _ranked_now(self, number: int) -> list[Rows]:
        tower, products, progress = self._task.tower, self._task.products, self._task.progress
        size, options = len(products), self._options.negatives
        rng = np.random.default_rng([self._options.seed, 4, number])
        rows = np.sort(rng.choice(size, min(size, options.pool), replace=False))
        share = len(rows) / size
        progress.begin("mining", len(rows), "products")
        vectors = tower.encode_products([encoder_text(products[row]) for row in rows.tolist()], progress.advance)
        queries = tower.encode_queries([self._made.queries[at] for at in self._made.training.tolist()])
        first, last = max(1, round(options.first * share)), max(1, round(options.last * share))
        ranked = [window(each, first, last) for each in nearest(queries, vectors, rows, last)]
        progress.end(f"ranks {first} to {last} of {len(rows):,} products, by the present weights")
        return ranked

    def _read(self, path: Path) -> Rows:
        try:
            ranked = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            ranked = np.empty((0, 0), np.int64)
        if ranked.dtype != np.int64 or ranked.ndim != 2 or len(ranked) != len(self._made.training):
            raise self._task.damaged(path)
        return np.asarray(ranked)
