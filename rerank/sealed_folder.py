"""The folder of a trained model: what it says of itself, as JSON, and the seal that vouches for every file.

seal.json    length and XXH3 checksum of each file beside it
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from retrieval.manifest import FileEntry, checksum, file_problem, sync

SEAL_FILE = "seal.json"

_Read = TypeVar("_Read")


def seal(folder: Path, told: Mapping[str, msgspec.Struct]) -> None:
    """Completes a folder that holds a model's other files: writes what is `told` of it, by the files' names, seals all
    and has all on the disk."""
    for name, content in told.items():
        (folder / name).write_bytes(_written(content))
    sealed = sorted(path for path in folder.iterdir() if path.is_file() and path.name != SEAL_FILE)
    entries = {path.name: FileEntry(path.stat().st_size, checksum(path)) for path in sealed}
    (folder / SEAL_FILE).write_bytes(_written(entries))
    for path in (*sealed, folder / SEAL_FILE, folder):
        sync(path)


def sealed_problem(path: Path, entry: FileEntry) -> str:
    """What is wrong with a file that its seal says this of, or nothing."""
    return "is a link" if path.is_symlink() else file_problem(path, entry)


def read_told(path: Path, kind: type[_Read], most: int) -> _Read:
    """A JSON file of at most so many bytes; raises ValueError, with what is wrong with it, for another."""
    try:
        with path.open("rb") as file:
            said = file.read(most + 1)
        if len(said) <= most:
            return msgspec.json.decode(said, type=kind)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot be read ({error})") from error
    raise ValueError(f"has more than {most:,} bytes")


def _written(content: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(content), indent=1)
