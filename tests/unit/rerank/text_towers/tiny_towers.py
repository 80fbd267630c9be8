"""A small store whose queries use other words than its products, and an encoder with random weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import BertModel

from shelfwise.indexer.build import RebuildOptions, rebuild
from shelfwise.rerank.text_towers.dataset import JudgedQuery, Opinion, Rows, TowerDataset, TowerSources, build_dataset
from shelfwise.rerank.text_towers.task import NegativeOptions, RetrievedProducts, TextTowerOptions
from shelfwise.retrieval.records import Product
from tests.catalogs import write_feed
from tests.encoders import SPECIAL, tiny_bert, tiny_tokenizer

QUERY_WORDS = ("bulb", "tap", "sofa", "rug", "saw", "mug", "shoe", "pan", "pen", "bag")
PRODUCT_WORDS = ("lamp", "faucet", "couch", "carpet", "blade", "cup", "boot", "skillet", "marker", "pack")
COLOURS = ("red", "blue", "green", "black", "white", "grey")
SIZES = ("small", "large")
PRODUCTS = [
    Product(f"p{number:03}", f"{colour} {called} {size}")
    for number, (called, colour, size) in enumerate(
        (called, colour, size) for called in PRODUCT_WORDS for colour in COLOURS for size in SIZES
    )
]

NEGATIVES = NegativeOptions(1, 20, 100)
TRAINING = TextTowerOptions(epochs=3, batch=32, learning_rate=5e-3, max_length=16, negatives=NEGATIVES)
"""Options with which an encoder of random weights learns the store's texts."""


def make_encoder(folder: Path, *, layers: int = 2, dropout: float = 0.1, words: float = 1.0) -> Path:
    """Writes an encoder of random weights, the same on every run, whose tokens are the store's words.

    Its random word vectors separate texts without common words; the smaller `words` is, the less they do."""
    torch.manual_seed(5)
    names = [*SPECIAL, *QUERY_WORDS, *PRODUCT_WORDS, *COLOURS, *SIZES, *"abcdefghijklmnopqrstuvwxyz", *"0123456789"]
    raw = folder.with_name(f"{folder.name}-raw")
    dropouts = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    model = BertModel(tiny_bert(names, 32, layers, **dropouts))
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.mul_(words)
    model.save_pretrained(raw)
    tiny_tokenizer(names, 32).save_pretrained(raw)
    body = Transformer(str(raw), max_seq_length=16)
    SentenceTransformer(modules=[body, Pooling(32, "mean")], device="cpu").save(str(folder), create_model_card=False)
    return folder


def make_index(
    folder: Path, cache: Path, runtime: str = "onnx-fp32", products: Sequence[Product] = PRODUCTS, encoder: str = "{}"
) -> Path:
    """An index with the encoder of this name; {} is the folder of the one with random weights."""
    feed, named = write_feed(folder / "feed.jsonl", products), encoder.format(make_encoder(folder / "tiny"))
    rebuild(folder / "index", RebuildOptions((str(feed),), cache, encoder=named, runtime=runtime))
    return folder / "index"


def write_judgments(path: Path, queries: Iterable[JudgedQuery], *more: str) -> None:
    lines = [f"{each.query}\t{name}\t{opinion.gain:g}" for each in queries for name, opinion in each.opinions.items()]
    path.write_text("\n".join(["query\tproduct_id\tgrade", *lines, *more]))


def irrelevant_lines(product: Product, queries: Iterable[JudgedQuery]) -> list[str]:
    """Lines of a judgments file that grade a product 0 for all of these queries without a judgment of it."""
    return [f"{each.query}\t{product.id}\t0" for each in queries if product.id not in each.opinions]


def judged(*, words: tuple[str, ...] = QUERY_WORDS) -> list[JudgedQuery]:
    called = dict(zip(QUERY_WORDS, PRODUCT_WORDS, strict=True))
    return [JudgedQuery(f"{each} {word}", _opinions(called[word], each)) for word in words for each in COLOURS]


def every_query() -> list[JudgedQuery]:
    made = []
    for asked, called in zip(QUERY_WORDS, PRODUCT_WORDS, strict=True):
        for colour in COLOURS:
            for size in SIZES:
                right = next(each.id for each in PRODUCTS if each.title == f"{colour} {called} {size}")
                orders = (f"{colour} {asked} {size}", f"{size} {colour} {asked}", f"{asked} {size} {colour}")
                made += [JudgedQuery(query, {right: Opinion(1.0)}) for query in orders]
    return made


def row_of(product_id: str) -> int | None:
    number = int(product_id[1:])
    return number if number < len(PRODUCTS) else None


@cache
def shop() -> TowerDataset:
    return build_dataset(TowerSources(judged(), share=0.2), row_of, seed=1)


def random_retrieval() -> RetrievedProducts:
    def ranked(seed: int) -> list[Rows]:
        return [np.random.default_rng([seed, at]).permutation(len(PRODUCTS)) for at in range(len(shop().queries))]

    return RetrievedProducts(ranked(1), ranked(2))


def _opinions(called: str, colour: str) -> dict[str, Opinion]:
    other = COLOURS[COLOURS.index(colour) - 1]
    fits = {each.id: Opinion(1.0) for each in PRODUCTS if each.title.startswith(f"{colour} {called} ")}
    return fits | {each.id: Opinion(0.1, 0.1) for each in PRODUCTS if each.title.startswith(f"{other} {called} ")}
