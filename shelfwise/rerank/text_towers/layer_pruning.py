"""Layer pruning: distils an encoder into some of its own layers. Sanh et al. 2019, DistilBERT, section 3 (initialising
from teacher layers); squared distance of vectors as the loss: Reimers & Gurevych 2020, Making Monolingual Sentence
Embeddings Multilingual, section 2."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import batch_to_device
from torch import Tensor, nn
from torch.nn import functional

from shelfwise.rerank.text_towers.dataset import Floats, Rows, TowerDataset
from shelfwise.rerank.text_towers.model import TextTower
from shelfwise.rerank.text_towers.options import CatalogProducts
from shelfwise.rerank.text_towers.validation import PoolEvaluator
from shelfwise.rerank.training.trainer import Epoch, LoopOptions, Training, train, weights_of
from shelfwise.retrieval.errors import SettingError, TrainingError
from shelfwise.retrieval.progress import NullProgress, Progress
from shelfwise.retrieval.store.products import encoder_text

TEXTS = 40_000
"""Product texts used in addition to the training queries."""


@dataclass(frozen=True, slots=True)
class LayerPruningOptions:
    """Options of the training of the remaining layers."""

    loop: LoopOptions = field(default_factory=lambda: LoopOptions(epochs=4, learning_rate=5e-4, warm_up=100))
    batch: int = 64
    """Texts a step."""
    texts: int = TEXTS
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class LayerPruning:
    """The tower to prune and its training texts."""

    tower: TextTower
    made: TowerDataset
    products: CatalogProducts
    judge: PoolEvaluator
    folder: Path
    """Stores the state between epochs."""
    options: LayerPruningOptions
    progress: Progress = NullProgress()  # noqa: RUF009  # it has no state


def prune_layers(task: LayerPruning, layers: int) -> tuple[TextTower, tuple[Epoch, ...]]:
    """Prunes a tower to the given number of layers, trains it on the vectors of the full tower, and returns it with the
    weights of the best epoch and its curve. Line 0 of the curve is the tower before training. Resumes an interrupted
    run; halves the batch if the GPU runs out of memory. Raises what `check_layers` does, and TrainingError for a
    non-finite loss or if one text exceeds the memory."""
    teacher, student = _encode_by_teacher(task), keep_layers(task.tower, layers)
    start, options = weights_of(student.model), task.options
    while (curve := _train_student(task, options, student, teacher, layers)) is None:
        if options.batch == 1:
            raise TrainingError("the GPU has no memory to train on one text: choose a smaller model")
        options = replace(options, batch=options.batch // 2)
        student.model.load_state_dict(start)
        torch.cuda.empty_cache()
    return student, curve


def _train_student(
    task: LayerPruning, options: LayerPruningOptions, student: TextTower, teacher: _TeacherVectors, layers: int
) -> tuple[Epoch, ...] | None:
    """Trains and returns the curve; None if the device runs out of memory."""
    progress, steps = task.progress, -(-len(teacher.texts) // options.batch)
    progress.begin(f"{layers} layers", options.loop.epochs * steps, "steps")
    training: Training[SentenceTransformer, Rows] = Training(
        lambda epoch: _shuffled(teacher, options, epoch),
        steps,
        lambda network, rows: _distance(network, student, teacher, rows),
        lambda _: task.judge.ndcg(student),
    )
    try:
        curve = train(student.model, training, options.loop, task.folder, progress.advance)
    except torch.OutOfMemoryError:
        progress.end(f"the GPU's memory is full with {options.batch} texts a step: half as many are tried")
        return None
    finally:
        student.model.eval()
    progress.end(f"nDCG@10 by epoch, taught by all layers: {', '.join(f'{epoch.validation:.4f}' for epoch in curve)}")
    return curve


def keep_layers(tower: TextTower, layers: int) -> TextTower:
    """Copies a tower with evenly spaced layers, including the first and the last; raises what `check_layers` does."""
    check_layers(tower, layers)
    model = copy.deepcopy(tower.model)
    stack = _stack(model)
    kept = set(np.linspace(0, len(stack) - 1, layers).round().astype(int).tolist())
    for place in reversed(range(len(stack))):
        if place not in kept:
            del stack[place]
    config = _config(model)
    config.num_hidden_layers = layers
    if kinds := getattr(config, "layer_types", None):
        config.layer_types = [kinds[place] for place in sorted(kept)]
    # All weights are trained, including those frozen before.
    model.requires_grad_()
    return replace(tower, model=model)


def check_layers(tower: TextTower, layers: int) -> None:
    """Raises SettingError if the layers are not found or there are not more than requested."""
    there = len(_stack(tower.model))
    if not 1 <= layers < there:
        available = f"the model has {there}" if there else "this model's are not found"
        raise SettingError(f"--layers is {layers}, {available}: choose fewer, or leave --layers out")


def _stack(model: SentenceTransformer) -> nn.ModuleList:
    """The list of transformer layers; empty if it is ambiguous."""
    expected = getattr(_config(model), "num_hidden_layers", 0)
    lists = [
        module for module in model[0].modules() if isinstance(module, nn.ModuleList) and len(module) == expected > 1
    ]
    return lists[0] if len(lists) == 1 else nn.ModuleList()


def _config(model: SentenceTransformer) -> Any:  # noqa: ANN401 - the library's own
    return getattr(getattr(model[0], "auto_model", None), "config", None)


@dataclass(frozen=True, slots=True, eq=False)
class _TeacherVectors:
    """Texts (n,) with the full tower's unit vectors (n, d)."""

    texts: Sequence[str]
    vectors: Floats


