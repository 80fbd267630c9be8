"""Teachers that are sentence-transformers cross-encoders: found, fetched, loaded, and run on torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from shelfwise.rerank.teacher.pairs import DEFAULT_TEACHER, Batch, PairTokenizer
from shelfwise.retrieval.encoders.base import DEFAULT_MAX_LENGTH, Runtime
from shelfwise.retrieval.encoders.folder import identity_of
from shelfwise.retrieval.encoders.weights import ModelSource, fetch_model, hub_problem
from shelfwise.retrieval.errors import EncoderError, EncoderUnavailableError

if TYPE_CHECKING:
    import torch
    from sentence_transformers import CrossEncoder


_SAFE = {"use_safetensors": True}


def load_cross_encoder(source: ModelSource, *, device: str | None = None) -> CrossEncoder:
    """The model in float32, ready to run; `device` None means the GPU if there is one.

    Raises EncoderUnavailableError if sentence-transformers cannot load the folder, and for a classifier.
    """
    import torch
    from sentence_transformers import CrossEncoder

    from shelfwise.retrieval.encoders.torch import no_progress_bar

    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        with no_progress_bar():
            model: CrossEncoder = CrossEncoder(
                str(source.folder), device=place, local_files_only=True, model_kwargs=_SAFE
            )
            model.float().eval()
            missing = _missing_head(source, model)
    except Exception as error:
        # The type of error depends on the broken file: OSError, ValueError, KeyError, or one of safetensors.
        message = f"{source.folder} cannot be loaded ({type(error).__name__}: {str(error)[:300]}); fetch it again"
        raise EncoderUnavailableError(message) from error
    if model.num_labels != 1:
        message = f"{source.folder} is a classifier with {model.num_labels} outputs; a cross-encoder that ranks has 1"
        raise EncoderUnavailableError(message)
    if missing:
        # transformers would initialise them randomly, and only log a warning: the scores would be meaningless.
        message = f"{source.folder} lacks weights of its last layers ({', '.join(missing)}); fetch it again"
        raise EncoderUnavailableError(message)
    return model


def _missing_head(source: ModelSource, model: CrossEncoder) -> list[str]:
    from safetensors import safe_open

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
    """The model's output for each pair of a batch, (b,), on the model's device."""
    import torch

    padding = int(model.tokenizer.pad_token_id or 0)
    arrays = {"input_ids": np.where(batch.mask, batch.input_ids, padding), "attention_mask": batch.mask}
    if reads_type_ids(model):
        arrays["token_type_ids"] = batch.type_ids
    scores: torch.Tensor = model({name: torch.from_numpy(array).to(model.device) for name, array in arrays.items()})[
        "scores"
    ]
    return scores.float().reshape(-1)


def fast_tokenizer(model: CrossEncoder, name: str) -> Tokenizer:
    """A copy of the model's tokenizer; raises EncoderUnavailableError for a model that has none in Rust."""
    inner = getattr(model.tokenizer, "backend_tokenizer", None)
    if inner is None:
        raise EncoderUnavailableError(f"{name} has no fast tokenizer (tokenizer.json); save it with one")
    return Tokenizer.from_str(inner.to_str())


def reads_type_ids(model: CrossEncoder) -> bool:
    """Whether the model has token type ids."""
    return "token_type_ids" in model.tokenizer.model_input_names


def model_length(model: CrossEncoder) -> int:
    """The most tokens of a pair that the model reads."""
    return int(model.max_seq_length or DEFAULT_MAX_LENGTH)


def spec_of(source: ModelSource, model: CrossEncoder, runtime: Runtime, max_length: int, opset: int = 0) -> TeacherSpec:
    """The spec of a teacher with this model."""
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


_ARCHITECTURE = "ForSequenceClassification"
_USUAL_OUTPUTS = 2
"""The outputs if config.json does not say: transformers omits its default."""


