"""Pseudonyms: nobody is told from them without the keys, one shopper has one for each key, and keys come and go."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from retrieval.errors import StoreDamagedError, StoreError
from retrieval.events.privacy import Pseudonyms, key_name


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events" / "keys.json"


def test_one_shopper_has_one_pseudonym_that_tells_nothing(path: Path) -> None:
    pseudonyms = Pseudonyms(path)
    first = pseudonyms.shopper("jo.do@example.com")
    assert first == pseudonyms.shopper("jo.do@example.com") == Pseudonyms(path).shopper("jo.do@example.com")
    assert first != pseudonyms.shopper("jo.di@example.com")
    assert "jo" not in first.removeprefix("k1~").lower()[:2] or "example" not in first
    assert len(first) == len("k1~") + 22  # 16 bytes in base64


def test_a_session_and_a_shopper_of_one_name_are_told_apart(path: Path) -> None:
    pseudonyms = Pseudonyms(path)
    assert pseudonyms.session("17") != pseudonyms.shopper("17")


def test_nobody_stays_nobody(path: Path) -> None:
    pseudonyms = Pseudonyms(path)
    assert pseudonyms.shopper("") == pseudonyms.session("") == ""


def test_another_store_makes_other_pseudonyms(path: Path, tmp_path: Path) -> None:
    assert Pseudonyms(path).shopper("u1") != Pseudonyms(tmp_path / "other.json").shopper("u1")


def test_only_the_owner_may_read_the_keys(path: Path) -> None:
    pseudonyms = Pseudonyms(path)
    pseudonyms.rotate()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_rotation_reaches_others_and_old_pseudonyms_are_still_found(path: Path) -> None:
    here, there = Pseudonyms(path), Pseudonyms(path)
    before = here.shopper("u1")
    assert here.rotate() == "k2"
    there.reload_if_changed()
    after = there.shopper("u1")
    assert key_name(before) == "k1"
    assert key_name(after) == "k2"
    assert here.all_pseudonyms("u1") == there.all_pseudonyms("u1") == (before, after)


def test_an_event_that_is_sent_again_after_a_rotation_has_the_same_key(path: Path) -> None:
    pseudonyms = Pseudonyms(path)
    key = pseudonyms.key("e1")
    pseudonyms.rotate()
    assert pseudonyms.key("e1") == key
    assert pseudonyms.key("e2") != key


def test_a_key_that_nothing_is_under_is_retired_but_never_the_newest(path: Path) -> None:
    pseudonyms = Pseudonyms(path)
    pseudonyms.rotate()
    pseudonyms.rotate()
    later = datetime.now(UTC) + timedelta(seconds=1)
    assert pseudonyms.retire({"k1"}, later) == ("k2",)
    assert pseudonyms.names == ("k1", "k3")
    assert pseudonyms.retire(set(), later) == ("k1",)
    assert pseudonyms.names == Pseudonyms(path).names == ("k3",)
    assert pseudonyms.rotate() == "k4"


def test_a_key_that_was_replaced_just_now_stays(path: Path) -> None:
    pseudonyms = Pseudonyms(path)
    pseudonyms.rotate()
    assert pseudonyms.retire(set(), datetime.now(UTC) - timedelta(days=1)) == ()


def test_keys_that_are_not_there_are_made_only_where_they_may_be(path: Path) -> None:
    with pytest.raises(StoreError, match="restore them"):
        Pseudonyms(path, make=False)
    assert not path.exists()


def test_what_a_killed_rotation_left_is_removed(path: Path) -> None:
    pseudonyms = Pseudonyms(path)
    (path.parent / ".keys.json.new").write_bytes(b"secrets")
    pseudonyms.rotate()
    assert [each.name for each in path.parent.iterdir()] == ["keys.json"]


def test_many_that_begin_at_once_agree_on_one_key(path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: Pseudonyms(path).shopper("u1"), range(8)))
    assert len(set(made)) == 1
    assert [each.name for each in path.parent.iterdir()] == ["keys.json"]


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"salt":"", "keys":[]}', b"\xff"])
def test_damaged_keys_are_refused_by_name(path: Path, content: bytes) -> None:
    Pseudonyms(path)
    path.write_bytes(content)
    with pytest.raises(StoreDamagedError, match=r"keys\.json"):
        Pseudonyms(path)


def test_keys_that_cannot_be_made_say_where(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be made"):
        Pseudonyms(tmp_path / "file" / "keys.json")
