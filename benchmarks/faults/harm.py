"""Harm to files at rest: bits flipped anywhere in an index, and files that nobody can read."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.faults.truth import Truth
from retrieval.journal_copies import COPY, JOURNAL, Copies, beginning
from retrieval.journal_walk import Walk
from retrieval.manifest import MANIFEST, SEAL
from retrieval.published import CURRENT, MARKER

FLIPPED, UNREADABLE = "flipped byte", "unreadable file"
TARGETS = ("version", "version", "manifest", "pointer", "marker", "encoder", "journal", "both journals", "rest")


@dataclass(frozen=True, slots=True)
class Harm:
    """What was harmed: files, by their paths in the index."""

    kind: str
    target: str
    files: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind} of {self.target}: {', '.join(self.files)}"


def harm(root: Path, truth: Truth, kind: str, target: str, dice: random.Random) -> Harm:
    """Harms an index and notes in `truth` what is harmed. One whole version is left, and one copy of each live change.

    In place of what there is nothing of, the pointer is harmed.
    """
    if target == "both journals" and kind == FLIPPED and len(frames := _frames(root)) > 1:
        for name, (start, end) in zip((JOURNAL, COPY), dice.sample(frames, 2), strict=True):
            _flip(root / name, dice.randrange(start, end), dice)
        return Harm(kind, target, (JOURNAL, COPY))
    target = target.replace("both journals", "journal")
    paths = _paths(root, truth, target, dice)
    target, path = (target, dice.choice(paths)) if paths else ("pointer", root / CURRENT)
    _note(path.relative_to(root).parts, truth)
    _harm(path, kind, dice)
    return Harm(kind, target, (path.relative_to(root).as_posix(),))


def _paths(root: Path, truth: Truth, target: str, dice: random.Random) -> list[Path]:
    """What a target may mean."""
    match target:
        case "version" | "manifest":
            if len(truth.whole) < 2:
                return []
            folder = root / "versions" / (truth.serving if dice.random() < 0.7 else dice.choice(truth.whole))
            return _filled(folder.rglob("*")) if target == "version" else [folder / MANIFEST, folder / SEAL]
        case "pointer":
            return [root / CURRENT]
        case "marker":
            return [root / MARKER]
        case "encoder":
            return _filled((root / "encoders").rglob("*"))
        case "journal":
            return [root / JOURNAL, root / COPY] if _frames(root) else []
        case _:
            main = {root / name for name in (CURRENT, MARKER, JOURNAL, COPY)}
            return [path for path in _filled([*root.iterdir(), *(root / "staging").rglob("*")]) if path not in main]


def _filled(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.is_file() and path.stat().st_size)


def _note(parts: Sequence[str], truth: Truth) -> None:
    match parts:
        case ("versions", name, *_):
            truth.harmed.add(name)
        case ("encoders", name, *_):
            truth.harmed_encoders.add(name)
        case (name,) if name == CURRENT:
            truth.current = ""


def _harm(path: Path, kind: str, dice: random.Random) -> None:
    if kind == FLIPPED:
        _flip(path, dice.randrange(path.stat().st_size), dice)
    elif os.geteuid() == 0:
        # Rights stop everybody but root; a link that leads back to itself stops root too.
        path.unlink()
        path.symlink_to(path.name)
    else:
        path.chmod(0)


def _flip(path: Path, place: int, dice: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << dice.randrange(8)
    path.write_bytes(content)


def _frames(root: Path) -> list[tuple[int, int]]:
    """Where each frame of the journal begins and ends."""
    with Copies(root) as copies:
        if copies.none:
            return []
        sources = copies.sources()[0]
        walk = Walk(sources, beginning(sources), skip=0)
        places = [walk.place.offset, *(walk.place.offset for _ in walk.frames())]
    return list(pairwise(places))
