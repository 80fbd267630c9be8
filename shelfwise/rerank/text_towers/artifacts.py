"""The folder of trained text towers: a sentence-transformers folder with `towers.json`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from shelfwise.rerank.text_towers.model import ADAPTER_FOLDER, TextTower
from shelfwise.rerank.training.trainer import Epoch
from shelfwise.retrieval.encoders.weights import ModelSource
from shelfwise.retrieval.errors import EncoderUnavailableError
from shelfwise.retrieval.store.files import seal_folder

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
