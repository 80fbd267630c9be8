"""The journal of live changes: durable, numbered, shared; damage to one copy loses no acknowledged change."""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.retrieval.errors import ChangeError, StoreDamagedError, StoreError, StoreForeignError, StoreLockedError
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.updates.changes import Change, Delete, Patch, Upsert, change_to_json
from shelfwise.retrieval.updates.journal import Journal, OutrunError, lock_folder
from shelfwise.retrieval.updates.journal_files import COPY, HEAD_BYTES, HEADER_BYTES, JOURNAL, JournalHeader, pack_frame

CHANGES: tuple[Change, ...] = (Upsert(Product("a", "drill", price=9.5)), Patch("a", {"price": 8.0}), Delete("b"))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path) as opened:
        yield opened


def seqs(journal: Journal, since: int = 0) -> list[int]:
    return [entry.seq for entry in journal.since(since)]


class TestAppending:
    def test_changes_are_read_in_order_with_number_and_time(self, tmp_path: Path) -> None:
        moment = datetime(2026, 1, 31, 12, 0, 0, 5, UTC)
        with Journal(tmp_path, clock=lambda: moment) as journal:
            assert journal.append(CHANGES) == [1, 2, 3]
            assert journal.append([Delete("c")]) == [4]
            assert [entry.change for entry in journal.since(0)] == [*CHANGES, Delete("c")]
            assert {entry.at for entry in journal.since(0)} == {moment}
            assert seqs(journal, 2) == [3, 4]
            assert seqs(journal, 4) == []
            assert journal.last() == 4

    def test_invalid_or_oversized_call_appends_nothing(self, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ChangeError, match="product 'a': price is -1"):
            journal.append([*CHANGES, Patch("a", {"price": -1})])
        assert (journal.last(), seqs(journal)) == (0, [])
        monkeypatch.setattr("shelfwise.retrieval.updates.journal.MAX_CALL_BYTES", 60)
        with pytest.raises(ChangeError, match="have more than 60 bytes; use several"):
            journal.append([Delete("a"), Delete("b"), Delete("c")])
        assert journal.append([Delete("a")]) == [1]

    def test_append_after_a_change_that_is_not_the_last_is_refused(self, journal: Journal, tmp_path: Path) -> None:
        with Journal(tmp_path) as other:
            assert journal.append(CHANGES, after=0) == [1, 2, 3]
            with pytest.raises(OutrunError):
                other.append([Delete("c")], after=0)
            assert other.append([Delete("c")], after=3) == [4]
            assert seqs(journal) == [1, 2, 3, 4]

    def test_concurrent_appends_get_distinct_numbers(self, journal: Journal) -> None:
        def work(name: int) -> list[int]:
            given: list[int] = []
            for place in range(20):
                given += journal.append([Delete(f"{name}-{place}"), Delete("x")])
                assert seqs(journal)[-1] >= given[-1]
            return given

        with ThreadPoolExecutor(4) as threads:
            given = [seq for each in threads.map(work, range(4)) for seq in each]
        assert sorted(given) == seqs(journal) == list(range(1, 161))

    def test_a_closed_journal_refuses(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path)
        journal.close()
        for use in (journal.last, lambda: journal.append(CHANGES)):
            with pytest.raises(StoreError, match="is closed"):
                use()


