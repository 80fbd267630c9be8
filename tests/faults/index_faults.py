"""Fault injection: one index goes through many rounds of faults, and is checked after each."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from shelfwise.retrieval.encoders.folder import read_spec
from shelfwise.retrieval.errors import ShelfwiseError
from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.files import SEAL_FILE
from shelfwise.retrieval.store.manifest import CURRENT, MANIFEST, MARKER
from shelfwise.retrieval.store.products import encoder_text
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.updates.journal_files import COPY, JOURNAL, FrameReader, JournalCopies, beginning
from shelfwise.service.cli.verify import store_problems, verify_version
from shelfwise.service.engine.engine import SearchEngine
from tests.faults.processes import (
    KEEP,
    KINDS,
    Catalog,
    Interruption,
    Result,
    Shop,
    Truth,
    Version,
    Work,
    product_of,
    run_interrupted,
    write_encoder,
)


def run_faults(folder: Path, rounds: int, seed: int) -> Tally:
    """Runs rounds on an index in `folder`, which is empty.

    Round n, from 0, is drawn by the seed `seed + n`. Raises UnexpectedStateError, which names the round, after a round
    with a problem; with its seed and one round it is repeated on a new index, unless it depends on earlier ones.
    """
    tally = Tally()
    encoders = [write_encoder(folder / "encoders" / name, name, size) for name, size in (("one", 16), ("two", 24))]
    life = Life(folder / "life", encoders, tally)
    life.begin(random.Random(seed))
    for number in range(rounds):
        life.run_round(seed + number)
    return tally


@dataclass(slots=True)
class Tally:
    """Counts of the rounds."""

    faults: Counter[str] = field(default_factory=Counter)  # number of rounds by fault
    killed: int = 0  # processes killed during their work
    refused: int = 0  # pieces of work that ended with an error, as expected on a full disk
    changes: int = 0  # acknowledged calls for live changes


# The allowed states of an index after work that ended, failed or was killed.


def outcomes(before: Truth, work: Work, ended: Result, there: Collection[str], made: Version | None) -> list[Truth]:
    """The allowed states after a piece of work, given the state before and the versions that are `there` now.

    `made` is the version that a rebuild makes. Without a kill there is one outcome.
    """
    kept = before.copy()
    if work.kind in ("rebuild", "other encoder", "prune"):
        kept.versions = {name: version for name, version in before.versions.items() if name in there}
        kept.damaged &= kept.versions.keys()
    match work.kind:
        case "rebuild" | "other encoder" if made is not None:
            return _rebuilt(kept, before.next_name, made, ended, there)
        case "live changes":
            return _changed(kept, work, ended)
        case "rollback":
            return _rolled_back(kept, ended)
    return [kept]


def _rebuilt(kept: Truth, name: str, made: Version, ended: Result, there: Collection[str]) -> list[Truth]:
    if name not in there and ended.exit_code:
        return [kept]
    kept.versions[name] = made
    published = kept.copy()
    published.current = name
    published.damaged_encoders.discard(made.encoder)
    return [published, kept] if ended.exit_code else [published]


def _changed(kept: Truth, work: Work, ended: Result) -> list[Truth]:
    """The states with all acknowledged calls, without and with the call that was begun and not answered."""
    open_call = -1
    for what, value in ended.messages:
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


def _rolled_back(kept: Truth, ended: Result) -> list[Truth]:
    older = [name for name in kept.whole if not kept.lacks_encoder(name) and name < (kept.current or "w")]
    if not older or ended.exit_code > 0:
        return [kept]
    gone_back = kept.copy()
    gone_back.current = older[-1]
    return [gone_back, kept] if ended.exit_code else [gone_back]


# Damage to stored files: bits flipped anywhere in an index, and unreadable files.

FLIPPED, UNREADABLE = "flipped byte", "unreadable file"
TARGETS = ("version", "version", "manifest", "pointer", "marker", "encoder", "journal", "both journals", "rest")


@dataclass(frozen=True, slots=True)
class Damage:
    kind: str
    target: str
    files: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind} of {self.target}: {', '.join(self.files)}"


def damage_index(root: Path, truth: Truth, kind: str, target: str, dice: random.Random) -> Damage:
    """Damages an index and records the damage in `truth`. One intact version and one copy of each live change are left.

    The pointer is damaged instead of a part that the index does not have.
    """
    if target == "both journals" and kind == FLIPPED and len(frames := _frames(root)) > 1:
        for name, (start, end) in zip((JOURNAL, COPY), dice.sample(frames, 2), strict=True):
            _flip(root / name, dice.randrange(start, end), dice)
        return Damage(kind, target, (JOURNAL, COPY))
    target = target.replace("both journals", "journal")
    paths = _paths(root, truth, target, dice)
    target, path = (target, dice.choice(paths)) if paths else ("pointer", root / CURRENT)
    _note(path.relative_to(root).parts, truth)
    _damage_file(path, kind, dice)
    return Damage(kind, target, (path.relative_to(root).as_posix(),))


def _paths(root: Path, truth: Truth, target: str, dice: random.Random) -> list[Path]:
    match target:
        case "version" | "manifest":
            if len(truth.whole) < 2:
                return []
            folder = root / "versions" / (truth.serving if dice.random() < 0.7 else dice.choice(truth.whole))
            return _filled(folder.rglob("*")) if target == "version" else [folder / MANIFEST, folder / SEAL_FILE]
        case "pointer":
            return [root / CURRENT]
        case "marker":
            return [root / MARKER]
        case "encoder":
            return _filled((root / "encoders").rglob("*"))
        case "journal":
            return [root / JOURNAL, root / COPY] if _frames(root) else []
        case _:
            main = {root / name for name in (CURRENT, MARKER, JOURNAL, COPY)}
            return [path for path in _filled([*root.iterdir(), *(root / "staging").rglob("*")]) if path not in main]


def _filled(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.is_file() and path.stat().st_size)


def _note(parts: Sequence[str], truth: Truth) -> None:
    match parts:
        case ("versions", name, *_):
            truth.damaged.add(name)
        case ("encoders", name, *_):
            truth.damaged_encoders.add(name)
        case (name,) if name == CURRENT:
            truth.current = ""


def _damage_file(path: Path, kind: str, dice: random.Random) -> None:
    if kind == FLIPPED:
        _flip(path, dice.randrange(path.stat().st_size), dice)
    elif os.geteuid() == 0:
        # Permissions do not stop root; a link to itself does.
        path.unlink()
        path.symlink_to(path.name)
    else:
        path.chmod(0)


def _flip(path: Path, place: int, dice: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << dice.randrange(8)
    path.write_bytes(content)


def _frames(root: Path) -> list[tuple[int, int]]:
    with JournalCopies(root) as copies:
        if copies.none:
            return []
        sources = copies.sources()[0]
        walk = FrameReader(sources, beginning(sources), skip=0)
        places = [walk.place.offset, *(walk.place.offset for _ in walk.frames())]
    return list(pairwise(places))


# The life of one index: work, an interruption or damage, a check of the expected state, and a rebuild that repairs it.

KILLED, KILLED_AT_STEP, FULL = "killed by the clock", "killed at a step", "full disk"
FAULTS = (KILLED, KILLED_AT_STEP, FULL, UNREADABLE, FLIPPED)
_PREPARED = ("rebuild", "live changes", "other encoder", "live changes", "rebuild", "rollback", "search", "prune")
_FOLLOW_SECONDS = 10.0
_REBUILD_SHARE = 0.3
"""Share of the rounds without damage that are followed by a rebuild; other rounds pass on their state to the next."""
_FOR_PEOPLE = (
    "shelfwise.retrieval.errors.",
    "builtins.OSError",
    "builtins.PermissionError",
    "builtins.FileNotFoundError",
)
"""Errors whose messages the commands show to users."""


class Life:
    def __init__(self, folder: Path, encoders: Sequence[Path], tally: Tally) -> None:
        folder.mkdir(parents=True)
        self.root = folder / "index"
        self._feed = folder / "feed.jsonl"
        self._encoders = {read_spec(path).identity: path for path in encoders}
        self._tally = tally
        self.truth = Truth()
        self._known: dict[str, Result] = {}
        # The end of the last undisturbed work of each kind.

    def begin(self, dice: random.Random) -> None:
        self._shop = Shop(dice)
        for kind in _PREPARED:
            self._run_undisturbed(self._draw_work(kind, dice), dice, f"{kind} undisturbed")

    def run_round(self, seed: int) -> None:
        """Runs one round; raises UnexpectedStateError if the index does not pass the checks after it."""
        dice = random.Random(seed)
        self._shop.dice = dice
        kind, fault = dice.choice(KINDS), dice.choice(FAULTS)
        self._tally.faults[fault] += 1
        self._detail = ""
        try:
            self._round(kind, fault, dice)
        except (UnexpectedStateError, ShelfwiseError) as error:
            raise UnexpectedStateError(f"seed {seed}, {kind}, {fault}, {self._detail}: {error}") from error

    def _round(self, kind: str, fault: str, dice: random.Random) -> None:
        work = self._draw_work(kind, dice)
        if fault in (FLIPPED, UNREADABLE):
            self._work_damaged(work, fault, dice)
            self._repair(dice)
            return
        with SearchEngine.open(self.root) as follower:
            interruption = self._draw_interruption(kind, fault, dice)
            self._detail = str(interruption)
            self._interrupt(work, interruption, fault, dice)
            self._check_follower(follower, dice)
        if dice.random() < _REBUILD_SHARE:
            self._repair(dice)

    def _draw_work(self, kind: str, dice: random.Random, encoder: str = "") -> Work:
        """A piece of work; for a rebuild with the path of its feed, which is written when the rebuild begins."""
        match kind:
            case "rebuild" | "other encoder":
                serving = self.truth.versions[self.truth.serving].encoder if self.truth.versions else ""
                others = [each for each in self._encoders if (each != serving) == (kind == "other encoder")]
                encoder = encoder or (others or list(self._encoders))[0]
                return Work(kind, self.root, str(self._feed), str(self._encoders[encoder]))
            case "live changes":
                return Work(kind, self.root, calls=tuple(self._shop.calls(self.truth.served(self.truth.serving))))
            case "prune":
                return Work(kind, self.root, keep=dice.randint(2, KEEP))
        return Work(kind, self.root)

    def _draw_interruption(self, kind: str, fault: str, dice: random.Random) -> Interruption:
        known = self._known[kind]
        step = dice.randint(1, max(1, known.steps))
        if fault == KILLED:
            return Interruption(dice.uniform(0, known.seconds))
        if fault == KILLED_AT_STEP:
            return Interruption(fatal_step=step)
        journal = self.root / JOURNAL
        length = journal.stat().st_size if journal.exists() else 0
        room = dice.choice((0, length + dice.randint(0, 1_000), dice.randint(0, 200_000)))
        return Interruption(full_step=step, room=room)

    def _interrupt(self, work: Work, interruption: Interruption, fault: str, dice: random.Random) -> None:
        ended, allowed = self._run(work, interruption)
        self._check_ended(work, ended, fault)
        found, notices = check_index(self.root, allowed, dice)
        if notices:
            raise UnexpectedStateError(f"nothing is damaged, but it says: {'; '.join(notices)}")
        self.truth = found

    def _run_undisturbed(self, work: Work, dice: random.Random, what: str) -> None:
        """Runs work without interruption, after which the index must have no problems."""
        ended, allowed = self._run(work, Interruption())
        if ended.exit_code:
            raise UnexpectedStateError(f"{what} failed: {ended.error}")
        for each in allowed:
            each.damaged_encoders.clear()
        self.truth, notices = check_index(self.root, allowed, dice)
        if notices:
            raise UnexpectedStateError(f"after {what} it says: {'; '.join(notices)}")

    def _run(self, work: Work, interruption: Interruption) -> tuple[Result, list[Truth]]:
        made = None
        if work.feed:
            feed: Catalog = self._shop.next_feed(self._feed)
            made = self.truth.rebuilt(feed, read_spec(Path(work.encoder)).identity)
        ended = run_interrupted(work, interruption)
        if ended.hung:
            raise UnexpectedStateError(f"{work.kind} did not end")
        if interruption == Interruption() and not ended.exit_code:
            self._known[work.kind] = ended
        self._tally.killed += ended.exit_code < 0
        self._tally.refused += ended.exit_code > 0
        self._tally.changes += sum(what == "taken" for what, _ in ended.messages)
        return ended, outcomes(self.truth, work, ended, Store(self.root).versions(), made)

    def _check_ended(self, work: Work, ended: Result, fault: str) -> None:
        """Checks that a kill ends the work without an error, and a full disk with an error for users."""
        is_refusal = work.kind == "rollback" and "UnknownVersionError" in ended.error
        if ended.error and fault in (KILLED, KILLED_AT_STEP) and not is_refusal:
            raise UnexpectedStateError(f"{work.kind} failed: {ended.error}")
        if ended.error and not ended.error.startswith(_FOR_PEOPLE):
            raise UnexpectedStateError(f"{work.kind} failed with an error for programmers: {ended.error}")

    def _check_follower(self, follower: SearchEngine, dice: random.Random) -> None:
        """Checks that an engine that was open during the work loads its result."""
        until = time.monotonic() + _FOLLOW_SECONDS
        while True:
            follower.reload_if_changed()
            try:
                check_engine(follower, [self.truth], dice)
                return
            except UnexpectedStateError as error:
                if time.monotonic() > until:
                    raise UnexpectedStateError(f"an engine that was open all the while: {error}") from error
            time.sleep(0.02)

    def _work_damaged(self, work: Work, fault: str, dice: random.Random) -> None:
        """Damages the index, runs the work and checks the index; in half of the rounds also before the work."""
        done = damage_index(self.root, self.truth, fault, dice.choice(TARGETS), dice)
        self._detail = str(done)
        if dice.random() < 0.5:
            self._check_damaged([self.truth], dice)
        ended, allowed = self._run(work, Interruption())
        self._check_ended(work, ended, fault)
        self._detail += f"; then {work.kind}: {ended.error or 'done'}"
        self.truth = self._check_damaged(allowed, dice)

    def _check_damaged(self, allowed: Sequence[Truth], dice: random.Random) -> Truth:
        found, notices = check_index(self.root, allowed, dice)
        if not notices and (found.serving != found.current or found.lacks_encoder(found.serving)):
            raise UnexpectedStateError("it does not serve whole what it should, and says nothing of it")
        return found

    def _repair(self, dice: random.Random) -> None:
        encoder = next(iter(sorted(self.truth.damaged_encoders & self._encoders.keys())), "")
        self._run_undisturbed(self._draw_work("rebuild", dice, encoder), dice, "the rebuild that should repair it")
        check_verified(self.root)


# Checks of an index: it opens, serves an intact version, and has every acknowledged change.

_SAMPLE = 5
_NAMED = 3


class UnexpectedStateError(Exception):
    """The index is not in an expected state; the message describes the difference."""


def check_engine(engine: SearchEngine, allowed: Sequence[Truth], dice: random.Random) -> Truth:
    """The allowed state that an engine serves; raises UnexpectedStateError if it serves none of them."""
    served = {hit.product.id: hit.product for hit in engine.search("", size=1_000).hits}
    reasons = []
    for truth in allowed:
        reason = _difference(engine, served, truth)
        if not reason:
            _check_searches(engine, served, truth, dice)
            return truth
        reasons.append(reason)
    raise UnexpectedStateError("; or ".join(dict.fromkeys(reasons)))


def _difference(engine: SearchEngine, served: dict[str, Product], truth: Truth) -> str:
    version = truth.serving
    if engine.manifest.version != version:
        return f"{engine.manifest.version} serves, not {version} ({'; '.join(engine.notices)})"
    wanted = {each: product_of(each, fields) for each, fields in truth.served(version).items()}
    wrong = sorted(each for each in {*served, *wanted} if served.get(each) != wanted.get(each))
    if not wrong:
        return ""
    shown = "; ".join(f"{each} is {served.get(each)}, not {wanted.get(each)}" for each in wrong[:_NAMED])
    return f"{version} with {len(truth.calls)} live calls: {len(wrong)} products are wrong: {shown} ({engine.notices})"


def _check_searches(engine: SearchEngine, served: dict[str, Product], truth: Truth, dice: random.Random) -> None:
    words_only = truth.lacks_encoder(truth.serving)
    for product in dice.sample(sorted(served.values(), key=lambda each: each.id), _SAMPLE):
        page = engine.search(product.title, size=_SAMPLE, correct=False)
        if not page.hits or page.hits[0].product != product:
            raise UnexpectedStateError(f"{product.id} is not the first hit of its own title {product.title!r}")
        if page.degraded != (("dense",) if words_only else ()):
            raise UnexpectedStateError(f"the page says that {page.degraded} failed, in {truth.serving}")
        found = engine.search("", filters=f"price = {product.price}").hits
        if [hit.product.id for hit in found] != [product.id]:
            raise UnexpectedStateError(f"the filter price = {product.price} finds {[hit.product.id for hit in found]}")
        if not words_only and product.id not in _nearest(engine, product):
            raise UnexpectedStateError(f"{product.id} is not among the nearest to its own text")


def _nearest(engine: SearchEngine, product: Product) -> set[str]:
    hits = engine.search(encoder_text(product), stage="dense", size=_SAMPLE, correct=False).hits
    return {hit.product.id for hit in hits if hit.score > 0.9999}


def check_index(root: Path, allowed: Sequence[Truth], dice: random.Random) -> tuple[Truth, tuple[str, ...]]:
    """Opens an index; returns the allowed state that it serves, and its notices."""
    try:
        with SearchEngine.open(root) as engine:
            return check_engine(engine, allowed, dice), engine.notices
    except UnexpectedStateError:
        raise
    except Exception as error:
        raise UnexpectedStateError(f"it does not open and search: {type(error).__name__}: {error}") from error


def check_verified(root: Path) -> None:
    store = Store(root)
    try:
        problems = [*store_problems(store), *verify_version(store, store.current(), NullProgress()).problems]
    except ShelfwiseError as error:
        raise UnexpectedStateError(f"it cannot be verified: {error}") from error
    if problems:
        raise UnexpectedStateError("; ".join(f"verify: {each.part}: {each.what}" for each in problems))
