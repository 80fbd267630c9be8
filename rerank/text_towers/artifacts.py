"""The folder of trained towers: an ordinary sentence-transformers folder, and beside it what they were trained on."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rerank.text_towers.model import ADAPTER_FOLDER, TextTower
from rerank.training.trainer import Epoch
from retrieval.errors import EncoderUnavailableError

TOWERS_FILE = "towers.json"
FORMAT = 1


class TextTowersSpec(msgspec.Struct, frozen=True):
    """What towers.json holds. It says nothing of the time: the same training gives the same folder, byte by byte."""

    format: int
    base: str
    """The name of the model that training began with."""
    base_fingerprint: str
    version: str
    """Of the index whose products and retrievers it learned from."""
    source: str
    """What was learned from: judgments, clicks, or queries made from the catalog."""
    trained_on: Mapping[str, int]
    """How many queries and positives, and what was left out."""
    options: Mapping[str, Any]
    """All of them, the seed among them."""
    curve: Sequence[Epoch]
    """nDCG@10 of the validation queries over a fixed pool, by part."""
    best: int
    """The part whose weights these are, mixed with those that training began with."""
    share: float = 1.0
    """Of what was learned; 1 is all of it."""
    validation: float = 0.0
    """nDCG@10 of the mixture, as in the curve."""
    averaged: int = 1
    """Parts whose mean stands for the best one; 1 where that is better."""
    layers: int | None = None
    """Those of its layers that were kept; None for all."""
    pruning: Sequence[Epoch] = ()
    """As `curve`, of the layers that were kept while they were taught by all of them; the best is what these are."""
    stopped: str = ""
    """Why training ended before its time, where that was no success."""
    notices: Sequence[str] = ()


def write_towers(tower: TextTower, spec: TextTowersSpec, folder: Path, adapter: Path | None = None) -> None:
    """Writes a new folder, whole or not at all, with what is trained of it alone (`adapter`) where that is less; raises
    what `Tower.save` does."""

    def add_files(scratch: Path) -> None:
        (scratch / TOWERS_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(spec), indent=1))
        if adapter is not None:
            shutil.copytree(adapter, scratch / ADAPTER_FOLDER)

    tower.save(folder, add_files)


def read_towers(folder: Path) -> TextTowersSpec:
    """What a folder of trained towers says of itself; raises EncoderUnavailableError where it is none."""
    path = folder / TOWERS_FILE
    try:
        spec = msgspec.json.decode(path.read_bytes(), type=TextTowersSpec)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise EncoderUnavailableError(f"{path} cannot be read ({error}); {_cure(folder)}") from error
    if spec.format != FORMAT:
        message = f"{path} is of format {spec.format}, this program reads {FORMAT}; {_cure(folder)}"
        raise EncoderUnavailableError(message)
    return spec


def _cure(folder: Path) -> str:
    return f"remove {folder}, and train the towers again"