class TestPruning:
    def test_numbers_are_not_reused(self, journal: Journal, tmp_path: Path) -> None:
        journal.append(CHANGES)
        assert (journal.forget(2), seqs(journal)) == (2, [3])
        assert (journal.forget(10), seqs(journal), journal.last()) == (1, [], 3)
        with Journal(tmp_path) as other:
            assert other.append([Delete("c")]) == [4]
            assert seqs(other) == [4]

    def test_lost_or_older_journal_continues_after_the_version(self, journal: Journal) -> None:
        assert journal.append(CHANGES, above=57) == [58, 59, 60]
        assert seqs(journal, 57) == [58, 59, 60]
        assert journal.append([Delete("c")], above=57) == [61]
        assert journal.append([Delete("c")], above=99) == [100]
        assert seqs(journal) == [100]

    def test_reader_during_writes_and_pruning_misses_nothing(self, journal: Journal, tmp_path: Path) -> None:
        journal.append([Upsert(Product(f"p{number}", "long", "x" * 900_000)) for number in range(7)])
        journal.append([Delete(f"p{number}") for number in range(2_493)])
        found = journal.since(0)
        first = next(found)
        with Journal(tmp_path) as other:
            other.forget(2)
            assert other.append([Delete("one more")]) == [2_501]
        assert journal.append([Delete("last")]) == [2_502]
        assert [first.seq, *(entry.seq for entry in found)] == list(range(1, 2_503))

    def test_pruning_frees_space_and_keeps_permissions(self, journal: Journal, tmp_path: Path) -> None:
        journal.append([Upsert(Product("p", "long", "x" * 9_000))])
        for name in (JOURNAL, COPY):
            (tmp_path / name).chmod(0o664)
        journal.forget(1)
        states = [(tmp_path / name).stat() for name in (JOURNAL, COPY)]
        assert {stat.S_IMODE(each.st_mode) for each in states} == {0o664}
        assert all(each.st_size < 100 for each in states)


class TestStamp:
    def test_stamp_changes_with_every_append_only(self, journal: Journal, tmp_path: Path) -> None:
        stamps = [journal.changed_stamp()]
        assert journal.changed_stamp() == stamps[0]
        with Journal(tmp_path) as other:
            for writer in (other, journal, other, journal):
                writer.append(CHANGES)
                stamps.append(journal.changed_stamp())
                assert journal.changed_stamp() == stamps[-1]
            other.forget(5)
            stamps.append(journal.changed_stamp())
        assert len(set(stamps)) == len(stamps)

    def test_nothing_is_made_before_the_first_change(self, journal: Journal, tmp_path: Path) -> None:
        assert journal.changed_stamp() == (0, 0, 0, 0)
        assert journal.last() == journal.forget(5) == 0
        assert (journal.append([]), journal.problems()) == ([], [])
        assert not list(tmp_path.iterdir())

    def test_replaced_journal_is_detected(self, journal: Journal, tmp_path: Path) -> None:
        journal.append(CHANGES)
        before = journal.changed_stamp()
        (tmp_path / "other").mkdir()
        with Journal(tmp_path / "other") as other:
            other.append([Delete("elsewhere")])
        for path in tmp_path.glob(f"{JOURNAL}*"):
            path.unlink()
        for name in (JOURNAL, COPY):
            shutil.move(tmp_path / "other" / name, tmp_path / name)
        assert journal.changed_stamp() != before
        assert [entry.change for entry in journal.since(0)] == [Delete("elsewhere")]
        assert journal.append(CHANGES) == [2, 3, 4]


FILES = (JOURNAL, COPY)
ALL, DENIED = "3 [1, 2, 3] False", "cannot be repaired (Permission denied); the change was not stored"


def make_unreadable(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"drill", b"dr1ll"))


def hide(path: Path) -> None:
    path.chmod(0)


