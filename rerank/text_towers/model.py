"""The encoder while it is trained: a sentence-transformers model with its prompts, read at a training's length."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from rerank.text_towers.dataset import Floats
from rerank.training.trainer import weights_of
from retrieval.encoders.base import prepare_text, unit_rows
from retrieval.encoders.torch import load_model, model_length, no_progress_bar, prompts
from retrieval.encoders.weights import ModelSource
from retrieval.errors import SettingError, StoreError, TrainingError
from retrieval.store.files import atomic_folder

_CHUNK = 2_048
_BATCH_CPU, _BATCH_GPU = 64, 256


@dataclass(frozen=True, slots=True, eq=False)
class TextTower:
    """Both text towers: they share their weights, and the prompts tell them apart."""

    model: SentenceTransformer
    name: str
    query_prompt: str
    product_prompt: str
    max_length: int
    """Tokens that training reads; the model that is saved reads as many as before."""
    full_length: int

    def ready_query(self, text: str) -> str:
        """A query as the model reads it, its prompt before it."""
        return prepare_text(text, self.query_prompt, self.max_length)

    def ready_product(self, text: str) -> str:
        """A product's text as the model reads it."""
        return prepare_text(text, self.product_prompt, self.max_length)

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        """Unit vectors (n, d) by the present weights."""
        return self._encode([self.ready_query(text) for text in texts])

    def encode_products(self, texts: Sequence[str], progress: Callable[[int], None] = lambda _count: None) -> Floats:
        """The same of products' texts; `progress` is told how many more are done."""
        return self._encode([self.ready_product(text) for text in texts], progress)

    def save(self, folder: Path, add_files: Callable[[Path], None] = lambda _folder: None) -> None:
        """Writes a new folder that sentence-transformers opens, whole or not at all; `beside` adds files to it.

        Raises SettingError where `folder` exists, StoreError where it cannot be written.
        """
        if folder.exists():
            raise SettingError(f"{folder} exists; name a new folder for the towers, or remove it")
        self.model.max_seq_length = self.full_length
        try:
            with atomic_folder(folder) as scratch, no_progress_bar():
                self.model.save(str(scratch), create_model_card=False)
                add_files(scratch)
        except (OSError, SafetensorError) as error:
            message = f"the towers cannot be stored as {folder} ({str(error)[:200]}); see to the disk, then try again"
            raise StoreError(message) from error
        finally:
            self.model.max_seq_length = self.max_length

    def _encode(self, ready: list[str], progress: Callable[[int], None] = lambda _count: None) -> Floats:
        batch = _BATCH_GPU if self.model.device.type == "cuda" else _BATCH_CPU
        parts = [np.empty((0, self.model.get_embedding_dimension() or 0), np.float32)]
        self.model.eval()
        for start in range(0, len(ready), _CHUNK):
            chunk = ready[start : start + _CHUNK]
            while (made := self._made(chunk, batch)) is None:
                if batch == 1:
                    raise TrainingError("the GPU has no memory to encode one text: choose a smaller model")
                batch //= 2
                torch.cuda.empty_cache()
            parts.append(unit_rows(made))
            progress(len(chunk))
        return np.concatenate(parts)

    def _made(self, chunk: list[str], batch: int) -> Floats | None:
        """Vectors of texts, so many at a time; None where the GPU has no memory for that."""
        try:
            # An empty prompt, or sentence-transformers would add the model's default one to ours.
            made = self.model.encode(chunk, prompt="", batch_size=batch, show_progress_bar=False)
        except torch.OutOfMemoryError:
            return None
        return np.asarray(made, np.float32)


def open_text_tower(source: ModelSource, max_length: int, *, device: str | None = None) -> TextTower:
    """The model to begin with; `device` None takes the GPU where there is one.

    Raises EncoderUnavailableError where it cannot be loaded, TrainingError where it has no weights to train.
    """
    model = load_model(source, device=device)
    if not any(weight.requires_grad for weight in model.parameters()):
        raise TrainingError(f"{source.name} has no weights that can be trained: name another model to begin with")
    query, product = prompts(model)
    full = model_length(model)
    model.max_seq_length = min(max_length, full)
    return TextTower(model, source.name, query, product, model.max_seq_length, full)


def on_gpu(tower: TextTower) -> bool:
    """Whether it runs on a GPU."""
    return tower.model.device.type == "cuda"


def trains_in_bfloat16(tower: TextTower) -> bool:
    """Whether its device computes faster in bfloat16, in which it trains as well.

    A CPU may have instructions for it and yet be slower by them: one that has is asked.
    """
    if on_gpu(tower):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has = torch.cpu.get_capabilities()
    return any(has.get(name) for name in ("avx512_bf16", "amx_bf16")) and _bfloat16_is_faster()


