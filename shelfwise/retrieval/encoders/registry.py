"""Encoder registry: opens encoders by name or folder, stores them, and imports a runtime on first use."""

from __future__ import annotations

import ctypes
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, get_args, runtime_checkable
from weakref import WeakValueDictionary

import filelock

from shelfwise.retrieval.encoders.base import DEFAULT_MAX_LENGTH, Encoder, Runtime, TextTokens, Tokens
from shelfwise.retrieval.encoders.folder import (
    SPEC_FILE,
    TORCH_FOLDER,
    EncoderSpec,
    ProgressCallback,
    StoredEncoder,
    Vectors,
    identity_of,
    read_spec,
)
from shelfwise.retrieval.encoders.weights import ModelSource, find_model
from shelfwise.retrieval.errors import EncoderUnavailableError, SettingError, StoreError
from shelfwise.retrieval.extras import optional_imports
from shelfwise.retrieval.memory import require_memory
from shelfwise.retrieval.store.files import atomic_folder, file_bytes, link_or_copy

if TYPE_CHECKING:
    from shelfwise.retrieval.encoders.onnx import OnnxEncoder
    from shelfwise.retrieval.encoders.onnx_export import Precision
    from shelfwise.retrieval.encoders.static import StaticEncoder
    from shelfwise.retrieval.encoders.torch import TorchEncoder

    _Stored = OnnxEncoder | StaticEncoder | TorchEncoder

RUNTIMES = get_args(Runtime)
TABLE_RUNTIMES = ("static-fp32", "static-int8")
"""The runtimes of models that are a table."""
EXPORTED_RUNTIMES = ("onnx-fp32", "onnx-int8")
EXACT_OF: Mapping[Runtime, Runtime] = {"onnx-int8": "onnx-fp32", "static-int8": "static-fp32"}
"""The float32 runtime of each int8 runtime."""
_EXPORT_BYTES, _EXPORT_TIMES = 600_000_000, 4
"""The memory of an export: bytes for torch, and bytes per byte of the model's files."""
NETWORK_RUNTIMES = tuple(each for each in RUNTIMES if each not in TABLE_RUNTIMES)


@runtime_checkable
class _Storable(Protocol):
    def save(self, folder: Path) -> None: ...


def open_encoder(
    name_or_folder: str, runtime: str = "auto", cache: Path = Path(".cache"), *, dimension: int | None = None
) -> Encoder:
    """The encoder of a model's name or folder (see `shelfwise.retrieval.encoders.weights.find_model`), or of a stored
    encoder.

    "auto" means "static-int8" for a model that is a table, else torch if it finds a GPU, else ONNX in int8. An export
    is made once, cached by the fingerprint of the model's files, and opened without torch; a second process waits for
    it. `dimension` cuts vectors to their first columns, for models trained for it (Matryoshka). Raises
    EncoderUnavailableError if the model cannot be found, loaded or exported, SettingError for an unknown runtime or too
    many dimensions.
    """
    wanted = parse_runtime(runtime)
    stored = Path(name_or_folder).expanduser()
    if (stored / SPEC_FILE).is_file():
        encoder = load_encoder(stored)
        if dimension not in (None, encoder.dimension):
            there = f"{stored} was stored with {encoder.dimension} columns"
            raise SettingError(f"{there}, not {dimension}: use the model from which it was exported")
        return encoder
    source = find_model(name_or_folder, cache)
    chosen = runtime_of(source, wanted)
    if chosen in ("torch", "torch-bf16"):
        with optional_imports():
            from shelfwise.retrieval.encoders.torch import TorchEncoder

        return TorchEncoder(source, runtime=chosen, dimension=dimension)
    return load_encoder(_exported(source, chosen, cache, dimension))


def runtime_of(source: ModelSource, wanted: Runtime | None) -> Runtime:
    """The runtime of a model, by default the fastest."""
    if not source.is_table:
        if wanted in TABLE_RUNTIMES:
            raise SettingError(f"runtime {wanted!r} is for models that are a table; {source.name} is a network")
        return wanted or detect_runtime()
    if wanted not in (None, *TABLE_RUNTIMES):
        raise SettingError(f"{source.name} is a table; its runtime is {' or '.join(TABLE_RUNTIMES)}, not {wanted!r}")
    return wanted or "static-int8"


def parse_runtime(name: str) -> Runtime | None:
    """The runtime of this name; None for "auto". Raises SettingError for an unknown name."""
    if name not in ("auto", *RUNTIMES):
        raise SettingError(f"runtime {name!r} does not exist; it is one of auto, {', '.join(RUNTIMES)}")
    return None if name == "auto" else cast(Runtime, name)


def load_encoder(folder: Path) -> _Stored:
    """A stored encoder; raises EncoderUnavailableError with the name of a missing or damaged file."""
    spec = read_spec(folder)
    require_memory(_resident_bytes(spec, folder), f"{folder}: the encoder {spec.name} runs with", "a smaller model")
    if spec.runtime in EXPORTED_RUNTIMES:
        from shelfwise.retrieval.encoders.onnx import OnnxEncoder

        return OnnxEncoder(folder)
    if spec.runtime in TABLE_RUNTIMES:
        from shelfwise.retrieval.encoders.static import StaticEncoder

        return StaticEncoder(folder)
    with optional_imports():
        from shelfwise.retrieval.encoders.torch import TorchEncoder

    source = ModelSource(spec.name, folder / TORCH_FOLDER)
    encoder = TorchEncoder(source, runtime=spec.runtime, dimension=spec.dimension)
    if encoder.identity != spec.identity:
        message = f"{folder} has the model {encoder.identity}, but its spec names {spec.identity}; rebuild the index"
        raise EncoderUnavailableError(message)
    return encoder


