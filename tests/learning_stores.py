"""Stores whose shoppers left enough to learn from, for the tests of `shelfwise learn`; and a small way to learn."""

from __future__ import annotations

import shutil
from pathlib import Path

from indexer.events.importer import import_events
from rerank.training.click_training import ClickOptions
from rerank.training.trainer import LoopOptions
from retrieval.events.privacy import utc_now
from service.demo import write_demo_store
from service.events.event_log import EventLog, rejects_path
from service.settings import Settings
from service.training.click_dataset import ClickRankerOptions

SETTINGS = Settings(backend="embedded")
SMALL = ClickRankerOptions(
    training=ClickOptions(loop=LoopOptions(epochs=2, learning_rate=3e-3, warm_up=5)),
    queries=60,
    depth=15,
    candidates=12,
    validating=30,
)


def with_events(index: Path, folder: Path, sessions: int = 300) -> Path:
    """A copy of the demo index, in `folder`, with what its shoppers did."""
    root = Path(shutil.copytree(index, folder / "store"))
    log = write_demo_store(folder / "demo", products=600, sessions=sessions).events
    with EventLog.open(root, SETTINGS) as events:
        import_events([str(log)], events.store, events.intake, rejected=rejects_path(events.folder, utc_now()))
    return root
