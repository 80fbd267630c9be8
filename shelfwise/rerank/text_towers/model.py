"""The trainable encoder, a sentence-transformers model with its prompts and a training length; and the folder of
trained towers, a sentence-transformers folder with `towers.json`."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from torch import Tensor, nn
from transformers import PreTrainedModel

from shelfwise.rerank.text_towers.dataset import Floats
from shelfwise.rerank.training.trainer import Epoch, weights_of
from shelfwise.retrieval.encoders.base import prepare_text, unit_rows
from shelfwise.retrieval.encoders.torch import load_model, model_length, no_progress_bar, prompts, set_length
from shelfwise.retrieval.encoders.weights import ModelSource
from shelfwise.retrieval.errors import EncoderUnavailableError, SettingError, StoreError, TrainingError
from shelfwise.retrieval.store.files import atomic_folder, seal_folder

_CHUNK = 2_048
_BATCH_CPU, _BATCH_GPU = 64, 256


@dataclass(frozen=True, slots=True, eq=False)
class TextTower:
    """Query and product encoder with shared weights and different prompts."""

    model: SentenceTransformer
    name: str
    query_prompt: str
    product_prompt: str
    max_length: int
    """Maximum tokens in training; the saved model keeps its own length."""
    full_length: int

    def ready_query(self, text: str) -> str:
        """The query with its prompt."""
        return prepare_text(text, self.query_prompt, self.max_length)

    def ready_product(self, text: str) -> str:
        """The product text with its prompt."""
        return prepare_text(text, self.product_prompt, self.max_length)

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        """Unit vectors (n, d) with the current weights."""
        return self._encode([self.ready_query(text) for text in texts])

    def encode_products(self, texts: Sequence[str], progress: Callable[[int], None] = lambda _count: None) -> Floats:
        """Unit vectors of product texts; `progress` receives the number of encoded texts."""
        return self._encode([self.ready_product(text) for text in texts], progress)

    def save(self, folder: Path, add_files: Callable[[Path], None] = lambda _folder: None) -> None:
        """Writes a new sentence-transformers folder atomically; `add_files` adds files to it. Raises SettingError if
        `folder` exists, StoreError if it cannot be written."""
        if folder.exists():
            raise SettingError(f"{folder} exists; use a new folder for the towers, or remove it")
        set_length(self.model, self.full_length)
        try:
            with atomic_folder(folder) as scratch, no_progress_bar():
                self.model.save(str(scratch), create_model_card=False)
                add_files(scratch)
        except (OSError, SafetensorError) as error:
            message = f"the towers cannot be stored as {folder} ({str(error)[:200]}); check the disk and try again"
            raise StoreError(message) from error
        finally:
            set_length(self.model, self.max_length)

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
        """Encodes texts in batches; None if the GPU runs out of memory."""
        try:
            # An empty prompt prevents the default prompt of sentence-transformers.
            made = self.model.encode(chunk, prompt="", batch_size=batch, show_progress_bar=False)
        except torch.OutOfMemoryError:
            return None
        return np.asarray(made, np.float32)


def open_text_tower(source: ModelSource, max_length: int, *, device: str | None = None) -> TextTower:
    """Loads the initial model; `device` None prefers a GPU. Raises EncoderUnavailableError if it cannot be loaded,
    TrainingError if it has no trainable weights."""
    model = load_model(source, device=device)
    if not any(weight.requires_grad for weight in model.parameters()):
        raise TrainingError(f"{source.name} has no weights that can be trained: start from another model")
    query, product = prompts(model)
    full = model_length(model)
    length = min(max_length, full)
    set_length(model, length)
    return TextTower(model, source.name, query, product, length, full)


def is_table(model: SentenceTransformer) -> bool:
    """Whether it is a table of rows for tokens, without layers."""
    return isinstance(model[0], StaticEmbedding)


def on_gpu(tower: TextTower) -> bool:
    """Whether the model is on a GPU."""
    return tower.model.device.type == "cuda"


def trains_in_bfloat16(tower: TextTower) -> bool:
    """Whether the model is on a GPU that has bfloat16; on a CPU, float32 gives the same weights on every machine. Not
    for a table, which multiplies no matrices."""
    has_layers = not is_table(tower.model)
    return has_layers and on_gpu(tower) and bool(torch.cuda.is_bf16_supported(including_emulation=False))


# LoRA (Hu et al. 2021, section 4.1): low-rank adapters are trained instead of the weights, which saves memory, and
# merged at the end.

ADAPTER_FOLDER = "adapter"
"""Adapter folder in a trained model's folder, in peft's format."""


def attach(model: SentenceTransformer, rank: int, seed: int) -> PeftModel:
    """Adds adapters of a rank to all matrices of the transformer and freezes the other weights. The initial output is
    unchanged. Raises SettingError if the first module is not a transformer."""
    body = getattr(model[0], "model", None)
    if not isinstance(body, PreTrainedModel):
        raise SettingError("only a transformer can have low-rank adapters; train this model without them")
    model.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", bias="none")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft imports a name that transformers has renamed.
        warnings.simplefilter("ignore", FutureWarning)
        torch.manual_seed(seed)
        adapted = get_peft_model(body, config)
    model[0].model = adapted
    return adapted


def merge(model: SentenceTransformer, adapted: PeftModel, folder: Path) -> None:
    """Writes the adapters to their own folder and merges them into the weights."""
    adapted.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    model[0].model = adapted.merge_and_unload()


# Interpolation of initial and trained weights keeps more of the pretrained model: Wortsman et al. 2022, Robust
# fine-tuning of zero-shot models, section 3 (weight-space ensembling).

SHARES = (0.25, 0.5, 0.75)
"""Shares of the trained weights that are tried in addition to 1."""


@dataclass(frozen=True, slots=True)
class WeightMixture:
    """The mixture with the best validation."""

    share: float
    """Share of the trained weights."""
    validation: float
    """nDCG@10 on the validation queries."""


def mix(network: nn.Module, start: Mapping[str, Tensor], reached: float, judge: Callable[[], float]) -> WeightMixture:
    """Sets the mixture of `start` and the current weights with the best `judge` value; `reached` is the value of the
    current weights. Ties go to the larger trained share."""
    learned = weights_of(network)
    found = {1.0: reached}
    for share in SHARES:
        network.load_state_dict(between(start, learned, share))
        found[share] = judge()
    best = max(found, key=lambda share: (found[share], share))
    network.load_state_dict(learned if best == 1.0 else between(start, learned, best))
    return WeightMixture(best, found[best])


def between(start: Mapping[str, Tensor], learned: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Interpolates weights, `share` of the way; integer tensors keep the trained value."""
    return {
        name: start[name].lerp(value, share) if value.is_floating_point() else value for name, value in learned.items()
    }


