"""The tokenizers of stored encoders."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import xxhash

from shelfwise.retrieval.encoders.base import TextTokens
from shelfwise.retrieval.encoders.folder import TOKENIZER_FILE, describe_damage
from shelfwise.retrieval.errors import EncoderUnavailableError, ShelfwiseError
from shelfwise.retrieval.memory import require_memory
from shelfwise.retrieval.store.files import load_array

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def open_tokenizer(path: Path, max_length: int) -> Tokenizer:
    """A stored tokenizer that cuts to `max_length` tokens; raises EncoderUnavailableError for a damaged file."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        # The Rust library raises a bare Exception for every fault.
        raise EncoderUnavailableError(describe_damage(path, error)) from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return tokenizer


# `tokenizers` keeps a unigram vocabulary as a trie: a quarter of a gigabyte for 250,000 pieces. The pieces into which a
# text is cut depend only on those that occur in it (Kudo 2018, Subword Regularization, section 3.2: the Viterbi path)
# and on the lowest score, which determines that of an unknown character. So for a few texts, a tokenizer of only these
# pieces is created; this takes less than a millisecond, and it cuts the texts in the same way.

_PIECES_FILE = "pieces.npy"
_FRAME_FILE = "pieces.json"
_FEW = 16
"""The number of texts up to which the vocabulary is not loaded."""
_BYTES_LOADED = 27
"""Bytes of memory per byte of a unigram vocabulary's file, including the batches that follow."""
_PIECE = np.dtype([("hash", "<u8"), ("id", "<u4"), ("score", "<f8")])


class _Frame(msgspec.Struct, frozen=True):
    """Everything of a tokenizer except its pieces."""

    tokenizer: dict[str, Any]
    """tokenizer.json with the pieces that every text needs: added ones, the unknown one, one of the lowest score."""
    ids: list[int]
    """The ids of these pieces."""
    longest: int
    """The most characters of a piece."""


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """The tokens of a text, in the form of `tokenizers.Encoding`."""

    ids: list[int]
    offsets: list[tuple[int, int]]
    special_tokens_mask: list[int]


class StoredTokenizer:
    """The tokenizer of a stored encoder, which cuts to `max_length` tokens. Thread-safe.

    A unigram vocabulary is loaded only for many texts; few texts are cut by its mapped form.
    """

    def __init__(self, folder: Path, max_length: int) -> None:
        """Raises EncoderUnavailableError with the name of a missing or damaged file."""
        self._folder = folder
        self._max_length = max_length
        self._unigrams = self._open_unigrams()
        if self._unigrams is None:
            self._whole  # noqa: B018 - raises an error if it is damaged

    def _open_unigrams(self) -> UnigramTokenizer | None:
        path = self._folder / _PIECES_FILE
        try:
            return UnigramTokenizer(self._folder, self._max_length) if path.exists() else None
        except (ShelfwiseError, OSError, ValueError, KeyError) as error:
            raise EncoderUnavailableError(describe_damage(path, error)) from error

    @cached_property
    def _whole(self) -> Tokenizer:
        path = self._folder / TOKENIZER_FILE
        if self._unigrams:
            require_memory(_BYTES_LOADED * path.stat().st_size, f"{path}: many texts are cut with", "a smaller model")
        return open_tokenizer(path, self._max_length)

    @cached_property
    def vocabulary(self) -> int:
        """A bound above all token ids."""
        if self._unigrams:
            return self._unigrams.vocabulary
        return max(self._whole.get_vocab().values(), default=0) + 1

    def encode_batch(self, texts: list[str], *, add_special_tokens: bool = True) -> Sequence[TextTokens]:
        """The tokens of each text."""
        if self._unigrams and len(texts) <= _FEW:
            return self._unigrams.encode_batch(texts, add_special_tokens=add_special_tokens)
        return self._whole.encode_batch(texts, add_special_tokens=add_special_tokens)


def write_pieces(folder: Path) -> None:
    """Writes the mapped form of a stored tokenizer next to it, if it is a unigram tokenizer."""
    content = msgspec.json.decode((folder / TOKENIZER_FILE).read_bytes())
    model = content["model"]
    if model.get("type") != "Unigram" or (folder / _PIECES_FILE).exists():
        return
    vocabulary = [(str(piece), float(score)) for piece, score in model["vocab"]]
    pieces = np.array([(_hash(text), place, score) for place, (text, score) in enumerate(vocabulary)], _PIECE)
    pieces.sort(order="hash")
    added = {each["content"] for each in content["added_tokens"]}
    lowest = min(range(len(vocabulary)), key=lambda place: vocabulary[place][1])
    needed = {place for place, (text, _) in enumerate(vocabulary) if text in added or text.startswith("<0x")}
    ids = sorted(needed | {model["unk_id"], lowest})
    model["vocab"], model["unk_id"] = [vocabulary[place] for place in ids], ids.index(model["unk_id"])
    np.save(folder / _PIECES_FILE, pieces)
    frame = _Frame(content, ids, max(len(text) for text, _ in vocabulary))
    (folder / _FRAME_FILE).write_bytes(msgspec.json.encode(frame))


