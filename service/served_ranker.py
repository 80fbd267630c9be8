"""An engine's way to its ranker: opened when one is published, swapped when another is, by settings read then."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from rerank.ranker.registry import RankerRegistry
from rerank.ranker.spec import Encoding, misfit
from retrieval.errors import ShelfwiseError
from retrieval.records import PastAct
from service.popularity import ServedPopularity
from service.reranking import Reranking
from service.snapshot import Snapshot

if TYPE_CHECKING:
    from service.reranker import Reranker
    from service.settings import Settings


_NO_STATES = (
    "scores by features alone: the index has no token states, as one that an older program built; to have them made: "
    "shelfwise rebuild"
)


class ServedRanker:
    """The ranker of an index directory that serves now. Without `settings` they are read from the file and the
    environment."""

    def __init__(self, root: Path, settings: Settings | None = None) -> None:
        self._registry = RankerRegistry(root)
        self._settings = settings
        self._lock = threading.Lock()
        self._seen: object = None
        self._is_closed = False
        self._reranker: Reranker | None = None
        self._deadline = 0.0
        self._floor = 0.0
        self._popularity = ServedPopularity(root)
        self._notices: tuple[str, ...] = ()

    @property
    def notices(self) -> tuple[str, ...]:
        """Why another one serves than should, or none; and what the one that does has to do without."""
        return (*self._notices, *(self._popularity.notices if self._reranker else ()))

    def look(self, snapshot: Snapshot) -> None:
        """Takes up what was published, rolled back or switched off since the last look, for this snapshot, and what
        has become popular."""
        encoding = encoding_of(snapshot)
        seen = (self._registry.pointer.stamp(), encoding)
        if seen != self._seen:
            with self._lock:
                if seen != self._seen and not self._is_closed:
                    self._open(encoding)
                    self._seen = seen
        if self._reranker is not None:
            self._popularity.look()

    def stage(self, snapshot: Snapshot, past: tuple[PastAct, ...] = ()) -> Reranking | None:
        """The last stage of a search of this snapshot by a shopper who did this before; None where no ranker serves,
        or the one that does is for another encoder."""
        reranker = self._reranker
        if reranker is None or misfit(reranker.ranker.spec, encoding_of(snapshot)):
            return None
        return Reranking(snapshot, reranker, self._deadline, past, self._popularity.now, self._floor)

    def close(self) -> None:
        """Ends its threads."""
        with self._lock:
            self._is_closed = True
            self._swap(None)

    def _open(self, encoding: Encoding) -> None:
        try:
            found = self._registry.serving(encoding)
            self._notices = found.notices
            if found.ranker is None:
                self._swap(None)
                return
            # A graph's runtime, which an engine without a ranker does without.
            from rerank.ranker.onnx_ranker import OnnxRanker
            from service.reranker import Reranker
            from service.settings import load_settings

            given = (self._settings or load_settings()).ranker
            self._deadline, self._floor = given.deadline, given.floor
            ranker = OnnxRanker(found.ranker, given.event_weights)
            if ranker.reads_states and encoding.state_dimension is None:
                self._notices = (*found.notices, f"{ranker.name} {_NO_STATES}")
            self._swap(Reranker(ranker))
        except (ShelfwiseError, OSError) as error:
            self._swap(None)
            self._notices = (f"results keep the merged order: {error}",)

    def _swap(self, reranker: Reranker | None) -> None:
        before, self._reranker = self._reranker, reranker
        if before is not None:
            before.close()


def encoding_of(snapshot: Snapshot) -> Encoding:
    """What a snapshot holds for a ranker to read."""
    states, manifest = snapshot.states, snapshot.manifest
    return Encoding(manifest.encoder, manifest.dimension, None if states is None else states.dimension)