TOWERS_FILE = "towers.json"
FORMAT = 1


class TextTowersSpec(msgspec.Struct, frozen=True):
    """The content of towers.json. It has no timestamp: the same training writes the same bytes."""

    format: int
    base: str
    base_fingerprint: str
    version: str
    """Index whose products and retrievers were used."""
    source: str
    """Source of the training data: judgments or clicks."""
    trained_on: Mapping[str, int]
    """Counts of queries, positives and dropped rows; and `shelfwise.rerank.ranker.spec.ERASURES`, the number of shopper
    erasures before the first clicks from which it, or its initial model, was trained."""
    options: Mapping[str, Any]
    """All options, including the seed."""
    curve: Sequence[Epoch]
    """nDCG@10 of the validation queries over a fixed pool, by part."""
    best: int
    """The part whose weights were mixed with the initial weights."""
    share: float = 1.0
    """Share of the trained weights in the mixture."""
    validation: float = 0.0
    """nDCG@10 of the mixture."""
    averaged: int = 1
    """Number of averaged parts; 1 without averaging."""
    run: str = ""
    """Digest of everything that determines the weights; a run of it that is not finished can continue with this."""
    stopped: str = ""
    """The reason for which training ended early."""
    notices: Sequence[str] = ()


def write_towers(
    tower: TextTower, spec: TextTowersSpec, base: ModelSource, folder: Path, adapter: Path | None = None
) -> None:
    """Writes a new sealed folder of towers that began from `base` atomically, with the adapter weights if there are
    any; raises what `TextTower.save` does."""

    def add_files(scratch: Path) -> None:
        if adapter is not None:
            shutil.copytree(adapter, scratch / ADAPTER_FOLDER)
        base.write_origin(scratch)
        seal_folder(scratch, {TOWERS_FILE: spec})

    tower.save(folder, add_files)


def read_towers(folder: Path) -> TextTowersSpec:
    """Reads the spec of a folder of trained towers; raises EncoderUnavailableError if it is none."""
    path = folder / TOWERS_FILE
    try:
        spec = msgspec.json.decode(path.read_bytes(), type=TextTowersSpec)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise EncoderUnavailableError(f"{path} cannot be read ({error}); {_cure(folder)}") from error
    if spec.format != FORMAT:
        message = f"{path} has format {spec.format}, but this program reads {FORMAT}; {_cure(folder)}"
        raise EncoderUnavailableError(message)
    return spec


def _cure(folder: Path) -> str:
    return f"remove {folder}, and train the towers again"