class TestReadOnlyStores:
    """Root can write everywhere, so a reader that runs as root drops this right."""

    READ = """
import sys
from pathlib import Path
from shelfwise.retrieval.errors import StoreError
from shelfwise.retrieval.updates.journal import Journal
from shelfwise.retrieval.updates.changes import Delete
with Journal(Path(sys.argv[1])) as journal:
    try:
        print(journal.last(), [entry.seq for entry in journal.since(0)], journal.changed_stamp() == (0, 0, 0, 0))
        journal.append([Delete("x")])
    except StoreError as error:
        print(error)
    print(journal.notices)
"""

    def read(self, root: Path) -> list[str]:
        drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
        if drop and not shutil.which("setpriv"):
            pytest.skip("root without setpriv can write anywhere")
        root.chmod(stat.S_IRUSR | stat.S_IXUSR)
        try:
            command = [*drop, sys.executable, "-c", self.READ, str(root)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        finally:
            root.chmod(stat.S_IRWXU)
        return done.stdout.splitlines()

    @pytest.mark.parametrize(
        ("names", "damage", "message"),
        [
            ((), None, ("0 [] True", "live.log cannot be created (Permission denied)", "()")),
            (FILES, lambda path: path.chmod(0o444), (ALL, "live.log cannot be written to (Permission denied)", "()")),
            ((JOURNAL,), make_unreadable, (ALL, DENIED, "live.log is damaged: changes 1 to 3 have another checksum")),
            ((COPY,), make_unreadable, (ALL, DENIED, "live.log.copy is damaged: changes 1 to 3 have another checksum")),
            ((JOURNAL,), hide, (ALL, DENIED, "live.log is damaged: it cannot be read (Permission denied)")),
            ((COPY,), hide, (ALL, DENIED, "live.log.copy is damaged: it cannot be read (Permission denied)")),
            (FILES, hide, ("it cannot be read (Permission denied); check the permissions of it", "()")),
        ],
    )
    def test_read_only_store_is_read_and_refuses_changes(
        self, tmp_path: Path, names: Sequence[str], damage: Callable[[Path], object], message: tuple[str, ...]
    ) -> None:
        with Journal(tmp_path) as journal:
            journal.append(CHANGES if names else ())
        for name in names:
            damage(tmp_path / name)
        for wanted, line in zip(message, self.read(tmp_path), strict=True):
            assert wanted in line


class TestWaiting:
    def test_reader_does_not_wait_for_an_unfinished_append(self, journal: Journal, tmp_path: Path) -> None:
        journal.append(CHANGES)
        whole = (tmp_path / JOURNAL).read_bytes()
        with lock_folder(tmp_path, 1), (tmp_path / JOURNAL).open("ab") as file:
            file.write(pack_frame(4, 0, [change_to_json(Delete("c"))]))
            file.flush()
            assert seqs(journal) == [1, 2, 3]
        assert seqs(journal) == [1, 2, 3, 4], "its writer was killed, so it is there in part, and is made whole"
        assert (tmp_path / COPY).read_bytes()[: len(whole)] == whole

    def test_wait_for_a_slow_writer_is_bounded(
        self, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("shelfwise.retrieval.updates.journal._WAIT_SECONDS", 0.05)
        journal.append(CHANGES)
        with (
            lock_folder(tmp_path, 1),
            pytest.raises(StoreLockedError, match=r"have been locked by another process for 0\.05 s"),
        ):
            journal.append(CHANGES)
        assert journal.append(CHANGES) == [4, 5, 6]


LATER = Delete("later")
UNFINISHED = Delete("unfinished")
OLD: list[Change] = [*CHANGES, LATER]
NEW = [*OLD, *OLD]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with Journal(tmp_path) as journal:
        journal.append(CHANGES[:2])
        journal.append(CHANGES[2:])
        journal.append([LATER])
    return tmp_path


def changes(journal: Journal, since: int = 0) -> list[Change]:
    return [entry.change for entry in journal.since(since)]


def contents(root: Path) -> dict[str, bytes]:
    return {name: (root / name).read_bytes() for name in FILES if (root / name).is_file()}


def put(root: Path, left: dict[str, bytes]) -> None:
    for name in FILES:
        (root / name).unlink(missing_ok=True)
        if name in left:
            (root / name).write_bytes(left[name])


def flipped(content: bytes, place: int, by: int = 0xFF) -> bytes:
    return content[:place] + bytes([content[place] ^ by]) + content[place + 1 :]


def damaged_states(left: dict[str, bytes]) -> Iterator[dict[str, bytes]]:
    """Each kind of damage to one of the files: a changed byte, a truncated file, a missing file."""
    for name, content in left.items():
        yield {other: left[other] for other in left if other != name}
        for size in {0, 1, HEADER_BYTES, HEADER_BYTES + 7, len(content) // 2, len(content) - 1}:
            yield left | {name: content[:size]}
        for place in {*range(0, len(content), 11), *range(0, min(len(content), HEADER_BYTES + HEAD_BYTES), 4)}:
            yield left | {name: flipped(content, place)}


def assert_repaired(root: Path, expected: list[Change]) -> None:
    with Journal(root) as journal:
        assert changes(journal) == expected
        assert journal.append([LATER]) == [len(expected) + 1]
        assert changes(journal) == [*expected, LATER]
        assert journal.problems() == []
        assert (root / JOURNAL).read_bytes() == (root / COPY).read_bytes()


class TestDamageToOneCopy:
    def test_damage_to_one_copy_loses_no_change(self, root: Path) -> None:
        for harmed in damaged_states(contents(root)):
            put(root, harmed)
            assert_repaired(root, [*CHANGES, LATER])

    @pytest.mark.parametrize("name", FILES)
    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (make_unreadable, "changes 1 to 2 have another checksum"),
            (Path.unlink, "it is missing"),
            (lambda path: os.truncate(path, HEADER_BYTES + 9), "it has lost its end"),
            (lambda path: os.truncate(path, 9), "its header is cut off"),
            (lambda path: path.write_bytes(b"no journal at all" * 100), "its header has another checksum"),
            (lambda path: path.write_bytes(bytes(8192)), "its header has another checksum"),
        ],
    )
    def test_each_kind_of_damage_is_named_and_repaired(
        self, root: Path, name: str, damage: Callable[[Path], object], message: str
    ) -> None:
        damage(root / name)
        harmed = contents(root)
        other = COPY if name == JOURNAL else JOURNAL
        with Journal(root) as journal:
            assert any(f"{root / name} is damaged: {message}" in problem for problem in journal.problems())
            assert contents(root) == harmed, "looking for problems changes nothing"
            assert journal.append([LATER]) == [5], "who only writes mends too"
            (notice,) = journal.notices
            assert f"{root / name} was damaged: {message}" in notice
            assert f"rewritten from {other}" in notice
        assert_repaired(root, [*CHANGES, LATER, LATER])

    @pytest.mark.parametrize("name", FILES)
    def test_unrepairable_copy_is_read_from_the_other_and_refuses_changes(self, root: Path, name: str) -> None:
        (root / name).unlink()
        (root / name).mkdir()
        with Journal(root) as journal:
            assert changes(journal) == [*CHANGES, LATER]
            assert journal.last() == 4
            assert f"{root / name} is damaged: it is not a file" in journal.notices[0]
            assert "cannot be rewritten" in journal.notices[0]
            with pytest.raises(StoreError, match=r"cannot be repaired .*the change was not stored"):
                journal.append([LATER])
        (root / name).rmdir()
        assert_repaired(root, [*CHANGES, LATER])

    def test_open_journal_repairs_damage(self, root: Path) -> None:
        with Journal(root) as journal:
            assert changes(journal) == [*CHANGES, LATER]
            for count, name in enumerate(FILES * 2, 5):
                before = journal.changed_stamp()
                (root / name).unlink()
                assert journal.changed_stamp() != before
                assert journal.append([LATER]) == [count]
                assert len(changes(journal)) == count
            assert len(journal.notices) == 2

    @pytest.mark.parametrize("name", FILES)
    def test_outdated_copy_is_ignored(self, root: Path, name: str) -> None:
        old = contents(root)
        with Journal(root) as journal:
            journal.append([LATER])
            put(root, contents(root) | {name: old[name]})
            assert len(changes(journal)) == 5
            journal.forget(2)
            put(root, contents(root) | {name: old[name]})
            assert changes(journal) == [*CHANGES[2:], LATER, LATER]
        with Journal(root) as journal:
            assert journal.append([LATER]) == [6]

    def test_damage_in_different_places_of_both_copies_loses_nothing(self, root: Path) -> None:
        whole = (root / JOURNAL).read_bytes()
        put(root, {name: flipped(whole, whole.index(part)) for name, part in ((JOURNAL, b"drill"), (COPY, b"later"))})
        with Journal(root) as journal:
            assert len(journal.problems()) == 2
        assert_repaired(root, [*CHANGES, LATER])


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
@pytest.mark.parametrize("failing", [1, 2])
def test_failed_write_to_one_copy_appends_to_neither(
    root: Path, monkeypatch: pytest.MonkeyPatch, call: str, failing: int
) -> None:
    before = contents(root)
    done, count = getattr(os, call), itertools.count(1)

    def full(*arguments: object) -> object:
        if next(count) == failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        return done(*arguments)

    with Journal(root) as journal:
        assert journal.last() == 4
        with monkeypatch.context() as disk:
            disk.setattr(os, call, full)
            with pytest.raises(StoreError, match=r"live\.log is full; the change was not stored"):
                journal.append([LATER])
        assert contents(root) == before
        assert changes(journal) == [*CHANGES, LATER]
    assert_repaired(root, [*CHANGES, LATER])


class TestDamageToBothCopies:
    def test_change_damaged_in_both_copies_is_refused(self, root: Path) -> None:
        left = contents(root)
        for place in range(HEADER_BYTES, len(left[COPY]), 7):
            harmed = {name: flipped(content, place) for name, content in left.items()}
            put(root, harmed)
            with Journal(root) as journal:
                read: list[Change] = []
                with pytest.raises(StoreDamagedError, match=r"live\.log is damaged: .*; restore live.log and"):
                    read.extend(entry.change for entry in journal.since(0))
                assert read == [*CHANGES, LATER][: len(read)]
                with pytest.raises(StoreDamagedError):
                    journal.append([LATER])
                assert len(journal.problems()) == 1
            assert contents(root) == harmed

    @pytest.mark.parametrize("content", [b"", b"no journal at all" * 100, bytes(8192)])
    def test_other_files_are_refused(self, tmp_path: Path, content: bytes) -> None:
        put(tmp_path, dict.fromkeys(FILES, content))
        with Journal(tmp_path) as journal:
            for use in (journal.last, lambda: journal.append([LATER]), lambda: changes(journal)):
                with pytest.raises(StoreDamagedError, match=r"live\.log is damaged: its header"):
                    use()
        assert contents(tmp_path) == dict.fromkeys(FILES, content)

    def test_a_journal_of_a_newer_program_is_refused(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as newer:
            newer.setattr("shelfwise.retrieval.updates.journal_files.SCHEMA", 2)
            packed = JournalHeader(1, 0).pack()
        (root / JOURNAL).write_bytes(packed)
        with Journal(root) as journal, pytest.raises(StoreForeignError, match="schema 2, but this program reads 1"):
            journal.last()

    def test_changes_contained_in_a_version_are_not_required(self, root: Path) -> None:
        left = contents(root)
        put(root, {name: flipped(content, content.index(b"drill")) for name, content in left.items()})
        with Journal(root) as journal:
            assert changes(journal, 2) == [CHANGES[2], LATER]
            assert journal.last() == 4
            assert journal.append([LATER], above=2) == [5]
            assert journal.problems(above=2) == []
            assert len(journal.problems()) == 1
            assert journal.forget(2) == 2
            assert journal.problems() == []
            assert changes(journal, 2) == [CHANGES[2], LATER, LATER]

    def test_damage_is_not_copied_to_the_intact_copy(self, root: Path) -> None:
        left = contents(root)
        harmed = flipped(left[JOURNAL], left[JOURNAL].index(b"drill"))
        put(root, {JOURNAL: harmed, COPY: left[COPY][:-3]})
        with Journal(root) as journal:
            journal.append([LATER], above=2)
        assert_repaired(root, [*CHANGES, LATER, LATER])

    def test_truncation_of_both_copies_is_detected_by_readers(self, root: Path) -> None:
        with Journal(root) as journal:
            assert journal.last() == 4
            put(root, {name: content[:-30] for name, content in contents(root).items()})
            with pytest.raises(StoreDamagedError):
                journal.append([LATER])

    def test_sealed_lines_without_valid_changes_are_refused(self, root: Path) -> None:
        for name in FILES:
            with (root / name).open("ab") as file:
                file.write(pack_frame(5, 0, [b'{"type":"rename","id":"a"}']))
        with Journal(root) as journal:
            with pytest.raises(StoreDamagedError, match="change 5: a stored live change cannot be read"):
                changes(journal)
            assert len(journal.problems()) == 1


class TestKilledWriters:
    """Every state of the files after a kill, with every kind of damage to one of them."""

    def appended(self, root: Path) -> tuple[bytes, bytes]:
        before = (root / JOURNAL).read_bytes()
        with Journal(root) as journal:
            journal.append(OLD)
        return before, (root / JOURNAL).read_bytes()

    def test_append_is_atomic(self, root: Path) -> None:
        before, after = self.appended(root)
        sizes = [*range(len(before), len(after), 23), len(before) + HEAD_BYTES, len(after) - 1, len(after)]
        states = [(size, len(before)) for size in sizes] + [(len(after), size) for size in sizes]
        for first, second in states:
            put(root, {JOURNAL: after[:first], COPY: after[:second]})
            with Journal(root) as journal:
                assert journal.problems() == [], "a killed writer is no damage"
                found = changes(journal)
                assert found == (NEW if first == len(after) else OLD)
                assert journal.notices == ()
            assert_repaired(root, found)

    def test_damage_after_a_killed_writer_loses_no_change(self, root: Path) -> None:
        before, after = self.appended(root)
        middle = (len(before) + len(after)) // 2
        for first, second in ((middle, len(before)), (len(after), len(before)), (len(after), middle)):
            for harmed in itertools.islice(
                damaged_states({JOURNAL: after[:first], COPY: after[:second]}), None, None, 2
            ):
                put(root, harmed)
                with Journal(root) as journal:
                    found = changes(journal)
                assert found in (OLD, NEW)
                assert_repaired(root, found)

    def test_killed_pruning_is_atomic(self, root: Path) -> None:
        before = contents(root)[COPY]
        with Journal(root) as journal:
            journal.forget(1)
        after = contents(root)[JOURNAL]
        for harmed in ({JOURNAL: after, COPY: before}, *damaged_states({JOURNAL: after, COPY: before})):
            put(root, harmed)
            with Journal(root) as journal:
                assert changes(journal, 1) == [*CHANGES[1:], LATER]
                assert journal.append([LATER]) == [5]
                assert changes(journal, 1) == [*CHANGES[1:], LATER, LATER]
                assert journal.problems() == []

    def test_partially_created_journal_is_empty_and_valid(self, root: Path) -> None:
        put(root, {JOURNAL: contents(root)[JOURNAL][:HEADER_BYTES]})
        with Journal(root) as journal:
            assert journal.problems() == []
            assert changes(journal) == []
            assert journal.notices == ()
            assert journal.append([LATER]) == [1]


@given(
    steps=st.lists(st.sampled_from(("append", "append", "forget", "harm", "kill", "open")), max_size=25),
    seed=st.integers(0, 2**32),
)
def test_random_appends_prunings_kills_and_damage_lose_no_change(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], seed: int
) -> None:
    root = tmp_path_factory.mktemp("any")
    chance = random.Random(seed)
    there: dict[int, Change] = {}
    last = 0
    journal = Journal(root)
    for number, step in enumerate(steps):
        if step == "append":
            made: list[Change] = [Delete(f"{number} {place}") for place in range(chance.randint(1, 4))]
            there |= dict(zip(journal.append(made), made, strict=True))
            last += len(made)
        elif step == "forget":
            up_to = chance.randint(0, last)
            assert journal.forget(up_to) == sum(seq <= up_to for seq in there)
            there = {seq: change for seq, change in there.items() if seq > up_to}
        elif step == "open":
            journal = Journal(root)
        elif last and step == "harm":
            put(root, chance.choice(list(damaged_states(contents(root)))))
        elif last and kill(root, last + 1, chance):
            last += 1
            there[last] = UNFINISHED
        assert {entry.seq: entry.change for entry in journal.since(0)} == there
        assert journal.last() == last
        assert journal.problems() == []
    shutil.rmtree(root)


def kill(root: Path, seq: int, chance: random.Random) -> bool:
    """Appends a change like a killed writer; returns whether it was written completely, and so counts."""
    frame = pack_frame(seq, 0, [change_to_json(UNFINISHED)])
    kept = chance.choice((0, 7, len(frame) - 1, len(frame)))
    for name, size in ((JOURNAL, kept), (COPY, chance.randint(0, kept) if kept == len(frame) else 0)):
        with (root / name).open("ab") as file:
            file.write(frame[:size])
    return kept == len(frame)
