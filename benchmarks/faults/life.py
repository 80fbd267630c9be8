"""The life of one index: work is done to it, it is hurt, it must be what it has to be, and a rebuild heals it."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.faults.checks import WrongError, check_engine, check_index, check_verified
from benchmarks.faults.harm import FLIPPED, TARGETS, UNREADABLE, harm
from benchmarks.faults.outcomes import outcomes
from benchmarks.faults.processes import Ended, Hurt, Processes
from benchmarks.faults.report import Failure, Tally
from benchmarks.faults.shop import Shop
from benchmarks.faults.truth import Catalog, Truth
from benchmarks.faults.work import KEEP, KINDS, Work
from retrieval.encoder_folder import read_spec
from retrieval.errors import ShelfwiseError
from retrieval.journal import JOURNAL
from retrieval.published import Store
from service.engine import SearchEngine

KILLED, KILLED_AT_STEP, FULL = "killed by the clock", "killed at a step", "full disk"
FAULTS = (KILLED, KILLED_AT_STEP, FULL, UNREADABLE, FLIPPED)
_PREPARED = ("rebuild", "live changes", "other encoder", "live changes", "rebuild", "rollback", "search", "prune")
_FOLLOW_SECONDS = 10.0
_HEALED_ANYWAY = 0.3
"""Share of the rounds without harm after which a rebuild follows; else the next fault meets what this one left."""
_FOR_PEOPLE = ("retrieval.errors.", "builtins.OSError", "builtins.PermissionError", "builtins.FileNotFoundError")
"""The errors whose message the commands show."""


class Life:
    """One index in a folder of its own, and what must be true of it."""

    def __init__(self, folder: Path, encoders: Sequence[Path], processes: Processes, tally: Tally) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self.root = folder / "index"
        self._feed = folder / "feed.jsonl"
        self._encoders = {read_spec(path).identity: path for path in encoders}
        self._processes = processes
        self._tally = tally
        self.truth = Truth()
        self._known: dict[str, Ended] = {}
        """How each kind of work ended when it was last undisturbed."""

    def begin(self, dice: random.Random) -> None:
        """Builds the index and does each kind of work once; raises WrongError where that fails."""
        self._shop = Shop(dice)
        for kind in _PREPARED:
            self._done(self._drawn(kind, dice), dice)

    def survives(self, seed: int, number: int) -> bool:
        """One round: whether the index is what it must be after it. What is wrong goes into the tally."""
        dice = random.Random(seed)  # noqa: S311 - a benchmark, not a secret
        self._shop.dice = dice
        kind, fault = dice.choice(KINDS), dice.choice(FAULTS)
        self._tally.counts.setdefault(kind, Counter())[fault] += 1
        self._detail = ""
        try:
            self._round(kind, fault, dice)
        except (WrongError, ShelfwiseError) as error:
            self._tally.failures.append(Failure(seed, number, kind, fault, self._detail, str(error)))
            return False
        return True

    def _round(self, kind: str, fault: str, dice: random.Random) -> None:
        work = self._drawn(kind, dice)
        if fault in (FLIPPED, UNREADABLE):
            self._harmed(work, fault, dice)
            self._heal(dice)
            return
        with SearchEngine.open(self.root) as follower:
            hurt = self._drawn_hurt(kind, fault, dice)
            self._detail = str(hurt)
            self._hurt(work, hurt, fault, dice)
            self._check_follower(follower, dice)
        if dice.random() < _HEALED_ANYWAY:
            self._heal(dice)

    def _drawn(self, kind: str, dice: random.Random, encoder: str = "") -> Work:
        """A piece of work; for a rebuild with its feed, which is not in the shop before the rebuild is begun."""
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

    def _drawn_hurt(self, kind: str, fault: str, dice: random.Random) -> Hurt:
        known = self._known[kind]
        step = dice.randint(1, max(1, known.steps))
        if fault == KILLED:
            return Hurt(dice.uniform(0, known.seconds))
        if fault == KILLED_AT_STEP:
            return Hurt(fatal_step=step)
        journal = self.root / JOURNAL
        length = journal.stat().st_size if journal.exists() else 0
        room = dice.choice((0, length + dice.randint(0, 1_000), dice.randint(0, 200_000)))
        return Hurt(full_step=step, room=room)

    def _hurt(self, work: Work, hurt: Hurt, fault: str, dice: random.Random) -> None:
        ended, allowed = self._run(work, hurt)
        self._check_ended(work, ended, fault)
        found, notices = check_index(self.root, allowed, dice)
        if notices:
            raise WrongError(f"nothing is damaged, but it says: {'; '.join(notices)}")
        self.truth = found

    def _done(self, work: Work, dice: random.Random) -> None:
        """Does a piece of work undisturbed."""
        ended, allowed = self._run(work, Hurt())
        if ended.exit_code:
            raise WrongError(f"{work.kind} undisturbed: {ended.error}")
        self.truth, notices = check_index(self.root, allowed, dice)
        if notices:
            raise WrongError(f"after {work.kind} undisturbed it says: {'; '.join(notices)}")

    def _run(self, work: Work, hurt: Hurt) -> tuple[Ended, list[Truth]]:
        made = None
        if work.feed:
            feed: Catalog = self._shop.next_feed(self._feed)
            made = self.truth.rebuilt(feed, read_spec(Path(work.encoder)).identity)
        ended = self._processes.run(work, hurt)
        if ended.hung:
            raise WrongError(f"{work.kind} did not end")
        if hurt == Hurt() and not ended.exit_code:
            self._known[work.kind] = ended
        self._tally.killed += ended.exit_code < 0
        self._tally.refused += ended.exit_code > 0
        self._tally.changes += sum(what == "taken" for what, _ in ended.told)
        return ended, outcomes(self.truth, work, ended, Store(self.root).versions(), made)

    def _check_ended(self, work: Work, ended: Ended, fault: str) -> None:
        """A kill ends the work without an error, a full disk with one that people can read."""
        is_refusal = work.kind == "rollback" and "UnknownVersionError" in ended.error
        if ended.error and fault in (KILLED, KILLED_AT_STEP) and not is_refusal:
            raise WrongError(f"{work.kind} failed: {ended.error}")
        if ended.error and not ended.error.startswith(_FOR_PEOPLE):
            raise WrongError(f"{work.kind} failed with an error for programmers: {ended.error}")

    def _check_follower(self, follower: SearchEngine, dice: random.Random) -> None:
        """An engine that was open all the while takes up what came of the work."""
        until = time.monotonic() + _FOLLOW_SECONDS
        while True:
            follower.look()
            try:
                check_engine(follower, [self.truth], dice)
                return
            except WrongError as error:
                if time.monotonic() > until:
                    raise WrongError(f"an engine that was open all the while: {error}") from error
            time.sleep(0.02)

    def _harmed(self, work: Work, fault: str, dice: random.Random) -> None:
        """Harms the index, does the work to it all the same, and checks it: before, too, in half of the rounds."""
        done = harm(self.root, self.truth, fault, dice.choice(TARGETS), dice)
        self._detail = str(done)
        self._tally.harmed[done.target] += 1
        if dice.random() < 0.5:
            self._check_harmed([self.truth], dice)
        ended, allowed = self._run(work, Hurt())
        self._check_ended(work, ended, fault)
        self._detail += f"; then {work.kind}: {ended.error or 'done'}"
        self.truth = self._check_harmed(allowed, dice)

    def _check_harmed(self, allowed: Sequence[Truth], dice: random.Random) -> Truth:
        found, notices = check_index(self.root, allowed, dice)
        if not notices and (found.serving != found.current or found.lacks_encoder(found.serving)):
            raise WrongError("it does not serve whole what it should, and says nothing of it")
        return found

    def _heal(self, dice: random.Random) -> None:
        """A rebuild, after which nothing is wrong any more."""
        encoder = next(iter(sorted(self.truth.harmed_encoders & self._encoders.keys())), "")
        work = self._drawn("rebuild", dice, encoder)
        ended, allowed = self._run(work, Hurt())
        if ended.exit_code:
            raise WrongError(f"the rebuild that should heal it failed: {ended.error}")
        for each in allowed:
            each.harmed_encoders.clear()
        self.truth, notices = check_index(self.root, allowed, dice)
        if notices:
            raise WrongError(f"after the rebuild that should heal it, it says: {'; '.join(notices)}")
        check_verified(self.root)
