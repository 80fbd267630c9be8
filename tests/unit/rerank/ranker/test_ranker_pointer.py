"""The pointer to the ranker that serves: nothing but a ranker's name, or "off", is ever read from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rerank.model_store import RankerPointer
from retrieval.errors import ModelDamagedError
from retrieval.store.manifest import CURRENT


def test_what_is_written_is_read(tmp_path: Path) -> None:
    pointer = RankerPointer(tmp_path)
    assert pointer.read() == ""
    assert not pointer.is_off()
    pointer.write("ranker-0012")
    assert pointer.read() == "ranker-0012"
    before = pointer.stamp()
    pointer.write("")
    assert pointer.read() == ""
    assert pointer.is_off()
    assert pointer.stamp() != before


def test_a_person_may_write_a_name_without_a_checksum(tmp_path: Path) -> None:
    (tmp_path / CURRENT).write_text("ranker-0003\n")
    assert RankerPointer(tmp_path).read() == "ranker-0003"


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\n",
        b"ranker-1",
        b"ranker-0001/../../etc",
        b"../ranker-0001",
        b"ranker-0001 0000000000000000",
        b"of",
        b"off 0000000000000000",
        b"\x00\xff\xfe" * 40,
        b"ranker-0001 " * 1_000_000,
        "ranker-٠٠٠١".encode(),
    ],
    ids=range(11),
)
def test_anything_else_is_refused_with_the_cure(tmp_path: Path, said: bytes) -> None:
    (tmp_path / CURRENT).write_bytes(said)
    pointer = RankerPointer(tmp_path)
    with pytest.raises(
        ModelDamagedError, match=r"CURRENT names no ranker, it says .*: shelfwise models rollback"
    ) as told:
        pointer.read()
    assert len(str(told.value)) < 1_000
    assert pointer.readable() == ""
    assert not pointer.is_off()


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / CURRENT).mkdir()
    with pytest.raises(ModelDamagedError, match="cannot be read"):
        RankerPointer(tmp_path).read()


def test_a_flipped_bit_is_never_read_as_another_ranker(tmp_path: Path) -> None:
    pointer = RankerPointer(tmp_path)
    pointer.write("ranker-0001")
    whole = (tmp_path / CURRENT).read_bytes()
    for place in range(len(whole) - 1):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << bit
            (tmp_path / CURRENT).write_bytes(bytes(flipped))
            assert pointer.readable() in ("", "ranker-0001")
