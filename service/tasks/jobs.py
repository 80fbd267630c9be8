"""What tasks do: the program's own commands, each in a process of its own, so that searches keep their threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from retrieval.errors import InputError, TaskFailedError

_PROGRAM = "import os; os.nice(10); from service.cli import main; main()"
"""Searches go first."""
_LOOK_SECONDS = 0.2
_MOST_TOLD = 2_000
"""Characters of what a command that failed has said."""


PERSONAL = frozenset({"forget"})
"""Kinds whose arguments are about somebody."""


def feed_paths(names: Sequence[str], folder: Path | None) -> list[Path]:
    """The feeds of these names in the folder of feeds; raises InputError for one that is not there."""
    if folder is None:
        raise InputError("service.feeds is not set: it names the folder that feeds are read from")
    base, paths = folder.resolve(), []
    for name in names:
        path = (base / name.replace("\0", "")).resolve()
        if "\0" in name or not path.is_relative_to(base) or not path.is_file():
            raise InputError(f"feeds: there is no file {name[:200]!r} in the folder of feeds")
        paths.append(path)
    return paths


def command_of(kind: str, arguments: Mapping[str, Any], root: Path, feeds: Path | None) -> list[str]:
    """The command line of a task, without the program; raises InputError for one that cannot be."""
    index = ["--index", str(root), "--json"]
    match kind:
        case "rebuild":
            flags = ["--force"] if arguments.get("force") else []
            maps = [part for each in arguments.get("map", ()) for part in ("--map", each)]
            return ["rebuild", *map(str, feed_paths(arguments["feeds"], feeds)), *maps, *flags, *index]
        case "refresh":
            return ["events", "refresh", *index]
        case "learn":
            least = arguments.get("if_new")
            return ["learn", *([] if least is None else ["--if-new", str(least)]), *index]
        case "forget":
            named = [part for each in arguments["pseudonyms"] for part in ("--pseudonym", each)]
            return ["events", "forget", *named, *index]
        case _:
            raise InputError(f"there is no task of the kind {kind!r}")


def run_command(command: Sequence[str], stop: threading.Event) -> Any:  # noqa: ANN401 - what the command's JSON says
    """Runs it to its end, and gives the JSON that it prints; raises TaskFailedError where it fails.

    Where `stop` is set it is ended, and None returned: run again it goes on from where it was.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    told: list[str] = []
    reading = threading.Thread(target=lambda: told.extend(process.communicate()), daemon=True)
    reading.start()
    while reading.is_alive() and not stop.wait(_LOOK_SECONDS):
        reading.join(_LOOK_SECONDS)
    if reading.is_alive():
        os.killpg(process.pid, signal.SIGTERM)
        reading.join()
        return None
    out, err = told
    if process.returncode:
        said = err.strip().removeprefix("error: ")[-_MOST_TOLD:]
        raise TaskFailedError(said or f"it ended with {process.returncode}")
    return msgspec.json.decode(out) if out.strip() else None
