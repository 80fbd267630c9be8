"""What is done to an index while faults are about: rebuild, other encoder, live changes, prune, rollback, search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.truth import Call, product_of
from indexer.build import RebuildOptions, rebuild
from retrieval.published import Store
from service.engine import SearchEngine
from service.rollback import roll_back

KEEP = 3
Tell = Callable[[tuple[str, int]], None]
"""Takes what happened to which of the calls: "begun", "taken" with how many products, or "refused"."""


@dataclass(frozen=True, slots=True)
class Work:
    """One piece of work. What a kind does not need is empty."""

    kind: str
    root: Path
    feed: str = ""
    encoder: str = ""
    calls: tuple[Call, ...] = ()
    keep: int = KEEP


def do(work: Work, tell: Tell) -> None:
    """Does it; whatever the index raises goes through."""
    _KINDS[work.kind](work, tell)


def _rebuild(work: Work, _: Tell) -> None:
    cache = work.root.with_name("cache")
    rebuild(work.root, RebuildOptions((work.feed,), cache, encoder=work.encoder, keep=work.keep, workers=1))


def _change(work: Work, tell: Tell) -> None:
    with SearchEngine.open(work.root) as engine:
        for place, call in enumerate(work.calls):
            tell(("begun", place))
            try:
                tell(("taken", _taken(engine, call)))
            except Exception:
                tell(("refused", place))
                raise


def _taken(engine: SearchEngine, call: Call) -> int:
    match call.kind:
        case "upsert":
            return engine.upsert(product_of(*each) for each in call.products).products
        case "delete":
            return engine.delete([product_id for product_id, _ in call.products]).products
        case _:
            ((product_id, fields),) = call.products
            values = {"attributes.colour" if name == "colour" else name: value for name, value in fields.items()}
            return engine.patch(product_id, **values).products


def _prune(work: Work, _: Tell) -> None:
    store = Store(work.root)
    with store.locked("prune"):
        store.prune(work.keep, (store.serving()[0].version,))


def _roll_back(work: Work, _: Tell) -> None:
    store = Store(work.root)
    with store.locked("rollback"):
        roll_back(store)


def _search(work: Work, _: Tell) -> None:
    with SearchEngine.open(work.root) as engine:
        for query in ("drill", "garden hose", "red kettle", ""):
            engine.search(query, facets=["brand"])


_KINDS: dict[str, Callable[[Work, Tell], None]] = {
    "rebuild": _rebuild,
    "other encoder": _rebuild,
    "live changes": _change,
    "prune": _prune,
    "rollback": _roll_back,
    "search": _search,
}
KINDS = tuple(_KINDS)
