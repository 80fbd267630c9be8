"""The states in which an index may be found after a piece of work that ended, failed or was killed."""

from __future__ import annotations

from collections.abc import Collection

from benchmarks.faults.processes import Ended
from benchmarks.faults.truth import Truth, Version
from benchmarks.faults.work import Work


def outcomes(before: Truth, work: Work, ended: Ended, there: Collection[str], made: Version | None) -> list[Truth]:
    """The truths that are allowed, given the truth before and the versions that are `there` now.

    `made` is the version that a rebuild makes. Without a kill there is one outcome.
    """
    kept = before.copy()
    if work.kind in ("rebuild", "other encoder", "prune"):
        kept.versions = {name: version for name, version in before.versions.items() if name in there}
        kept.harmed &= kept.versions.keys()
    match work.kind:
        case "rebuild" | "other encoder" if made is not None:
            return _rebuilt(kept, before.next_name, made, ended, there)
        case "live changes":
            return _changed(kept, work, ended)
        case "rollback":
            return _rolled_back(kept, ended)
    return [kept]


def _rebuilt(kept: Truth, name: str, made: Version, ended: Ended, there: Collection[str]) -> list[Truth]:
    if name not in there and ended.exit_code:
        return [kept]
    kept.versions[name] = made
    published = kept.copy()
    published.current = name
    published.harmed_encoders.discard(made.encoder)
    return [published, kept] if ended.exit_code else [published]


def _changed(kept: Truth, work: Work, ended: Ended) -> list[Truth]:
    """Those that were taken are there; one that was begun and not answered may be."""
    open_call = -1
    for what, value in ended.told:
        if what == "begun":
            open_call = value
            continue
        if what == "taken" and value:
            kept.calls.append(work.calls[open_call])
        open_call = -1
    if open_call < 0:
        return [kept]
    taken = kept.copy()
    taken.calls.append(work.calls[open_call])
    return [kept, taken]


def _rolled_back(kept: Truth, ended: Ended) -> list[Truth]:
    older = [name for name in kept.whole if not kept.lacks_encoder(name) and name < (kept.current or "w")]
    if not older or ended.exit_code > 0:
        return [kept]
    gone_back = kept.copy()
    gone_back.current = older[-1]
    return [gone_back, kept] if ended.exit_code else [gone_back]
