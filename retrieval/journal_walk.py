"""Reading the two copies of the journal side by side: what is damaged in one is taken from the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from retrieval.journal_copies import COPY, Copy, Place, beginning, damaged
from retrieval.journal_frames import HEAD_BYTES, Head, UnreadableError, check_lines, read_head

_BATCH_ENTRIES = 1_000
_BATCH_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class Frame:
    """The changes of one append: `payload` holds a line for each, and nothing where they were not asked for."""

    head: Head
    payload: bytes


@dataclass(frozen=True, slots=True)
class Part:
    """Some frames, and the place behind them. `waits`: what comes next is being written, or was not finished."""

    frames: tuple[Frame, ...]
    place: Place
    even: bool = True
    waits: bool = False


class Walk:
    """Reads frames from one or two copies of one generation.

    `strict` ends at the first difference: what comes before it is in both copies, and so no writer takes it back.
    Without it, which is for those who hold the lock, each frame is read from the copy that has it whole;
    StoreDamagedError is raised where neither has. The lines of changes up to `skip` need not be right; only a
    `thorough` walk looks at them.
    """

    def __init__(
        self, copies: Sequence[Copy], place: Place, *, skip: int, strict: bool = False, thorough: bool = False
    ) -> None:
        self._copies = copies
        self.skip, self._strict, self._thorough = skip, strict, thorough
        self._lacking = 0
        self.place = place
        """Behind the last frame that was given."""
        self.even = len(copies) == 2
        """Whether both copies were the same so far."""
        self.behind = False
        """Whether they differ because the second one ends, as while somebody appends."""
        self.faults: dict[Path, str] = {}
        """The first damage of each copy that was read in its place from the other."""

    def frames(self) -> Iterator[Frame]:
        """The frames from the place on."""
        while (frame := self._next()) is not None:
            offset = self.place.offset + HEAD_BYTES + frame.head.length
            self.place = Place(self.place.generation, offset, frame.head.last)
            yield frame

    def _next(self) -> Frame | None:
        found = [self._look(copy) for copy in self._copies]
        frames = [each for each in found if isinstance(each, Frame)]
        if not frames:
            frame = self._passed_over()
            if frame is None:
                self._end([each for each in found if isinstance(each, UnreadableError)])
            return frame
        for copy, each in zip(self._copies, found, strict=True):
            if isinstance(each, UnreadableError):
                self._differs(copy, each)
        self.even = self.even and frames[0] == frames[-1]
        if self._strict and not self.even:
            return None
        if frames[0] != frames[-1]:
            raise damaged(self._root, f"{COPY} has other changes behind change {self.place.last:,}")
        return frames[0]

    def _look(self, copy: Copy) -> Frame | UnreadableError:
        try:
            head = self._head(copy)
            if not self._thorough and head.last <= self.skip:
                return Frame(head, b"")
            payload = copy.read(self.place.offset + HEAD_BYTES, head.length)
            check_lines(head, payload)
            return Frame(head, payload)
        except UnreadableError as error:
            return error
        except OSError as error:
            return UnreadableError(f"what follows change {self.place.last:,} cannot be read ({error.strerror})")

    def _head(self, copy: Copy) -> Head:
        offset = self.place.offset
        head = read_head(copy.read(offset, HEAD_BYTES), self.place.last + 1)
        if offset + HEAD_BYTES + head.length > copy.size:
            raise UnreadableError(f"{head.names} are cut off", short=True)
        return head

    def _passed_over(self) -> Frame | None:
        """A frame whose lines are damaged in both copies, but are not needed."""
        for copy in self._copies:
            try:
                head = self._head(copy)
                if head.last <= self.skip:
                    return Frame(head, copy.read(self.place.offset + HEAD_BYTES, head.length))
            except (UnreadableError, OSError):
                continue
        return None

    def _differs(self, copy: Copy, error: UnreadableError) -> None:
        self.even = False
        second = copy is not self._copies[0]
        self._lacking += error.short and second
        self.behind = self._lacking == 1
        # The last frame of the first copy is what a killed writer left: that is no damage of the second.
        if not self.behind:
            self.faults.setdefault(copy.path, f"it has lost its end ({error})" if error.short else str(error))

    def _end(self, errors: Sequence[UnreadableError]) -> None:
        """No copy has another frame: there is none, or it was never finished, or all are damaged."""
        offset = self.place.offset
        sizes = [copy.size for copy in self._copies]
        if all(size == offset for size in sizes):
            return
        self.even, self.behind = False, errors[-1].short
        # What a killed writer began is cut off, or it is not in the second copy yet, which then ends here.
        unfinished = errors[-1].short and (errors[0].short or sizes[-1] >= offset)
        if not self._strict and not unfinished:
            what = " and ".join(f"in {copy.path.name} {each}" for copy, each in zip(self._copies, errors, strict=True))
            raise damaged(self._root, what)

    @property
    def _root(self) -> Path:
        return self._copies[0].path.parent


def read_part(sources: Sequence[Copy], place: Place, after: int, *, strict: bool = True) -> Part:
    """The next frames with changes behind `after` that fill a batch; from the beginning where the files are others."""
    start = beginning(sources)
    walk = Walk(sources, place if place.generation == start.generation else start, skip=after, strict=strict)
    frames, entries, size = [], 0, 0
    for frame in walk.frames():
        if frame.head.last > after:
            frames.append(frame)
            entries, size = entries + frame.head.count, size + frame.head.length
        if entries >= _BATCH_ENTRIES or size > _BATCH_BYTES:
            break
    return Part(tuple(frames), walk.place, walk.even, walk.behind)
