"""The complaint suite: complaints of users of search programs in public trackers, as cases."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from shelfwise.benchmarks.peers.complaints.catalog import catalog
from shelfwise.benchmarks.peers.complaints.engine import ComplaintError, Encode, Engine, NotOfferedError, Shop
from shelfwise.retrieval.encoders.registry import open_encoder
from shelfwise.retrieval.encoders.weights import DEFAULT_MODEL
from shelfwise.retrieval.errors import SettingError
from shelfwise.retrieval.progress import NullProgress, Progress

THEMES = ("facets", "pages", "filters", "ranking", "matching", "changes")
"""The modules of cases, in order of execution: those that change the catalog come last."""
ENGINES = ("Shelfwise", "Elasticsearch", "LanceDB", "Qdrant")
PASS, FAIL, NOT_OFFERED = "pass", "fail", "not offered"
_LONGEST = 300
"""The most characters of an engine's own error."""
_THREAD = re.compile(r"\(([\w.-]+/[\w.-]+#\d+)\)\.$")

Case = Callable[[Shop], None]


@dataclass(frozen=True, slots=True)
class Complaint:
    """A case: a requirement on an engine, and the thread in which a user missed it."""

    theme: str
    name: str
    request: str
    thread: str
    case: Case


@dataclass(frozen=True, slots=True)
class CaseOutcome:
    """The result of a case for one engine; `observed` is empty for a pass, else what was observed or is missing."""

    engine: str
    result: str
    """One of `PASS`, `FAIL`, `NOT_OFFERED`."""
    observed: str = ""


@dataclass(frozen=True, slots=True)
class ComplaintResult:
    """One case over all engines."""

    theme: str
    name: str
    request: str
    thread: str
    outcomes: tuple[CaseOutcome, ...]


@dataclass(frozen=True, slots=True)
class ComplaintReport:
    """All cases over all engines, which are listed with their versions."""

    products: int
    engines: tuple[tuple[str, str], ...]
    results: tuple[ComplaintResult, ...]

    def counts(self, engine: str) -> tuple[int, int, int]:
        """The number of cases that an engine passes, fails and does not offer."""
        found = [each.result for case in self.results for each in case.outcomes if each.engine == engine]
        return found.count(PASS), found.count(FAIL), found.count(NOT_OFFERED)


def complaints() -> list[Complaint]:
    """All cases: the public functions of the themes' modules, in their order."""
    return [each for theme in THEMES for each in _cases(theme)]


def _cases(theme: str) -> Iterator[Complaint]:
    module = import_module(f"{__package__}.{theme}")
    for name, case in vars(module).items():
        if inspect.isfunction(case) and case.__module__ == module.__name__ and not name.startswith("_"):
            text = " ".join((case.__doc__ or "").split())
            found = _THREAD.search(text)
            if found is None:
                raise ValueError(f"{theme}.{name}: its docstring must end with the thread, as in (owner/name#1)")
            yield Complaint(theme, name, text[: found.start()].strip(), found[1], case)


def run_complaints(engines: Sequence[Engine], encode: Encode, progress: Progress | None = None) -> ComplaintReport:
    """Indexes the catalog in every engine and runs all cases."""
    progress = progress or NullProgress()
    listings, cases = catalog(), complaints()
    vectors = encode([each.text for each in listings])
    outcomes: dict[str, list[CaseOutcome]] = {each.name: [] for each in cases}
    for engine in engines:
        progress.begin(engine.name, len(cases), "cases")
        engine.index(listings, vectors)
        shop = Shop(engine, {each.id: each for each in listings}, encode)
        for each in cases:
            outcomes[each.name].append(run_case(each.case, shop))
            progress.advance(1)
        progress.end(engine.version)
    results = (
        ComplaintResult(each.theme, each.name, each.request, each.thread, tuple(outcomes[each.name])) for each in cases
    )
    return ComplaintReport(len(listings), tuple((each.name, each.version) for each in engines), tuple(results))


def run_case(case: Case, shop: Shop) -> CaseOutcome:
    """The outcome of a case. An error that the engine raises itself is a failure."""
    name = shop.engine.name
    try:
        case(shop)
    except NotOfferedError as error:
        return CaseOutcome(name, NOT_OFFERED, str(error))
    except ComplaintError as error:
        return CaseOutcome(name, FAIL, str(error))
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "")
        return CaseOutcome(name, FAIL, f"{type(error).__name__}: {reason}"[:_LONGEST])
    return CaseOutcome(name, PASS)


@contextmanager
def opened_engines(names: Sequence[str], cache: Path, elasticsearch: str = "") -> Iterator[list[Engine]]:
    """The engines of these names; they are closed with the context.

    `cache` stores environments and models; `elasticsearch` is the address of a node, empty starts one. Raises
    SettingError for an unknown name, StoreError for an engine that cannot be started.
    """
    if unknown := [name for name in names if name not in ENGINES]:
        raise SettingError(f"{unknown[0]!r} is not an engine of the suite; it can be {', '.join(ENGINES)}")
    with ExitStack() as opened:
        yield [opened.enter_context(closing(_opened(name, cache, elasticsearch))) for name in names]


def _opened(name: str, cache: Path, elasticsearch: str) -> Engine:
    """An engine by name; its dependencies are imported only for it."""
    if name in {"LanceDB", "Qdrant"}:
        return cast(Engine, import_module(f"{__package__}.peer_engine").PeerEngine(name, cache))
    module = import_module(f"{__package__}.{name.lower()}_engine")
    if name == "Elasticsearch":
        return cast(Engine, module.ElasticsearchEngine(elasticsearch))
    return cast(Engine, module.ShelfwiseEngine(cache))


def shared_encoder(cache: Path) -> Encode:
    """The encoder of all engines; it encodes each text once."""
    encoder = open_encoder(DEFAULT_MODEL, cache=cache)
    known: dict[str, list[float]] = {}

    def encode(texts: Sequence[str]) -> list[list[float]]:
        if missing := [text for text in dict.fromkeys(texts) if text not in known]:
            known.update(zip(missing, encoder.encode_queries(missing).tolist(), strict=True))
        return [known[text] for text in texts]

    return encode
