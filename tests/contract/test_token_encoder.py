"""The contract of token encoders and their stored copies, for each runtime and each shipped model."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache as remembered
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from shelfwise.retrieval.encoders.base import (
    PROJECTED,
    PROJECTION_FILE,
    TokenEncoder,
    Tokens,
    as_token_encoder,
    sample_texts,
)
from shelfwise.retrieval.encoders.folder import TORCH_FOLDER
from shelfwise.retrieval.encoders.registry import LazyEncoder, load_encoder, open_encoder, store_encoder
from shelfwise.retrieval.encoders.weights import DEFAULT_CHINESE_MODEL, DEFAULT_MODEL, find_model
from tests.encoders import word_table

TABLE = "table"
RUNTIMES = ("onnx-int8", "onnx-fp32", "torch")
KINDS = (
    *((DEFAULT_MODEL, runtime) for runtime in RUNTIMES),
    (DEFAULT_CHINESE_MODEL, "onnx-int8"),
    (TABLE, "static-int8"),
    (TABLE, "static-fp32"),
)
TEXTS = (
    "Bosch cordless drill 18V with case",
    "",
    "无线电钻 18V 红色",
    "café press 1/2 in",
    "drill",
    " \n ",
    "[CLS] [SEP] </s>",
    "garden hose " * 200,
)
EXACT = {"onnx-int8": 0.0, "onnx-fp32": 1e-5, "torch": 1e-5, "static-int8": 0.0, "static-fp32": 0.0}
"""Largest difference of a vector between batches with other texts."""


def folder_of(name: str, cache: Path) -> str:
    return str(word_table(cache / "tests" / TABLE, cache)) if name == TABLE else name


@remembered
def opened(name: str, runtime: str, cache: Path) -> TokenEncoder:
    encoder = as_token_encoder(open_encoder(folder_of(name, cache), runtime, cache))
    assert encoder is not None
    return encoder


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def kind(request: pytest.FixtureRequest) -> tuple[str, str]:
    chosen: tuple[str, str] = request.param
    return chosen


@pytest.fixture(scope="module", params=["new", "stored"])
def encoder(
    kind: tuple[str, str], request: pytest.FixtureRequest, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TokenEncoder]:
    made = opened(*kind, cache)
    if request.param == "stored":
        again = as_token_encoder(LazyEncoder(store_encoder(made, tmp_path_factory.mktemp("stored") / made.identity)))
        assert again is not None
        assert (again.identity, again.state_dimension) == (made.identity, made.state_dimension)
        assert np.abs(again.encode_queries(TEXTS) - made.encode_queries(TEXTS)).max() <= EXACT[kind[1]]
        made = again
    yield made


@remembered
def tokenizer_of(name: str, cache: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(find_model(folder_of(name, cache), cache).folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def test_vectors_are_the_same_with_tokens_and_without(encoder: TokenEncoder, kind: tuple[str, str]) -> None:
    queries, products = encoder.encode_queries_with_tokens(TEXTS), encoder.encode_products_with_tokens(TEXTS)
    assert np.abs(queries[0] - encoder.encode_queries(TEXTS)).max() <= EXACT[kind[1]]
    assert np.abs(products[0] - encoder.encode_products(TEXTS)).max() <= EXACT[kind[1]]


def test_every_token_has_an_id_and_a_state_of_length_1(encoder: TokenEncoder) -> None:
    for _, tokens in (encoder.encode_queries_with_tokens(TEXTS), encoder.encode_products_with_tokens(TEXTS)):
        assert len(tokens) == len(TEXTS)
        for result in tokens:
            assert result.ids.dtype == np.int32
            assert result.states.dtype == np.float32
            assert result.states.shape == (len(result.ids), encoder.state_dimension)
            assert np.allclose(np.linalg.norm(result.states, axis=1), 1, atol=1e-5)
            assert (result.ids >= 0).all()
            assert (result.ids < encoder.vocabulary).all()
        assert 100 < len(tokens[-1].ids) <= 128, "a long text is cut"
    assert encoder.state_dimension == PROJECTED


def test_tokens_exclude_prompt_and_special_tokens(encoder: TokenEncoder, kind: tuple[str, str], cache: Path) -> None:
    tokenizer, texts = tokenizer_of(kind[0], cache), TEXTS[:5]
    (_, queries), (_, products) = encoder.encode_queries_with_tokens(texts), encoder.encode_products_with_tokens(texts)
    for text, query, product in zip(texts, queries, products, strict=True):
        alone = tokenizer.encode(text, add_special_tokens=False)
        # After a prompt, the blank before the first word belongs to the prompt.
        own = alone.ids[1:] if alone.tokens[:1] == ["▁"] else alone.ids
        assert query.ids.tolist() == product.ids.tolist() == own


def test_every_token_has_its_span(encoder: TokenEncoder) -> None:
    (_, queries), (_, products) = encoder.encode_queries_with_tokens(TEXTS), encoder.encode_products_with_tokens(TEXTS)
    for text, query, product in zip(TEXTS, queries, products, strict=True):
        for result, places in ((query, encoder.query_spans(text)), (product, encoder.product_spans(text))):
            assert places.ids.tolist() == result.ids.tolist()
            assert " ".join(text.split()).startswith(places.text)
            begins, ends = places.spans.T
            assert (begins < ends).all()
            assert (np.diff(begins) >= 0).all()
            assert (ends <= len(places.text)).all()
    stands = encoder.query_spans("Café  press 1/2")
    assert [stands.text[start:end].strip() for start, end in stands.spans] in (
        ["Café", "press", "1", "/", "2"],
        ["Café", "press", "1/2"],
    )


def test_progress_counts_every_text_once(encoder: TokenEncoder) -> None:
    steps: list[int] = []
    encoder.encode_products_with_tokens(TEXTS, steps.append)
    assert sum(steps) == len(TEXTS)
    vectors, tokens = encoder.encode_products_with_tokens([])
    assert (vectors.shape, tokens) == ((0, encoder.dimension), [])


@pytest.mark.parametrize(("runtime", "least"), [("onnx-fp32", 0.999), ("onnx-int8", 0.95)])
def test_runtimes_return_the_same_states(cache: Path, runtime: str, least: float) -> None:
    texts = [*TEXTS[:5], *sample_texts()[:40]]
    reference = opened(DEFAULT_MODEL, "torch", cache).encode_products_with_tokens(texts)[1]
    result = opened(DEFAULT_MODEL, runtime, cache).encode_products_with_tokens(texts)[1]
    cosines = []
    for one, other in zip(reference, result, strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        cosines.append((one.states * other.states).sum(axis=1))
    assert np.concatenate(cosines).mean() > least
    assert np.quantile(np.concatenate(cosines), 0.01) > 2 * least - 1


def test_int8_states_do_not_depend_on_the_batch(cache: Path) -> None:
    encoder = opened(DEFAULT_MODEL, "onnx-int8", cache)
    together = encoder.encode_products_with_tokens(TEXTS)[1]
    for text, result in zip(TEXTS, together, strict=True):
        (alone,) = encoder.encode_products_with_tokens([text])[1]
        assert np.array_equal(alone.states, result.states)


def test_a_word_is_nearer_to_itself_elsewhere_than_to_other_words(cache: Path) -> None:
    encoder = opened(DEFAULT_CHINESE_MODEL, "onnx-int8", cache)
    query, product, other = encoder.encode_products_with_tokens(["电钻", "博世 电钻 18V 红色", "不锈钢保温杯"])[1]
    narrow = [result.narrowed(96) for result in (query, product, other)]
    for one, same, else_ in ((query, product, other), narrow):
        assert (one.states @ same.states.T).max(axis=1).mean() > (one.states @ else_.states.T).max(axis=1).mean()


def test_narrowed_states_are_the_first_columns_at_length_1() -> None:
    tokens = Tokens(np.array([7], np.int32), np.array([[0.6, 0.0, 0.8]], np.float32))
    assert tokens.narrowed(2).states.tolist() == [[1, 0]]
    assert tokens.narrowed(2).ids is tokens.ids
    assert tokens.narrowed(3) is tokens.narrowed(4) is tokens


def test_a_stored_torch_encoder_keeps_its_projection(cache: Path, tmp_path: Path) -> None:
    made = opened(DEFAULT_MODEL, "torch", cache)
    folder = store_encoder(made, tmp_path / "stored")
    projection = np.load(folder / TORCH_FOLDER / PROJECTION_FILE)
    assert projection.shape == (384, PROJECTED)
    assert np.allclose(projection.T @ projection, np.eye(PROJECTED), atol=1e-5)
    np.save(folder / TORCH_FOLDER / PROJECTION_FILE, np.ascontiguousarray(projection[:, ::-1]))
    turned = as_token_encoder(load_encoder(folder))
    assert turned is not None
    one, other = (each.encode_queries_with_tokens(["drill"])[1][0].states for each in (made, turned))
    assert np.allclose(one[:, ::-1], other, atol=1e-5)
