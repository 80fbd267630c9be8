"""An engine's way to its rankers: the one that serves, swapped when another is published, and those that searches name.
Each goes by the settings as they are when it is opened."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from rerank.ranker.pointer import NO_RANKER
from rerank.ranker.registry import Published, RankerRegistry
from rerank.ranker.spec import Encoding, misfit
from retrieval.errors import RankerError, RankerForeignError, ShelfwiseError
from retrieval.records import PastAct
from service.named_rankers import NamedRankers, OpenedRanker
from service.popularity import ServedPopularity
from service.reranking import Reranking
from service.snapshot import Snapshot

if TYPE_CHECKING:
    from service.settings import Settings
_NO_STATES = (
    "scores by features alone: the index has no token states, as one that an older program built; to have them made: "
    "shelfwise rebuild"
)


class ServedRanker:
    """The ranker of an index directory that serves now, and others by their names. Without `settings` they are read
    from the file and the environment."""

    def __init__(
        self, root: Path, settings: Settings | None = None, popularity: ServedPopularity | None = None
    ) -> None:
        """`popularity` is the index directory's, where others follow it, too."""
        self._registry = RankerRegistry(root)
        self._settings = settings
        self._lock = threading.Lock()
        self._seen: object = None
        self._is_closed = False
        self._serving: OpenedRanker | None = None
        self._named = NamedRankers(self._open_named)
        self._popularity = popularity or ServedPopularity(root)
        self._notices: tuple[str, ...] = ()

    @property
    def notices(self) -> tuple[str, ...]:
        """Why another one serves than should, or none; and what the one that does has to do without."""
        return (*self._notices, *(self._popularity.notices if self._is_used else ()))

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
        if self._is_used:
            self._popularity.look()

    def stage(self, snapshot: Snapshot, past: tuple[PastAct, ...] = (), name: str = "") -> Reranking | None:
        """The last stage of a search of this snapshot by a shopper who did this before.

        By default that of the ranker that serves: None where none does, or the one that does is for another encoder.
        With a name that ranker's, which is opened the first time; None for NO_RANKER. Raises RankerError, of its kind,
        where the one that is named cannot serve.
        """
        encoding = encoding_of(snapshot)
        if name == NO_RANKER:
            return None
        opened = self._opened(name, encoding) if name else self._serving
        if opened is None or misfit(opened.reranker.ranker.spec, encoding):
            return None
        return Reranking(snapshot, opened.reranker, opened.deadline, past, self._popularity.now, opened.floor)

    def problem(self, snapshot: Snapshot, name: str = "") -> str:
        """Why searches of this snapshot cannot have this ranker's order, by default that of the one that serves; empty
        where they can."""
        try:
            stage = self.stage(snapshot, name=name)
        except RankerError as error:
            return str(error)
        return "" if stage or name == NO_RANKER else "no ranker serves"

    def close(self) -> None:
        """Ends their threads."""
        with self._lock:
            self._is_closed = True
            self._swap(None)
        self._named.close()

    @property
    def _is_used(self) -> bool:
        return self._serving is not None or self._named.any

    def _opened(self, name: str, encoding: Encoding) -> OpenedRanker:
        serving = self._serving
        if serving is None or serving.reranker.ranker.name != name:
            return self._named.get(name, encoding)
        if why := misfit(serving.reranker.ranker.spec, encoding):
            raise RankerForeignError(f"{name} cannot serve: {why}")
        return serving

    def _open(self, encoding: Encoding) -> None:
        try:
            # Who switches rankers off means all of them.
            (self._named.drop if self._registry.pointer.is_off() else self._named.retry)()
            found = self._registry.serving(encoding)
            self._notices = found.notices
            if found.ranker is None:
                self._swap(None)
                return
            made = self._at_work(found.ranker)
            ranker = made.reranker.ranker
            if ranker.reads_states and encoding.state_dimension is None:
                self._notices = (*found.notices, f"{ranker.name} {_NO_STATES}")
            self._swap(made)
        except (ShelfwiseError, OSError) as error:
            self._swap(None)
            self._notices = (f"results keep the merged order: {error}",)

    def _open_named(self, name: str, encoding: Encoding) -> OpenedRanker:
        return self._at_work(self._registry.servable(name, encoding))

    def _at_work(self, ranker: Published) -> OpenedRanker:
        # A graph's runtime, which an engine without a ranker does without.
        from rerank.ranker.onnx_ranker import OnnxRanker
        from service.reranker import Reranker
        from service.settings import load_settings

        given = (self._settings or load_settings()).ranker
        return OpenedRanker(Reranker(OnnxRanker(ranker, given.event_weights)), given.deadline, given.floor)

    def _swap(self, made: OpenedRanker | None) -> None:
        before, self._serving = self._serving, made
        if before is not None:
            before.reranker.close()


def encoding_of(snapshot: Snapshot) -> Encoding:
    """What a snapshot holds for a ranker to read."""
    states, manifest = snapshot.states, snapshot.manifest
    return Encoding(manifest.encoder, manifest.dimension, None if states is None else states.dimension)