@cache
def _bfloat16_is_faster() -> bool:
    return _matrix_seconds(torch.bfloat16) < _matrix_seconds(torch.float32)


def _matrix_seconds(dtype: torch.dtype) -> float:
    """The fastest of some, so that what runs beside does not count."""
    texts, weights = torch.ones(2_048, 384, dtype=dtype), torch.ones(1_536, 384, dtype=dtype)
    seconds = []
    for _ in range(8):
        started = time.perf_counter()
        functional.linear(texts, weights)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


# Low-rank adapters: a few matrices beside those of the model are trained in their place (LoRA, Hu et al. 2021, section
# 4.1), which takes little memory; in the end they are added to the model, which is then as fast as before.

ADAPTER_FOLDER = "adapter"
"""Beside a trained model: its adapters alone, as peft reads them."""


def attach(model: SentenceTransformer, rank: int, seed: int) -> PeftModel:
    """Puts adapters of a rank beside all matrices of the transformer, and leaves only them to be trained.

    They add nothing before the first step. Raises SettingError for a model whose first module is no transformer.
    """
    body = getattr(model[0], "model", None)
    if not isinstance(body, PreTrainedModel):
        raise SettingError("only a transformer can have low-rank adapters; train this model without them")
    model.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", bias="none")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft asks transformers for what has another name since.
        warnings.simplefilter("ignore", FutureWarning)
        torch.manual_seed(seed)
        adapted = get_peft_model(body, config)
    model[0].model = adapted
    return adapted


def merge(model: SentenceTransformer, adapted: PeftModel, folder: Path) -> None:
    """Writes a model's adapters to a folder of their own, and adds them to its weights."""
    adapted.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    model[0].model = adapted.merge_and_unload()


_SHARES = ("attention_dropout", "dropout")
"""Attributes of modules that keep their share as a number, and have no module for it."""


def set_dropout(model: nn.Module, share: float | None) -> None:
    """Leaves out this share of them wherever the model leaves out some; None is the model's own.

    What a model was saved with stands: a folder that it is saved to keeps its own share.
    """
    if share is None:
        return
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
        for name in _SHARES:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, share)


_LAYER = re.compile(r"\.(?:layers?|block)\.([0-9]{1,4})\.")
"""Of the names of a transformer's weights, as BERT, MPNet and most others have them; T5 has layers in its blocks."""


def freeze(model: nn.Module, layers: int | None) -> None:
    """Trains the upper `layers` layers and what stands above them; None trains everything, embeddings too.

    Raises SettingError for a model whose layers are not told by its weights' names, or that has fewer.
    """
    weights = dict(model.requires_grad_().named_parameters())
    if layers is None:
        return
    places = {name: place for name in weights if (place := _layer_of(name)) is not None}
    there = 1 + max(places.values(), default=-1)
    if not 1 <= layers <= there:
        raise SettingError(f"{layers} layers shall be trained; the model has {there}: name 1 to {there}, or none")
    first = there - layers
    for name in _below(weights, places, first):
        weights[name].requires_grad = False


def _below(names: Iterable[str], places: dict[str, int], first: int) -> Iterable[str]:
    layered = False
    for name in names:
        layered = layered or name in places
        if (name in places and places[name] < first) or not layered:
            yield name


def _layer_of(name: str) -> int | None:
    found = _LAYER.search(name)
    return int(found[1]) if found else None


# Weights between those that training began with and those that it ended with: they forget less of what the model knew.
#
# Wortsman et al. 2022, Robust fine-tuning of zero-shot models, section 3 (weight-space ensembling).

SHARES = (0.25, 0.5, 0.75)
"""Of what was learned, that are tried beside all of it."""


@dataclass(frozen=True, slots=True)
class WeightMixture:
    """The mixture that validation prefers."""

    share: float
    """Of what was learned; 1 is all of it."""
    validation: float
    """nDCG@10, as of a part of the curve."""


def mix(network: nn.Module, start: Mapping[str, Tensor], reached: float, judge: Callable[[], float]) -> WeightMixture:
    """Leaves a network with the mixture of `start` and its own weights that `judge` finds best; `reached` is what it
    finds of its own. Of equally good ones the one that has learned more."""
    learned = weights_of(network)
    found = {1.0: reached}
    for share in SHARES:
        network.load_state_dict(between(start, learned, share))
        found[share] = judge()
    best = max(found, key=lambda share: (found[share], share))
    network.load_state_dict(learned if best == 1.0 else between(start, learned, best))
    return WeightMixture(best, found[best])


def between(start: Mapping[str, Tensor], learned: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Weights between both, `share` of the way. What is no number with a fraction, as a count, is as it was learned."""
    return {
        name: start[name].lerp(value, share) if value.is_floating_point() else value for name, value in learned.items()
    }
