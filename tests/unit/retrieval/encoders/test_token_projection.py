from __future__ import annotations

import configparser
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from retrieval.encoders.torch import PROJECTED, PROJECTION_FILE, principal_directions, sample_texts, stored_projection

HIDDEN = 160


def drawn(count: int, seed: int = 0) -> NDArray[np.float32]:
    """States whose columns weigh less and less (count, HIDDEN)."""
    states = np.random.default_rng(seed).normal(size=(count, HIDDEN)) * np.linspace(3, 0.01, HIDDEN)
    return np.asarray(states, dtype=np.float32)


def test_directions_are_orthonormal_and_ordered_by_what_they_keep() -> None:
    states = drawn(2_000)
    directions = principal_directions([states])
    assert directions.shape == (HIDDEN, PROJECTED)
    assert directions.dtype == np.float32
    assert np.allclose(directions.T @ directions, np.eye(PROJECTED), atol=1e-5)
    kept = ((states @ directions) ** 2).sum(axis=0)
    assert (np.diff(kept) <= 1e-3 * kept[0]).all()
    assert kept.sum() > 0.95 * (states**2).sum()


def test_directions_do_not_depend_on_how_the_states_come_in_pieces() -> None:
    states = drawn(500)
    pieces = principal_directions([states[:100], states[100:130], states[130:]])
    assert np.allclose(principal_directions([states]), pieces, atol=1e-4)


def test_signs_are_settled() -> None:
    directions = principal_directions([drawn(500)])
    largest = np.abs(directions).argmax(axis=0)
    assert (directions[largest, np.arange(PROJECTED)] > 0).all()


def test_a_small_model_keeps_all_its_columns() -> None:
    assert principal_directions([drawn(100)[:, :16]]).shape == (16, 16)


def test_a_projection_beside_the_weights_is_taken_only_where_it_fits(tmp_path: Path) -> None:
    assert stored_projection(tmp_path, HIDDEN) is None
    made = principal_directions([drawn(500)])
    np.save(tmp_path / PROJECTION_FILE, made)
    found = stored_projection(tmp_path, HIDDEN)
    assert found is not None
    assert np.array_equal(found, made)
    assert stored_projection(tmp_path, HIDDEN + 1) is None


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"garbage"])
def test_a_damaged_projection_is_found_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / PROJECTION_FILE).write_bytes(content)
    assert stored_projection(tmp_path, HIDDEN) is None


def test_the_sample_is_in_two_languages_and_ships() -> None:
    texts = sample_texts()
    chinese = [text for text in texts if any("\u4e00" <= character <= "\u9fff" for character in text)]
    assert len(texts) >= 500
    assert 50 < len(chinese) < len(texts) // 2
    assert all(text.strip() for text in texts)
    settings = configparser.ConfigParser()
    settings.read(Path(__file__).parents[4] / "setup.cfg", "utf-8")
    assert "*.txt" in settings["options.package_data"]["retrieval.encoders"].split()
