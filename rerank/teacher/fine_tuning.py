"""Fine-tunes a cross-encoder on graded lists, listwise, and saves it in the layout of sentence-transformers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from safetensors import SafetensorError
from sentence_transformers import CrossEncoder
from torch import Tensor

from rerank.teacher.cross_encoder import fast_tokenizer, find_cross_encoder, load_cross_encoder, logits, spec_of
from rerank.teacher.pairs import PairTokenizer
from rerank.training.evaluation import ndcg
from rerank.training.losses import list_softmax
from rerank.training.trainer import Epoch, LoopOptions, Training, best_of, train
from retrieval.encoders.base import DEFAULT_MAX_LENGTH
from retrieval.encoders.weights import ModelSource
from retrieval.errors import SettingError, StoreError, TrainingError
from retrieval.store.files import atomic_folder

LEAST_LISTS = 50


@dataclass(frozen=True, slots=True)
class GradedList:
    """A query, product texts, and the value of each text for the query."""

    query: str
    texts: Sequence[str]
    gains: Sequence[float]
    """One gain per text, at least 0: 2^grade - 1, or debiased labels."""


def select_lists(lists: Sequence[GradedList]) -> list[GradedList]:
    """The lists in which one text is better than another.

    Raises TrainingError for a list with invalid gains, and if fewer than 50 lists are left.
    """
    for number, each in enumerate(lists):
        name, gains = f"list {number} ({each.query[:80]!r})", np.asarray(each.gains, np.float64)
        if len(each.texts) != len(gains):
            raise TrainingError(f"{name} has {len(each.texts)} texts and {len(gains)} gains; each text needs one")
        if not np.isfinite(gains).all() or (gains < 0).any():
            raise TrainingError(f"{name} has gains that are negative or not finite; use 0 or more")
    kept = [each for each in lists if len(set(each.gains)) > 1]
    if len(kept) < LEAST_LISTS:
        raise TrainingError(
            f"{len(kept)} of {len(lists)} lists have texts of different gains; at least {LEAST_LISTS} are needed to "
            "fine-tune a cross-encoder: grade more queries, or use it as it is"
        )
    return kept


def split_by_query(
    lists: Sequence[GradedList], held_out: float, seed: int
) -> tuple[list[GradedList], list[GradedList]]:
    """Training lists and validation lists: about a share `held_out`, at least one of either.

    All lists of a query are in the same part, which depends on the query's hash, not on its position.
    """

    def digest(query: str) -> int:
        return xxhash.xxh3_64_intdigest(query.encode("utf-8", "surrogatepass"), seed=seed)

    order = sorted({each.query for each in lists}, key=lambda query: (digest(query), query))
    if len(order) < 2:
        raise TrainingError("all lists have the same query; to validate, at least one query must be held out")
    held = set(order[: min(max(1, round(held_out * len(order))), len(order) - 1)])
    return [each for each in lists if each.query not in held], [each for each in lists if each.query in held]


def fingerprint(lists: Sequence[GradedList]) -> str:
    """XXH3 over queries, texts and gains (64 bits, hexadecimal)."""
    digest = xxhash.xxh3_64()
    for each in lists:
        for text in (each.query, *each.texts):
            digest.update(f"{len(text)}:{text}".encode("utf-8", "surrogatepass"))
        digest.update(np.asarray(each.gains, np.float64).tobytes())
    return digest.hexdigest()


def draw_texts(graded: GradedList, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of at most `most` random texts; if there are more, half of them have a gain."""
    order = rng.permutation(len(graded.texts))
    if len(order) <= most:
        return order
    worth = np.asarray(graded.gains)[order] > 0
    first = order[worth][: max(1, most // 2)]
    others = order[~np.isin(order, first)]
    # Texts without gain come first among the others; the remaining ones with gain fill up if those are too few.
    others = others[np.argsort(np.asarray(graded.gains)[others] > 0, kind="stable")]
    return np.concatenate([first, others[: most - len(first)]])


_PAIRS = 64
"""The number of pairs that are validated at a time."""


@dataclass(frozen=True, slots=True)
class FineTuningOptions:
    """Options of fine-tuning; the defaults are for a model of 12 layers and some thousand queries."""

    loop: LoopOptions = field(default_factory=lambda: LoopOptions(epochs=3, learning_rate=2e-5, patience=1))
    lists: int = 4
    """The number of queries in a step."""
    texts: int = 16
    """The most texts of each query in a step."""
    held_out: float = 0.1
    """The share of queries that are used only for validation."""
    max_length: int = DEFAULT_MAX_LENGTH
    """The most tokens of a pair."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class FineTuningResult:
    """The result of fine-tuning."""

    folder: Path
    curve: tuple[Epoch, ...]
    """Line 0 is the initial model; validation is nDCG@10 of the held-out queries."""

    @property
    def improved(self) -> bool:
        """False if no epoch was better than the initial model, which the folder then contains."""
        return best_of(self.curve).number > 0


def fine_tune(
    name_or_folder: str,
    lists: Sequence[GradedList],
    target: Path,
    options: FineTuningOptions | None = None,
    *,
    cache: Path = Path(".cache"),
    advance: Callable[[int], None] = lambda _steps: None,
) -> FineTuningResult:
    """Trains a cross-encoder on `lists` and writes it to the new folder `target`, which `open_teacher` opens.

    The loss is ListNet's (see `rerank.training.losses.list_softmax`); a share of the queries is held out, and the
    weights that order those best are kept. The state after each epoch is stored under `cache` until `target` is
    written, so that the same call resumes an interrupted run. `advance` receives the number of completed steps. It runs
    on the GPU if there is one.

    Raises TrainingError if the lists do not suffice, EncoderUnavailableError like `open_teacher`, SettingError if
    `target` exists, StoreError if it cannot be written.
    """
    options = options or FineTuningOptions()
    if target.exists():
        raise SettingError(f"{target} exists; use a new folder for the fine-tuned cross-encoder, or remove it")
    kept = select_lists(lists)
    source = find_cross_encoder(name_or_folder, cache)
    identity = f"{source.fingerprint} {fingerprint(kept)} {msgspec.json.encode(options).decode()}"
    work = cache / "fine-tuning" / xxhash.xxh3_64_hexdigest(identity.encode())
    model = load_cross_encoder(source)
    curve = _trained(model, source, kept, options, work, advance)
    _save(model, target)
    shutil.rmtree(work, ignore_errors=True)
    return FineTuningResult(target, curve)


def _trained(
    model: CrossEncoder,
    source: ModelSource,
    lists: Sequence[GradedList],
    options: FineTuningOptions,
    work: Path,
    advance: Callable[[int], None],
) -> tuple[Epoch, ...]:
    spec = spec_of(source, model, "torch", options.max_length)
    pairs = PairTokenizer(fast_tokenizer(model, source.name), spec.max_length, spec.prompt)
    training, validation = split_by_query(lists, options.held_out, options.seed)

    def batches(epoch: int) -> Iterator[_Step]:
        # Dropout's randomness also depends on the epoch only, so a resumed run ends like an uninterrupted one.
        torch.manual_seed(options.seed * 1_000 + epoch)
        return _shuffled(training, options, epoch)

    what: Training[CrossEncoder, _Step] = Training(
        batches,
        -(-len(training) // options.lists),
        lambda network, step: _loss(network, step, pairs),
        lambda network: _quality(network, validation, pairs),
    )
    try:
        return train(model, what, options.loop, work, advance)
    finally:
        model.eval()


@dataclass(frozen=True, slots=True)
class _Step:
    lists: Sequence[GradedList]
    places: Sequence[NDArray[np.int64]]


def _shuffled(lists: Sequence[GradedList], options: FineTuningOptions, epoch: int) -> Iterator[_Step]:
    rng = np.random.default_rng([options.seed, epoch])
    order = rng.permutation(len(lists)).tolist()
    for start in range(0, len(order), options.lists):
        chosen = [lists[number] for number in order[start : start + options.lists]]
        yield _Step(chosen, [draw_texts(each, options.texts, rng) for each in chosen])


def _loss(model: CrossEncoder, step: _Step, pairs: PairTokenizer) -> Tensor:
    queries = [each.query for each, places in zip(step.lists, step.places, strict=True) for _ in places]
    texts = [each.texts[at] for each, places in zip(step.lists, step.places, strict=True) for at in places.tolist()]
    (batch,) = pairs.tokens(queries, texts).sorted_by_length(len(queries))
    scores = logits(model, batch)
    in_order = scores[torch.from_numpy(np.argsort(batch.rows)).to(scores.device)]
    chosen = zip(step.lists, step.places, strict=True)
    gains, is_candidate = _padded([np.asarray(each.gains, np.float64)[places] for each, places in chosen])
    kept = torch.from_numpy(is_candidate).to(scores.device)
    lists = torch.zeros(kept.shape, device=scores.device).masked_scatter(kept, in_order)
    return list_softmax(lists, torch.from_numpy(gains).to(scores.device), kept)


def _padded(gains: Sequence[NDArray[np.float64]]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Gains (B, c), 0 without a text, and the mask of texts (B, c)."""
    lengths = np.array([len(each) for each in gains])
    is_candidate = np.arange(lengths.max()) < lengths[:, None]
    result = np.zeros(is_candidate.shape, np.float32)
    result[is_candidate] = np.concatenate(gains)
    return result, is_candidate


def _quality(model: CrossEncoder, lists: Sequence[GradedList], pairs: PairTokenizer) -> float:
    """nDCG@10 of the model's order, the mean over lists."""
    model.eval()
    queries = [each.query for each in lists for _ in each.texts]
    scores = np.empty(len(queries), np.float32)
    with torch.inference_mode():
        for batch in pairs.tokens(queries, [text for each in lists for text in each.texts]).sorted_by_length(_PAIRS):
            scores[batch.rows] = logits(model, batch).cpu().numpy()
    offsets = np.cumsum([0, *(len(each.gains) for each in lists)])
    gains = np.concatenate([np.asarray(each.gains, np.float32) for each in lists])
    return float(ndcg(scores, gains, offsets).mean())


def _save(model: CrossEncoder, target: Path) -> None:
    try:
        with atomic_folder(target) as scratch:
            model.save(str(scratch), create_model_card=False)
    except (OSError, SafetensorError) as error:
        message = f"the model cannot be stored as {target} ({str(error)[:200]}); check the disk and try again"
        raise StoreError(message) from error
