"""Some steps of training by sentence-transformers' trainer, in the order that they are given."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.sampler import DefaultBatchSampler
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import SequentialSampler
from transformers.trainer_callback import PrinterCallback
from transformers.utils.logging import get_verbosity, set_verbosity

from rerank.towers.examples import Part
from rerank.towers.losses import TowerLoss
from rerank.towers.model import Tower, on_gpu, trains_in_bfloat16
from rerank.towers.options import TowerOptions
from rerank.training.loop import slope
from retrieval.encoder_torch import no_progress_bar

_FASTER = "faster"


class LossLostError(Exception):
    """The loss is no number any more; `step` counts from 1."""

    def __init__(self, value: float, step: int) -> None:
        super().__init__(f"the loss became {value} at step {step:,}")


def optimizer_of(loss: TowerLoss, options: TowerOptions) -> AdamW:
    """AdamW over all weights that are trained; what the loss itself learns, single numbers, moves faster."""
    own = [weight for name, weight in loss.named_parameters() if not name.startswith("model.")]
    weights = [weight for weight in loss.model.parameters() if weight.requires_grad]
    groups = [{"params": weights, _FASTER: 1.0}, *([{"params": own, _FASTER: 100.0}] if own else [])]
    return AdamW(groups, lr=options.learning_rate, weight_decay=options.weight_decay)


def steps(
    tower: Tower,
    loss: TowerLoss,
    part: Part,
    optimizer: Optimizer,
    options: TowerOptions,
    at: tuple[int, int, int],
    folder: Path,
    told: Callable[[], None],
) -> float:
    """Trains on a part, once; the mean loss of its steps. `at` is the part's number, how many steps were done before
    it, and how many the whole training has. `told` hears of each step.

    What is random in it comes from the seed and the part's number alone. Raises LossLostError, and what torch raises
    where the device has no memory left.
    """
    number, done, total = at
    loss.examples = part.examples
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] = options.learning_rate * group[_FASTER]
    rising = max(1, round(total * options.warm_up))
    schedule = LambdaLR(optimizer, lambda step: slope(done + step, total, rising))
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder / "trainer"),
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
    # Several GPUs would each be given a batch, and the model be wrapped for good.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    with no_progress_bar(), _quiet():
        trainer = _Trainer(
            model=tower.model,
            args=arguments,
            train_dataset=part.texts,
            loss=loss,
            optimizers=(optimizer, schedule),
        )
        trainer.remove_callback(PrinterCallback)
        trainer.done, trainer.told, trainer.fgm = done, told, options.fgm
        try:
            trainer.train()
        finally:
            # What validates and mines runs as it did before the first step.
            trainer.accelerator.unwrap_model(tower.model, keep_fp32_wrapper=False)
            tower.model.eval()
    return sum(trainer.losses) / max(len(trainer.losses), 1)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps transformers from warning that it takes the tokenizer's marks for the model's, which they are."""
    before = get_verbosity()
    set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        set_verbosity(before)


def _in_order(dataset: Any, batch_size: int, drop_last: bool, **_: object) -> DefaultBatchSampler:  # noqa: ANN401
    return DefaultBatchSampler(SequentialSampler(dataset), batch_size, drop_last)


class _Trainer(SentenceTransformerTrainer):
    """Stops at a loss that is no number, tells of every step, and looks at a batch a second time with its embeddings
    moved."""

    done = 0
    told: Callable[[], None]
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
        """By as much as `fgm` up the gradient of the batch."""
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
        """Writes no model card, and so looks for no examples for one."""

    def compute_loss(self, model: Any, inputs: Any, *given: Any, **named: Any) -> Any:  # noqa: ANN401
        """See `transformers.Trainer`."""
        loss: Any = super().compute_loss(model, inputs, *given, **named)
        value = float(torch.as_tensor(loss).detach())
        if not math.isfinite(value):
            raise LossLostError(value, self.done + len(self.losses) + (0 if self._is_moved else 1))
        if not self._is_moved:
            self.losses.append(value)
            self.told()
        return loss