def _encode_by_teacher(task: LayerPruning) -> _TeacherVectors:
    tower, made, options, progress = task.tower, task.made, task.options, task.progress
    known = np.unique(made.rows[made.training_pairs])
    queries = [made.queries[number] for number in made.training.tolist()]
    texts = [encoder_text(task.products[row]) for row in _with_others(known, len(task.products), options).tolist()]
    progress.begin("vectors", len(texts), "products")
    vectors = np.concatenate([tower.encode_queries(queries), tower.encode_products(texts, progress.advance)])
    progress.end(f"of {len(queries):,} queries and {len(texts):,} products, by all layers")
    return _TeacherVectors([*map(tower.ready_query, queries), *map(tower.ready_product, texts)], vectors)


def _with_others(known: Rows, size: int, options: LayerPruningOptions) -> Rows:
    rng = np.random.default_rng([options.seed, 5])
    known = known if len(known) <= options.texts else rng.choice(known, options.texts, replace=False)
    others = np.setdiff1d(np.arange(size), known)
    count = min(options.texts - len(known), len(others))
    return np.sort(np.concatenate([known, rng.choice(others, count, replace=False)]))


def _shuffled(teacher: _TeacherVectors, options: LayerPruningOptions, epoch: int) -> Iterator[Rows]:
    """Shuffled batches of similar text lengths; randomness depends on the epoch only."""
    torch.manual_seed(options.seed * 1_000 + epoch)
    rng = np.random.default_rng([options.seed, 6, epoch])
    lengths = np.array([len(text) for text in teacher.texts]) + rng.uniform(0, 16, len(teacher.texts))
    order = np.argsort(lengths)
    for start in rng.permutation(np.arange(0, len(order), options.batch)).tolist():
        yield order[start : start + options.batch]


def _distance(network: nn.Module, student: TextTower, teacher: _TeacherVectors, rows: Rows) -> Tensor:
    features = student.model.preprocess([teacher.texts[row] for row in rows.tolist()])
    place = student.model.device
    made = network(batch_to_device(features, place))["sentence_embedding"]
    apart = functional.normalize(made, dim=-1) - torch.from_numpy(teacher.vectors[rows]).to(place)
    return apart.square().sum(dim=1).mean()
