"""Static encoders: tables of token vectors."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from shelfwise.retrieval.encoders.base import unit_rows
from shelfwise.retrieval.encoders.registry import open_encoder
from shelfwise.retrieval.encoders.static import quantise_rows
from shelfwise.retrieval.errors import EncoderUnavailableError, SettingError
from tests.encoders import word_table

TEXTS = ("Bosch cordless drill 18V with case", "café press 1/2 in", "garden  hose", "无线电钻 18V 红色", "drill " * 300)
WEIGHTS = "model.safetensors"
RUNTIMES = ("static-fp32", "static-int8")


@pytest.fixture(scope="module")
def table(cache: Path) -> Path:
    return word_table(cache / "tests" / "table", cache)


@pytest.fixture
def copied(table: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(table, tmp_path / "copied"))


def test_vectors_equal_those_of_sentence_transformers(table: Path, cache: Path) -> None:
    from sentence_transformers import SentenceTransformer

    reference = np.asarray(SentenceTransformer(str(table), device="cpu").encode(list(TEXTS[:4])))
    exact, rounded = (open_encoder(str(table), each, cache).encode_products(TEXTS[:4]) for each in RUNTIMES)
    np.testing.assert_allclose(exact, unit_rows(reference), atol=1e-5)
    assert (exact * rounded).sum(axis=1).min() > 0.999


def test_vectors_are_cut_to_their_first_columns(table: Path, cache: Path) -> None:
    whole, cut = (open_encoder(str(table), "static-fp32", cache, dimension=each) for each in (None, 64))
    assert (cut.dimension, cut.identity != whole.identity) == (64, True)
    np.testing.assert_allclose(cut.encode_queries(TEXTS), unit_rows(whole.encode_queries(TEXTS)[:, :64]), atol=1e-6)
    with pytest.raises(SettingError, match="vectors of 385 columns were requested; the model has 384"):
        open_encoder(str(table), "auto", cache, dimension=385)


def test_rows_of_model2vec_are_shared_and_weighed(copied: Path, cache: Path) -> None:
    rows = load_file(copied / WEIGHTS)["embedding.weight"]
    mapping, weights = np.arange(len(rows))[::-1].copy(), np.linspace(0.5, 2, len(rows), dtype=np.float32)
    save_file({"embeddings": rows, "mapping": mapping, "weights": weights}, copied / WEIGHTS)
    found = open_encoder(str(copied), "static-fp32", cache).encode_queries(TEXTS)
    save_file({"embedding.weight": rows[mapping] * weights[:, None]}, copied / WEIGHTS)
    np.testing.assert_allclose(open_encoder(str(copied), "static-fp32", cache).encode_queries(TEXTS), found, atol=1e-6)


def test_rows_are_quantised_by_their_largest_value() -> None:
    rows = np.array([[1, -2, 0.5], [0, 0, 0], [1e-3, 0, 0]], np.float32)
    found, scales = quantise_rows(rows)
    assert found.tolist() == [[64, -127, 32], [0, 0, 0], [127, 0, 0]]
    np.testing.assert_allclose(found * scales[:, None], rows, atol=2 / 127 / 2)


def test_runtimes_of_networks_and_tables_are_not_mixed(table: Path, cache: Path) -> None:
    with pytest.raises(SettingError, match="is a table; its runtime is static-fp32 or static-int8, not 'torch'"):
        open_encoder(str(table), "torch", cache)
    with pytest.raises(SettingError, match="'static-int8' is for models that are a table"):
        open_encoder("all-MiniLM-L6-v2", "static-int8", cache)


def too_few_rows(folder: Path) -> None:
    save_file({"embedding.weight": load_file(folder / WEIGHTS)["embedding.weight"][:100]}, folder / WEIGHTS)


def more_behind(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 1, "name": "1", "path": "1_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / WEIGHTS).unlink(), "cannot be loaded (FileNotFoundError"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"{"), "cannot be loaded (SafetensorError"),
        (lambda folder: save_file({"other": np.zeros(3)}, folder / WEIGHTS), "(KeyError: 'embeddings'"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "tokenizer.json cannot be loaded"),
        (too_few_rows, "has a table of 100x384, and a tokenizer of 30,522 tokens"),
        (more_behind, "has sentence_transformers.models.Dense after its table"),
    ],
)
def test_a_damaged_model_is_named(damage: Callable[[Path], object], message: str, copied: Path, cache: Path) -> None:
    damage(copied)
    with pytest.raises(EncoderUnavailableError, match=re.escape(message)):
        open_encoder(str(copied), "auto", cache)


@pytest.mark.parametrize("name", ["table.npy", "scales.npy", "states.npy", "tokenizer.json"])
def test_a_damaged_stored_table_is_named(name: str, copied: Path, tmp_path: Path) -> None:
    encoder = open_encoder(str(copied), "auto", tmp_path / "cache")
    (tmp_path / "cache" / "onnx" / encoder.identity / name).write_bytes(b"damaged")
    with pytest.raises(EncoderUnavailableError, match=re.escape(name)):
        open_encoder(str(copied), "auto", tmp_path / "cache")
