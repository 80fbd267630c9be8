"""The journal of live changes: durable, numbered, and shared."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from retrieval.errors import ChangeError, StoreError, StoreLockedError
from retrieval.records import Product
from retrieval.updates.changes import Change, Delete, Patch, Upsert, change_to_json
from retrieval.updates.journal import Journal, lock_folder
from retrieval.updates.journal_files import COPY, JOURNAL, pack_frame

CHANGES: tuple[Change, ...] = (Upsert(Product("a", "drill", price=9.5)), Patch("a", {"price": 8.0}), Delete("b"))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path) as opened:
        yield opened


def seqs(journal: Journal, since: int = 0) -> list[int]:
    return [entry.seq for entry in journal.since(since)]


class TestAppending:
    def test_changes_come_back_in_their_order_with_their_numbers(self, journal: Journal) -> None:
        assert journal.append(CHANGES) == [1, 2, 3]
        assert journal.append([Delete("c")]) == [4]
        assert [entry.change for entry in journal.since(0)] == [*CHANGES, Delete("c")]
        assert seqs(journal, 2) == [3, 4]
        assert seqs(journal, 4) == []
        assert journal.last() == 4

    def test_an_entry_says_when_its_change_was_taken(self, tmp_path: Path) -> None:
        moment = datetime(2026, 1, 31, 12, 0, 0, 5, UTC)
        with Journal(tmp_path, clock=lambda: moment) as journal:
            journal.append(CHANGES)
            assert {entry.at for entry in journal.since(0)} == {moment}

    def test_one_unsound_change_lets_none_be_taken(self, journal: Journal) -> None:
        with pytest.raises(ChangeError, match="product 'a': price is -1"):
            journal.append([*CHANGES, Patch("a", {"price": -1})])
        assert journal.last() == 0
        assert seqs(journal) == []

    def test_no_changes_need_no_file(self, journal: Journal, tmp_path: Path) -> None:
        assert journal.append([]) == []
        assert not list(tmp_path.iterdir())

    def test_more_than_can_be_taken_at_once_is_refused_whole(
        self, journal: Journal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("retrieval.updates.journal.MAX_CALL_BYTES", 60)
        with pytest.raises(ChangeError, match="take more than 60 bytes; give them in several"):
            journal.append([Delete("a"), Delete("b"), Delete("c")])
        assert journal.append([Delete("a")]) == [1]

    def test_another_journal_of_the_same_store_sees_them_at_once(self, journal: Journal, tmp_path: Path) -> None:
        with Journal(tmp_path) as other:
            assert seqs(other) == []
            journal.append(CHANGES)
            assert seqs(other) == [1, 2, 3]
            assert other.append([Delete("c")]) == [4]
            assert seqs(journal) == [1, 2, 3, 4]

    def test_more_than_a_batch_is_read_whole_while_others_write(self, journal: Journal) -> None:
        journal.append([Delete(f"p{place}") for place in range(2_500)])
        found = journal.since(0)
        first = next(found)
        assert journal.append([Delete("last")]) == [2_501]
        assert [first.seq, *(entry.seq for entry in found)] == list(range(1, 2_502))

    def test_long_changes_are_read_whole(self, journal: Journal) -> None:
        journal.append([Upsert(Product(f"p{place}", "long", "x" * 900_000)) for place in range(7)])
        assert seqs(journal) == [1, 2, 3, 4, 5, 6, 7]

    def test_many_threads_get_numbers_of_their_own(self, journal: Journal) -> None:
        given: list[int] = []
        seen: list[bool] = []

        def work(name: int) -> None:
            for place in range(20):
                own = journal.append([Delete(f"{name}-{place}"), Delete("x")])
                given.extend(own)
                seen.append(seqs(journal)[-1] >= own[-1])

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(given) == seqs(journal) == list(range(1, 161))
        assert len(seen) == 80
        assert all(seen)

    def test_a_closed_journal_refuses(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path)
        journal.append(CHANGES)
        journal.close()
        with pytest.raises(StoreError, match="is closed"):
            journal.append(CHANGES)
        with pytest.raises(StoreError, match="is closed"):
            journal.last()


class TestForgetting:
    def test_numbers_are_not_given_again(self, journal: Journal, tmp_path: Path) -> None:
        journal.append(CHANGES)
        assert journal.forget(2) == 2
        assert seqs(journal) == [3]
        assert journal.forget(10) == 1
        assert seqs(journal) == []
        assert journal.last() == 3
        with Journal(tmp_path) as other:
            assert other.append([Delete("c")]) == [4]
            assert seqs(other) == [4]

    def test_without_a_journal_nothing_is_made(self, journal: Journal, tmp_path: Path) -> None:
        assert journal.forget(5) == 0
        assert not list(tmp_path.iterdir())

    def test_a_lost_journal_does_not_begin_below_what_a_version_holds(self, journal: Journal) -> None:
        assert journal.append(CHANGES, above=57) == [58, 59, 60]
        assert seqs(journal, 57) == [58, 59, 60]
        assert journal.append([Delete("c")], above=57) == [61]

    def test_an_older_copy_of_a_journal_goes_on_behind_the_version(self, journal: Journal) -> None:
        journal.append(CHANGES)
        assert journal.append([Delete("c")], above=57) == [58]
        assert seqs(journal) == [58]

    def test_the_room_is_given_back(self, journal: Journal, tmp_path: Path) -> None:
        journal.append([Upsert(Product(f"p{place}", "long", "x" * 9_000)) for place in range(1_000)])
        journal.forget(1_000)
        journal.close()
        assert (tmp_path / JOURNAL).stat().st_size < 100
        assert (tmp_path / COPY).stat().st_size < 100

    def test_an_append_may_be_forgotten_in_part(self, journal: Journal) -> None:
        journal.append([Delete("a"), Delete("b"), Delete("c")])
        journal.forget(2)
        assert [(entry.seq, entry.change) for entry in journal.since(0)] == [(3, Delete("c"))]

    def test_who_reads_meanwhile_misses_nothing(self, journal: Journal, tmp_path: Path) -> None:
        for name in ("a", "b", "c"):
            journal.append([Delete(name)])
        journal.append([Delete(f"p{place}") for place in range(2_000)])
        found = journal.since(0)
        first = next(found).seq
        with Journal(tmp_path) as other:
            other.forget(2)
            other.append([Delete("last")])
        assert [first, *(entry.seq for entry in found)][-1] == 2_004

    def test_who_could_write_before_still_can(self, journal: Journal, tmp_path: Path) -> None:
        journal.append(CHANGES)
        for name in (JOURNAL, COPY):
            (tmp_path / name).chmod(0o664)
        journal.forget(1)
        assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in (JOURNAL, COPY)} == {0o664}


class TestLookingForChanges:
    def test_the_stamp_moves_with_every_append_of_anybody_and_stays_without(
        self, journal: Journal, tmp_path: Path
    ) -> None:
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

    def test_looking_makes_no_file(self, journal: Journal, tmp_path: Path) -> None:
        assert journal.changed_stamp() == (0, 0)
        assert journal.last() == 0
        assert journal.problems() == []
        assert not list(tmp_path.iterdir())

    def test_a_journal_that_took_the_place_of_another_is_seen(self, journal: Journal, tmp_path: Path) -> None:
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


class TestStoresThatMayOnlyBeRead:
    """Root may write anywhere, so there the program that reads gives that right up."""

    READ = """
