"""Training of the text towers: parts with validation, rounds of negative mining, early stopping, checkpoints. An
interrupted run resumes after the last part and reaches the same weights, because all randomness depends only on the
seed and the numbers of parts and rounds."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.sampler import DefaultBatchSampler
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import SequentialSampler
from transformers.trainer_callback import PrinterCallback
from transformers.utils.logging import get_verbosity, set_verbosity

from shelfwise.rerank.text_towers.batches import ExamplePart, Mining, build_part, draw_negatives, positives
from shelfwise.rerank.text_towers.dataset import Augmentation
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
from shelfwise.rerank.text_towers.task import PoolEvaluator, TextTowerOptions, TextTowerTask, TrainedTowers, suited
from shelfwise.rerank.text_towers.tower_loss import TowerLoss
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
