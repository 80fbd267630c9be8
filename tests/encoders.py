"""A small tokenizer, model configuration and token table for tests, and an encoder whose runtime fails."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, PreTrainedTokenizerFast

from shelfwise.retrieval.encoders.folder import TOKENIZER_FILE
from shelfwise.retrieval.encoders.weights import DEFAULT_MODEL, MODULES_FILE, find_model
from shelfwise.retrieval.errors import EncoderError
from shelfwise.retrieval.store.files import atomic_folder
from shelfwise.service.engine.engine import SearchEngine

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Special tokens, which come first in the vocabulary."""


def tiny_tokenizer(names: Sequence[str], length: int, *inputs: str) -> PreTrainedTokenizerFast:
    """A tokenizer like BERT's for texts of `length` tokens; `inputs` are the model's, by default ids and mask."""
    numbers = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", numbers["[CLS]"]), ("[SEP]", numbers["[SEP]"])],
    )
    wrapped: Callable[..., PreTrainedTokenizerFast] = PreTrainedTokenizerFast
    return wrapped(
        tokenizer_object=tokenizer,
        model_max_length=length,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        **({"model_input_names": list(inputs)} if inputs else {}),
    )


def tiny_bert(names: Sequence[str], length: int, layers: int, **values: float) -> BertConfig:
    """A minimal BERT configuration for the tokenizer of these names."""
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": length}
    made: Callable[..., BertConfig] = BertConfig
    return made(vocab_size=len(names), num_hidden_layers=layers, **sizes, **values)


class BrokenEncoder:
    """An encoder whose runtime fails, as after the loss of a GPU."""

    def __init__(self, engine: SearchEngine) -> None:
        self.identity = engine.snapshot.encoder.identity
        self.dimension = engine.snapshot.encoder.dimension

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        raise EncoderError("the device is gone")

    def encode_products(self, texts: Sequence[str], progress: object = None) -> NDArray[np.float32]:
        raise EncoderError("the device is gone")


def word_table(folder: Path, cache: Path) -> Path:
    """A folder of sentence-transformers' StaticEmbedding with the default model's token vectors, without its layers."""
    source = find_model(DEFAULT_MODEL, cache).folder
    if not folder.is_dir():
        with atomic_folder(folder) as scratch:
            rows = load_file(source / "model.safetensors")["embeddings.word_embeddings.weight"]
            write_table(scratch, rows, source / TOKENIZER_FILE)
    return folder


def write_table(folder: Path, rows: NDArray[np.float32], tokenizer: Path) -> None:
    """Writes StaticEmbedding's files: vectors (tokens, columns) of a tokenizer's tokens."""
    save_file({"embedding.weight": rows}, folder / "model.safetensors")
    shutil.copyfile(tokenizer, folder / TOKENIZER_FILE)
    part = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.StaticEmbedding"}
    (folder / MODULES_FILE).write_text(json.dumps([part]))
