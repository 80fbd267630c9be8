from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval.encoders.base import Encoder
from retrieval.encoders.registry import load_encoder, store_encoder
from retrieval.errors import EncoderUnavailableError, StoreError
from tests.machine import full_disk
from tests.unit.retrieval.encoders.encoder_texts import product_texts

HOSTILE = [
    "",
    " ",
    "\x00",
    "\ud800",
    "🤷" * 500,
    "a" * 1_000_000,
    "\u202e\u0301",
    "[CLS] [SEP] [PAD]",
    "<s></s>",
    "!" * 50,
]


def test_int8_vectors_do_not_depend_on_what_is_encoded_beside_them(minilm_int8: Encoder) -> None:
    texts = product_texts(120)
    together = minilm_int8.encode_products(texts)
    backwards = minilm_int8.encode_products(texts[::-1])[::-1]
    alone = np.vstack([minilm_int8.encode_products([text]) for text in texts])
    assert np.array_equal(together, backwards)
    assert np.array_equal(together, alone)


def test_fp32_vectors_hardly_depend_on_what_is_encoded_beside_them(minilm_fp32: Encoder) -> None:
    texts = product_texts(60)
    alone = np.vstack([minilm_fp32.encode_products([text]) for text in texts])
    assert np.allclose(minilm_fp32.encode_products(texts), alone, atol=1e-5)


def test_hostile_texts_give_unit_vectors(minilm_int8: Encoder) -> None:
    for vectors in (minilm_int8.encode_queries(HOSTILE), minilm_int8.encode_products(HOSTILE)):
        assert vectors.shape == (len(HOSTILE), minilm_int8.dimension)
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(st.characters(), max_size=60), max_size=4))
def test_any_unicode_gives_unit_vectors(minilm_int8: Encoder, texts: list[str]) -> None:
    vectors = minilm_int8.encode_products(texts)
    assert vectors.shape == (len(texts), minilm_int8.dimension)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_progress_counts_every_text_once(minilm_int8: Encoder) -> None:
    steps: list[int] = []
    minilm_int8.encode_products(product_texts(50), steps.append)
    assert sum(steps) == 50


def test_a_stored_encoder_gives_the_same_vectors(minilm_int8: Encoder, tmp_path: Path) -> None:
    folder = store_encoder(minilm_int8, tmp_path / "encoders" / minilm_int8.identity)
    again = load_encoder(folder)
    assert again.identity == minilm_int8.identity
    texts = product_texts(5)
    assert np.array_equal(again.encode_queries(texts), minilm_int8.encode_queries(texts))
    assert store_encoder(minilm_int8, folder) == folder


def test_on_a_full_disk_an_encoder_is_not_stored_in_part(minilm_int8: Encoder, tmp_path: Path) -> None:
    with full_disk(room=1_000), pytest.raises(StoreError, match=r"cannot be stored as .*File too large.*; see to the"):
        store_encoder(minilm_int8, tmp_path / "encoders" / "one")
    assert list((tmp_path / "encoders").iterdir()) == []


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "encoder.json"])
@pytest.mark.parametrize("damage", ["missing", "short"])
def test_a_damaged_folder_is_refused_by_the_file(minilm_int8: Encoder, tmp_path: Path, name: str, damage: str) -> None:
    folder = store_encoder(minilm_int8, tmp_path / "stored")
    path = folder / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(EncoderUnavailableError, match=name):
        load_encoder(folder)


def test_a_graph_of_another_dimension_is_refused(minilm_int8: Encoder, tmp_path: Path) -> None:
    folder = store_encoder(minilm_int8, tmp_path / "stored")
    spec = folder / "encoder.json"
    spec.write_text(spec.read_text().replace("384", "512"))
    with pytest.raises(EncoderUnavailableError, match=r"dimension 384.*512"):
        load_encoder(folder)


def test_serving_imports_neither_torch_nor_transformers(minilm_int8: Encoder, tmp_path: Path) -> None:
    folder = store_encoder(minilm_int8, tmp_path / "stored")
    program = (
        "import sys, pathlib; from retrieval.encoders.registry import load_encoder;"
        f"load_encoder(pathlib.Path({str(folder)!r})).encode_queries(['drill']);"
        "print([name for name in ('torch', 'transformers', 'sentence_transformers', 'onnx') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
