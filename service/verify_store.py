"""Verifying what all versions of an index share: its marker, the pointer to the one that serves, the live changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from retrieval.errors import StoreDamagedError
from retrieval.journal import COPY, JOURNAL, Journal
from retrieval.published import CURRENT, MARKER, Store
from service.problems import Problem

_MADE_ANEW = "the newest whole version serves; shelfwise rollback {root} VERSION writes the file anew"
_LOST = f"restore {JOURNAL} and {COPY} from a copy, or lose the live changes behind the last rebuild: move both away"


def store_problems(store: Store) -> list[Problem]:
    """What is wrong beside the versions; raises StoreMissingError where there are none."""
    return [*_marker_problems(store), *_pointer_problems(store), *_journal_problems(store)]


def _marker_problems(store: Store) -> Iterator[Problem]:
    if told := store.marker_problem():
        what, _, advice = told.partition("; ")
        yield Problem(MARKER, what, advice)


def _pointer_problems(store: Store) -> Iterator[Problem]:
    advice = _MADE_ANEW.format(root=store.root)
    try:
        current = store.current()
    except StoreDamagedError as error:
        yield Problem(CURRENT, str(error), advice)
        return
    if current not in store.versions():
        yield Problem(CURRENT, f"it names {current}, which is not there", advice)


def _journal_problems(store: Store) -> Iterator[Problem]:
    with Journal(store.root) as journal:
        for told in journal.problems(above=_folded(store)):
            what, _, advice = told.partition("; ")
            yield Problem(JOURNAL, what, advice or _LOST)


def _folded(store: Store) -> int:
    """The last live change in the version that serves: the journal need not have it any more."""
    with suppress(StoreDamagedError):
        return store.manifest(store.current()).folded
    for name in reversed(store.versions()):
        with suppress(StoreDamagedError):
            return store.manifest(name).folded
    return 0
