from __future__ import annotations

from pathlib import Path

import pytest

from retrieval.encoders.folder import folder_fingerprint, identity_of, read_spec
from retrieval.errors import EncoderUnavailableError
from retrieval.store.files import atomic_folder


def test_whole_folder_appears_complete(tmp_path: Path) -> None:
    target = tmp_path / "models" / "one"
    with atomic_folder(target) as scratch:
        (scratch / "a").write_text("1")
        assert not target.exists()
    assert [path.name for path in target.iterdir()] == ["a"]
    assert [path.name for path in target.parent.iterdir()] == ["one"]


def test_whole_folder_leaves_nothing_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "one"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_whole_folder_keeps_what_a_faster_process_wrote(tmp_path: Path) -> None:
    target = tmp_path / "one"
    with atomic_folder(target) as scratch:
        (scratch / "a").write_text("ours")
        target.mkdir()
        (target / "a").write_text("theirs")
    assert (target / "a").read_text() == "theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_fingerprint_covers_names_and_contents_but_no_readme(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    first = folder_fingerprint(tmp_path)
    (tmp_path / "README.md").write_text("words")
    assert folder_fingerprint(tmp_path) == first
    (tmp_path / "model.safetensors").write_bytes(b"weightz")
    assert folder_fingerprint(tmp_path) != first


def test_identity_is_a_folder_name_and_tells_runtimes_and_lengths_apart() -> None:
    one = identity_of("org/model 中", "f", "torch", 64)
    assert "/" not in one
    assert one.isascii()
    assert (
        len({one, identity_of("org/model 中", "f", "onnx-int8", 64), identity_of("org/model 中", "f", "torch", 128)})
        == 3
    )


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"format": "x"}', b"\xff"])
def test_an_unreadable_spec_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "encoder.json").write_bytes(content)
    with pytest.raises(EncoderUnavailableError, match=r"encoder\.json"):
        read_spec(tmp_path)
