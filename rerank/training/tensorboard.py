"""The curves of trainings as TensorBoard draws them, where it is installed: the only file that writes its event files.

WORK/tensorboard/clicks-0123456789abcdef/debiased/   one run, one network of it
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rerank.training.checkpoint import Epoch

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CHARTS_FOLDER = "tensorboard"
KEEP = 10
"""Runs whose curves stay, the newest ones."""
_RUN_NAME = re.compile(r"[a-z]+-[0-9a-f]{16}")
"""Only what is named so was written here, and may be removed."""

Judged = Callable[[Epoch], None]
"""Is told of each epoch; see `rerank.training.loop.train`."""


@contextmanager
def charted(work: Path, run: str, network: str) -> Iterator[Judged]:
    """Gives what writes the epochs of a run's network, its loss and its validation, each as it is told of.

    What an interrupted run has left of the same network is written anew. Without the package tensorboard nothing is
    written.
    """
    writer = _writer(work / CHARTS_FOLDER / run / network)
    if writer is None:
        yield lambda _epoch: None
        return
    _remove_old(work / CHARTS_FOLDER)

    def judged(epoch: Epoch) -> None:
        if epoch.loss is not None:
            writer.add_scalar("loss", epoch.loss, epoch.number)
        writer.add_scalar("validation", epoch.validation, epoch.number)
        writer.flush()

    with closing(writer):
        yield judged


def _writer(folder: Path) -> SummaryWriter | None:
    try:
        # It is an extra, and slow to import.
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    if folder.is_dir():
        shutil.rmtree(folder)
    return SummaryWriter(str(folder))


def _remove_old(charts: Path) -> None:
    runs = [entry for entry in charts.iterdir() if _RUN_NAME.fullmatch(entry.name)]
    for old in sorted(runs, key=lambda entry: entry.stat().st_mtime)[:-KEEP]:
        shutil.rmtree(old)