def find_cross_encoder(name: str, cache: Path) -> ModelSource:
    """The cross-encoder of this name: a folder's path, or a name on the model hub, fetched once into `cache`.

    Raises EncoderUnavailableError if it is missing or is not a cross-encoder with one output whose weights are
    safetensors.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        source = ModelSource(folder.resolve().name, folder)
    else:
        source = ModelSource(name, _from_hub(name, cache))
    _check(source.folder)
    return source


def _from_hub(name: str, cache: Path) -> Path:
    def download(folder: Path) -> None:
        from sentence_transformers import CrossEncoder

        CrossEncoder(name, device="cpu", model_kwargs=_SAFE).save(str(folder))

    return fetch_model(name, _cached(name, cache), download, partial(_not_found, name))


def check_obtainable(name: str, cache: Path) -> None:
    """Raises EncoderUnavailableError, before any work, for a model that is not on this machine if the hub cannot be
    reached; the message says how to get it."""
    if not Path(name).expanduser().is_dir() and not _cached(name, cache).is_dir() and (problem := hub_problem(name)):
        raise EncoderUnavailableError(_not_found(name, problem))


def _cached(name: str, cache: Path) -> Path:
    # Separate from encoders: the same name may have been opened as one, and saved with a pooling.
    return cache / "cross-encoders" / name.replace("/", "--")


def _not_found(name: str, problem: str) -> str:
    save = f"from sentence_transformers import CrossEncoder; CrossEncoder('{name}').save('teacher')"
    cure = f'where the hub can be reached, run python -c "{save}"; copy the folder and name it: --teacher teacher'
    return f"cross-encoder {name!r} was not found: no folder {name!r}; {problem}; {cure}"


def _check(folder: Path) -> None:
    config = _config(folder / "config.json")
    _check_architecture(folder, config)
    outputs = len(config.get("id2label") or ()) or config.get("num_labels", _USUAL_OUTPUTS)
    if outputs != 1:
        message = f"{folder} is a classifier with {outputs} outputs; a cross-encoder that ranks has 1 (num_labels=1)"
        raise EncoderUnavailableError(message)
    if not any(folder.rglob("*.safetensors")):
        pickled = sorted(path.name for path in folder.rglob("*.bin"))
        found = f"only {', '.join(pickled)}, a pickle, which could run code when it is loaded" if pickled else "none"
        message = (
            f"{folder} must have its weights as safetensors; there is {found}; "
            "save the model again with CrossEncoder.save, on a machine where you trust its file"
        )
        raise EncoderUnavailableError(message)


def _check_architecture(folder: Path, config: dict[str, Any]) -> None:
    names = [name for name in config.get("architectures") or () if isinstance(name, str)]
    if names and names[0].endswith(_ARCHITECTURE):
        return
    message = (
        f"{folder} is not a cross-encoder: its config.json names {', '.join(names) or 'no architecture'}; a name that "
        f"ends with {_ARCHITECTURE} is required"
    )
    if (folder / "modules.json").is_file():
        message += "; it looks like an encoder, which makes vectors"
    raise EncoderUnavailableError(f"{message}; use a cross-encoder, such as {DEFAULT_TEACHER}")


def _config(path: Path) -> dict[str, Any]:
    try:
        config = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError as error:
        message = f"{path.parent} is not a cross-encoder (no {path.name}); use a folder that CrossEncoder.save wrote"
        raise EncoderUnavailableError(message) from error
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise EncoderUnavailableError(f"{path} cannot be read ({error}); fetch the model again") from error
    return config


_BATCH_CPU, _BATCH_GPU = 32, 256


class TorchTeacher:
    """A sentence-transformers CrossEncoder, run by torch; "torch-bf16" computes in bfloat16."""

    def __init__(
        self, source: ModelSource, *, runtime: Runtime = "torch", max_length: int = DEFAULT_MAX_LENGTH
    ) -> None:
        """Loads the model; raises EncoderUnavailableError if sentence-transformers cannot load it."""
        model = load_cross_encoder(source)
        self._model = model.bfloat16() if runtime == "torch-bf16" else model
        self._batch = _BATCH_GPU if self._model.device.type == "cuda" else _BATCH_CPU
        self.spec = spec_of(source, model, runtime, max_length)
        self.identity = self.spec.identity
        self._pairs = PairTokenizer(fast_tokenizer(model, source.name), self.spec.max_length, self.spec.prompt)

    def score(
        self, queries: Sequence[str], texts: Sequence[str], progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """See `shelfwise.rerank.teacher.teacher.Teacher`; batches are sorted by length and padded."""
        result = np.empty(len(queries), np.float32)
        for batch in self._pairs.tokens(queries, texts).sorted_by_length(self._batch):
            result[batch.rows] = self._run(batch)
            if progress:
                progress(len(batch.rows))
        return result

    def _run(self, batch: Batch) -> NDArray[np.float32]:
        import torch

        try:
            with torch.inference_mode():
                result: NDArray[np.float32] = logits(self._model, batch).cpu().numpy()
        except RuntimeError as error:
            # Mostly a lost or full GPU.
            raise EncoderError(f"{self.spec.name} failed on a pair ({str(error)[:300]})") from error
        return result


FORMAT = 1
"""Part of every identity: increased when the export or the tokenizing of pairs changes the scores."""
SPEC_FILE = "teacher.json"


class TeacherSpec(msgspec.Struct, frozen=True):
    """The content of teacher.json: everything that scoring needs besides weights and tokenizer."""

    format: int
    identity: str
    name: str
    """The model's name, for display."""
    runtime: Runtime
    max_length: int
    """The most tokens of a pair, including special tokens and the prompt."""
    prompt: str = ""
    """The text that the model expects before a query."""
    opset: int = 0
    """ONNX operator set; 0 for torch."""


def identity_for(source: ModelSource, runtime: Runtime, max_length: int) -> str:
    """The identity of a model's scores, also a folder name."""
    return identity_of(source.name, source.fingerprint, runtime, max_length, made_in=FORMAT)


def read_spec(folder: Path) -> TeacherSpec:
    """The spec of an exported teacher.

    Raises EncoderUnavailableError if teacher.json is missing, unreadable or of another format.
    """
    path = folder / SPEC_FILE
    try:
        spec = msgspec.json.decode(path.read_bytes(), type=TeacherSpec)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        message = f"{path} cannot be read ({error}); remove the folder to export it again"
        raise EncoderUnavailableError(message) from error
    if spec.format != FORMAT:
        message = (
            f"{path} has format {spec.format}, but this program reads {FORMAT}; remove the folder to export it again"
        )
        raise EncoderUnavailableError(message)
    return spec


def write_spec(spec: TeacherSpec, folder: Path) -> None:
    """Writes teacher.json."""
    (folder / SPEC_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(spec), indent=1))