def _resident_bytes(spec: EncoderSpec, folder: Path) -> int:
    """The memory for running a stored encoder, in bytes: hardly any for a table, since it is mapped, as is the
    vocabulary of an ONNX model; ONNX Runtime copies the rest."""
    if spec.runtime in TABLE_RUNTIMES:
        return 20_000_000
    is_exported = spec.runtime in EXPORTED_RUNTIMES
    weights = file_bytes(folder.glob("*") if is_exported else (folder / TORCH_FOLDER).rglob("*"))
    return 20_000_000 + weights // 3 if is_exported else 300_000_000 + weights


_SHARED: WeakValueDictionary[tuple[object, str], Any] = WeakValueDictionary()
_SHARING = threading.Lock()
_Loaded = TypeVar("_Loaded")


def share(folder: Path, load: Callable[[Path], _Loaded]) -> _Loaded:
    """A stored encoder, loaded once for all folders with the same identity while one of them is in use."""
    key = load, read_spec(folder).identity
    with _SHARING:
        encoder: _Loaded | None = _SHARED.get(key)
        if encoder is None:
            encoder = _SHARED[key] = load(folder)
        return encoder


def shared_encoder(folder: Path) -> _Stored:
    """A stored encoder of texts, loaded once like those of `share`."""
    return share(folder, load_encoder)


class LazyEncoder(StoredEncoder):
    """A stored encoder that is loaded on first use: loading takes a second, and a price change does not need it.

    Raises EncoderUnavailableError at once for a folder without a spec, and later like `load_encoder`.
    """

    def __init__(self, folder: Path) -> None:
        self.spec = read_spec(folder)
        self._folder = folder

    def save(self, folder: Path) -> None:
        """Stores links to its files, which are never changed, or copies where the file system has no links."""
        with atomic_folder(folder) as scratch:
            shutil.copytree(self._folder, scratch, dirs_exist_ok=True, copy_function=link_or_copy)

    @cached_property
    def _loaded(self) -> _Stored:
        return load_encoder(self._folder)

    @property
    def state_dimension(self) -> int:
        return self._loaded.state_dimension

    @property
    def vocabulary(self) -> int:
        return self._loaded.vocabulary

    def _encode(self, texts: Sequence[str], prompt: str, progress: ProgressCallback, *, parallel: bool) -> Vectors:
        return self._loaded._encode(texts, prompt, progress, parallel=parallel)

    def _encode_with_tokens(
        self, texts: Sequence[str], prompt: str, progress: ProgressCallback, *, parallel: bool
    ) -> tuple[Vectors, list[Tokens]]:
        return self._loaded._encode_with_tokens(texts, prompt, progress, parallel=parallel)

    def _tokenize(self, ready: list[str]) -> Sequence[TextTokens]:
        return self._loaded._tokenize(ready)


def store_encoder(encoder: Encoder, folder: Path) -> Path:
    """Stores an encoder in `folder`, atomically, unless it exists; returns `folder`.

    Raises EncoderUnavailableError for an encoder without files, StoreError if they cannot be written.
    """
    if (folder / SPEC_FILE).is_file():
        return folder
    if not isinstance(encoder, _Storable):
        raise EncoderUnavailableError(f"{encoder.identity} cannot be stored; open it with open_encoder")
    try:
        encoder.save(folder)
    except OSError as error:
        message = f"the encoder cannot be stored as {folder} ({_reason(error)}); check the disk and try again"
        raise StoreError(message) from error
    return folder


def _reason(error: OSError) -> str:
    """The system's message; for several files, the first one."""
    copied = error.args[0] if isinstance(error, shutil.Error) else ()
    return str(copied[0][2]) if copied and isinstance(copied, list) else error.strerror or str(error)


def _exported(source: ModelSource, runtime: Runtime, cache: Path, dimension: int | None) -> Path:
    """The folder of the model's export, which is made now unless it is cached."""
    # Keyed by the requested values: the model's limits are known only once it is loaded.
    identity = identity_of(source.name, source.fingerprint, runtime, DEFAULT_MAX_LENGTH, dimension=dimension)
    folder = cache / "onnx" / identity
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    # An export takes half a minute, so no other process should make the same one at the same time.
    with filelock.FileLock(folder.with_name(f".{folder.name}.lock")):
        if not folder.is_dir():
            if runtime in TABLE_RUNTIMES:
                from shelfwise.retrieval.encoders.static import export_table

                export_table(source, folder, runtime, dimension=dimension)
                return folder
            needed = _EXPORT_BYTES + _EXPORT_TIMES * file_bytes(source.folder.rglob("*"))
            require_memory(needed, f"{source.name} is exported once with", "a smaller model")
            with optional_imports():
                from shelfwise.retrieval.encoders.onnx_export import export_onnx

            precision: Precision = "int8" if runtime == "onnx-int8" else "fp32"
            export_onnx(source, folder, precision, dimension=dimension)
    return folder


def detect_runtime() -> Runtime:
    """The runtime of "auto" on this machine."""
    if not _has_nvidia_driver() or find_spec("torch") is None:
        return "onnx-int8"
    from shelfwise.retrieval.encoders.torch import gpu_ready

    return "torch" if gpu_ready() else "onnx-int8"


def _has_nvidia_driver() -> bool:
    """Whether the driver finds a GPU; takes a millisecond, whereas importing torch takes a second."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