import sys
from pathlib import Path
from retrieval.errors import StoreError
from retrieval.updates.journal import Journal
from retrieval.updates.changes import Delete
with Journal(Path(sys.argv[1])) as journal:
    try:
        print(journal.last(), [entry.seq for entry in journal.since(0)], journal.changed_stamp() == (0, 0))
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

    def test_without_a_journal_there_are_no_changes_and_none_can_be_taken(self, tmp_path: Path) -> None:
        first, second, notices = self.read(tmp_path)
        assert first == "0 [] True"
        assert "live.log cannot be made (Permission denied)" in second
        assert notices == "()"

    def test_a_journal_is_read_and_takes_nothing(self, tmp_path: Path) -> None:
        with Journal(tmp_path) as journal:
            journal.append(CHANGES)
            for name in (JOURNAL, COPY):
                (tmp_path / name).chmod(0o444)
            first, second, notices = self.read(tmp_path)
        assert first == "3 [1, 2, 3] False"
        assert "live.log cannot be written to (Permission denied); the change is not taken" in second
        assert notices == "()"

    @pytest.mark.parametrize("name", [JOURNAL, COPY])
    def test_a_damaged_copy_is_told_and_the_other_is_read(self, tmp_path: Path, name: str) -> None:
        with Journal(tmp_path) as journal:
            journal.append(CHANGES)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content.replace(b"drill", b"dr1ll"))
        first, second, notices = self.read(tmp_path)
        assert first == "3 [1, 2, 3] False"
        assert "cannot be mended (Permission denied); the change is not taken" in second
        assert f"{name} is damaged: changes 1 to 3 have another checksum" in notices
        assert "cannot be written anew (Permission denied)" in notices

    @pytest.mark.parametrize("name", [JOURNAL, COPY])
    def test_a_copy_that_may_not_be_read_is_told_too(self, tmp_path: Path, name: str) -> None:
        with Journal(tmp_path) as journal:
            journal.append(CHANGES)
        (tmp_path / name).chmod(0)
        first, _, notices = self.read(tmp_path)
        assert first == "3 [1, 2, 3] False"
        assert f"{name} is damaged: it cannot be read (Permission denied)" in notices

    def test_files_that_may_not_be_read_are_not_called_damaged(self, tmp_path: Path) -> None:
        with Journal(tmp_path) as journal:
            journal.append(CHANGES)
        for name in (JOURNAL, COPY):
            (tmp_path / name).chmod(0)
        assert "it cannot be read (Permission denied); mind the rights to it" in self.read(tmp_path)[0]


class TestWaiting:
    def test_who_reads_hardly_waits_for_a_writer_whose_change_is_not_taken_yet(
        self, journal: Journal, tmp_path: Path
    ) -> None:
        journal.append(CHANGES)
        whole = (tmp_path / JOURNAL).read_bytes()
        with lock_folder(tmp_path, 1), (tmp_path / JOURNAL).open("ab") as file:
            file.write(pack_frame(4, 0, [change_to_json(Delete("c"))]))
            file.flush()
            assert seqs(journal) == [1, 2, 3]
        assert seqs(journal) == [1, 2, 3, 4], "its writer was killed, so it is there in part, and is made whole"
        assert (tmp_path / COPY).read_bytes()[: len(whole)] == whole

    def test_who_writes_for_too_long_is_not_waited_for(
        self, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("retrieval.updates.journal._WAIT_SECONDS", 0.05)
        journal.append(CHANGES)
        with lock_folder(tmp_path, 1), pytest.raises(StoreLockedError, match=r"by another process for 0\.05 s"):
            journal.append(CHANGES)
        assert journal.append(CHANGES) == [4, 5, 6]