class UnigramTokenizer:
    """The tokenizer in a folder of `write_pieces`. Thread-safe."""

    def __init__(self, folder: Path, max_length: int) -> None:
        from tokenizers import AddedToken, Tokenizer

        self._pieces = load_array(folder / _PIECES_FILE, mapped=True)
        self._hashes = self._pieces["hash"].copy()
        frame = msgspec.json.decode((folder / _FRAME_FILE).read_bytes(), type=_Frame)
        model, added = frame.tokenizer["model"], frame.tokenizer["added_tokens"]
        self._longest, self._max_length = frame.longest, max_length
        self._own = [(str(piece), float(score)) for piece, score in model["vocab"]]
        self._own_ids, self._own_set = frame.ids, frozenset(frame.ids)
        self._unknown, self._has_bytes = model["unk_id"], bool(model.get("byte_fallback"))
        self._added_ids = {each["content"]: each["id"] for each in added}
        self._added = [AddedToken(**{k: v for k, v in each.items() if k != "id"}) for each in added]
        self._splitter = re.compile("|".join(re.escape(each) for each in self._added_ids) or r"(?!)")
        bare = Tokenizer.from_str(msgspec.json.encode(frame.tokenizer).decode())
        self._normalizer, self._pre_tokenizer, self._post_processor = (
            bare.normalizer,
            bare.pre_tokenizer,
            bare.post_processor,
        )
        self.vocabulary: int = 1 + max(len(self._pieces) - 1, *self._added_ids.values())
        """A bound above all token ids."""

    def encode_batch(self, texts: list[str], *, add_special_tokens: bool = True) -> list[TokenizedText]:
        """The tokens of each text; never raises."""
        from tokenizers import Tokenizer, models

        found = self._occurring(texts)
        ids = [*self._own_ids, *(place for _, place, _ in found)]
        pieces = [*self._own, *((piece, score) for piece, _, score in found)]
        tokenizer = Tokenizer(models.Unigram(pieces, self._unknown, self._has_bytes))
        if self._normalizer is not None:
            tokenizer.normalizer = self._normalizer
        if self._pre_tokenizer is not None:
            tokenizer.pre_tokenizer = self._pre_tokenizer
        if add_special_tokens and self._post_processor is not None:
            tokenizer.post_processor = self._post_processor
        if add_special_tokens or any(map(self._splitter.search, texts)):
            tokenizer.add_special_tokens(self._added)
        tokenizer.enable_truncation(self._max_length)
        ids += [self._added_ids[tokenizer.id_to_token(place)] for place in range(len(ids), tokenizer.get_vocab_size())]
        cut = []
        for text in texts:  # faster than a batch for few texts
            encoding = tokenizer.encode(text, add_special_tokens=add_special_tokens)
            mask = encoding.special_tokens_mask
            own = [token if special else ids[token] for token, special in zip(encoding.ids, mask, strict=True)]
            cut.append(TokenizedText(own, encoding.offsets, mask))
        return cut

    def _occurring(self, texts: Sequence[str]) -> list[tuple[str, int, float]]:
        """The distinct pieces that occur in texts, with their ids and scores."""
        parts = list(
            {
                word[start:end]: None
                for text in texts
                for word in self._words(text)
                for start in range(len(word))
                for end in range(start + 1, min(len(word), start + self._longest) + 1)
            }
        )
        hashes = np.array([_hash(part) for part in parts], np.uint64)
        places = np.searchsorted(self._hashes, hashes).clip(max=len(self._hashes) - 1)
        at = np.flatnonzero(self._hashes[places] == hashes)
        found = self._pieces[places[at]]
        triples = zip(at.tolist(), found["id"].tolist(), found["score"].tolist(), strict=True)
        return [(parts[place], piece, score) for place, piece, score in triples if piece not in self._own_set]

    def _words(self, text: str) -> Iterator[str]:
        for segment in self._splitter.split(text):
            normal = self._normalizer.normalize_str(segment) if self._normalizer is not None else segment
            if self._pre_tokenizer is None:
                yield normal
            else:
                yield from (word for word, _ in self._pre_tokenizer.pre_tokenize_str(normal))


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))
