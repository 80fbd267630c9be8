"""Loads, fetches and describes a sentence-transformers CrossEncoder, for running, exporting and tuning it alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer

from rerank.teacher.folder import FORMAT, TeacherSpec, identity_for
from rerank.teacher.pairs import Batch
from retrieval.encoder import DEFAULT_MAX_LENGTH, Runtime
from retrieval.encoder_torch import no_progress_bar
from retrieval.errors import EncoderUnavailableError
from retrieval.weights import ModelSource

_SAFE = {"use_safetensors": True}


def load_cross_encoder(source: ModelSource, *, device: str | None = None) -> CrossEncoder:
    """The model in float32, ready to run; `device` None takes the GPU where there is one.

    Raises EncoderUnavailableError where sentence-transformers cannot load the folder, and for a classifier.
    """
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        with no_progress_bar():
            model: CrossEncoder = CrossEncoder(
                str(source.folder), device=place, local_files_only=True, model_kwargs=_SAFE
            )
            model.float().eval()
            missing = _missing_head(source, model)
    except Exception as error:
        # What loading raises depends on the file that is broken: OSError, ValueError, KeyError, safetensors' own.
        message = f"{source.folder} cannot be loaded ({type(error).__name__}: {str(error)[:300]}); fetch it again"
        raise EncoderUnavailableError(message) from error
    if model.num_labels != 1:
        message = f"{source.folder} is a classifier with {model.num_labels} outputs; a cross-encoder that ranks has 1"
        raise EncoderUnavailableError(message)
    if missing:
        # transformers would make them up, and warn in a log: scores without any meaning.
        message = f"{source.folder} lacks weights of its last layers ({', '.join(missing)}); fetch it again"
        raise EncoderUnavailableError(message)
    return model


def _missing_head(source: ModelSource, model: CrossEncoder) -> list[str]:
    """Names of the weights after the transformer's body that no file holds."""
    whole = model.model
    if whole is None:
        return []
    stored: set[str] = set()
    for path in source.folder.rglob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            stored |= set(file.keys())
    body = f"{whole.base_model_prefix}."
    return sorted(name for name in whole.state_dict() if not name.startswith(body) and name not in stored)


def logits(model: CrossEncoder, batch: Batch) -> torch.Tensor:
    """What the model says of each pair of a batch, (b,), where the model is."""
    padding = int(model.tokenizer.pad_token_id or 0)
    arrays = {"input_ids": np.where(batch.mask, batch.input_ids, padding), "attention_mask": batch.mask}
    if reads_type_ids(model):
        arrays["token_type_ids"] = batch.type_ids
    scores: torch.Tensor = model({name: torch.from_numpy(array).to(model.device) for name, array in arrays.items()})[
        "scores"
    ]
    return scores.float().reshape(-1)


def download(name: str, folder: Path) -> None:
    """Fetches a model from the hub, or the hub's own cache, and saves it into the existing `folder`."""
    CrossEncoder(name, device="cpu", model_kwargs=_SAFE).save(str(folder))


def fast_tokenizer(model: CrossEncoder, name: str) -> Tokenizer:
    """A copy of the model's tokenizer; raises EncoderUnavailableError for a model that has none in Rust."""
    inner = getattr(model.tokenizer, "backend_tokenizer", None)
    if inner is None:
        raise EncoderUnavailableError(f"{name} has no fast tokenizer (tokenizer.json); save it with one")
    return Tokenizer.from_str(inner.to_str())


def reads_type_ids(model: CrossEncoder) -> bool:
    """Whether the model is told which of the two texts a token belongs to."""
    return "token_type_ids" in model.tokenizer.model_input_names


def model_length(model: CrossEncoder) -> int:
    """The most tokens of a pair that the model reads."""
    return int(model.max_seq_length or DEFAULT_MAX_LENGTH)


def spec_of(source: ModelSource, model: CrossEncoder, runtime: Runtime, max_length: int, opset: int = 0) -> TeacherSpec:
    """What a teacher of this model says about itself."""
    length = min(max_length, model_length(model))
    return TeacherSpec(
        format=FORMAT,
        identity=identity_for(source, runtime, length),
        name=source.name,
        runtime=runtime,
        max_length=length,
        prompt=model.prompts.get(model.default_prompt_name or "", "") or "",
        opset=opset,
    )
