"""Tokenizes pairs of query and text for a cross-encoder: each distinct text once, cut to the model's length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shelfwise.retrieval.encoders.base import prepare_text
from shelfwise.retrieval.errors import EncoderUnavailableError, SettingError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


QUERY_TOKENS = 32
"""The tokens of a query that are read if the pair is too long for the model: beyond that, the product counts more."""
_LEAST_SPECIALS = 2
"""The fewest special tokens that separate the texts of a pair; a pair of empty texts consists of them."""
_CHUNK = 1_024
"""The number of texts tokenized at a time."""

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PairFormat:
    """The special tokens that a tokenizer adds to a pair of texts, and the type id of each part."""

    before: Ids
    between: Ids
    after: Ids
    types: tuple[int, int, int, int, int]
    """The type ids of `before`, the query, `between`, the text, `after`."""

    @property
    def specials(self) -> int:
        """The number of tokens of a pair of empty texts."""
        return len(self.before) + len(self.between) + len(self.after)


@dataclass(frozen=True, slots=True)
class Batch:
    """Pairs that run together, padded with zeros to the longest one."""

    rows: Ids
    """(b,): their indices in the tokenized pairs."""
    input_ids: Ids
    """(b, t)"""
    type_ids: Ids
    """(b, t)"""
    mask: Ids
    """(b, t): 1 for a token, 0 for padding."""


class PairTokens:
    """Tokenized pairs: the ids of each distinct query and text, and the two indices of each pair."""

    def __init__(
        self, form: PairFormat, max_length: int, queries: tuple[list[Ids], Ids], texts: tuple[list[Ids], Ids]
    ) -> None:
        """`queries` and `texts` are the ids of distinct texts, with the index (n,) of each pair among them."""
        self._format = form
        self._queries, self._query_of = queries
        self._texts, self._text_of = texts
        query_lengths = _lengths(self._queries)[self._query_of]
        room = max_length - form.specials - query_lengths
        self._text_lengths = np.minimum(_lengths(self._texts)[self._text_of], room)
        self.lengths: Ids = query_lengths + self._text_lengths + form.specials
        """(n,): the number of tokens of each pair."""

    def same_length(self, most_tokens: int) -> Iterator[Batch]:
        """Batches of pairs of equal length, longest first, with at most `most_tokens` if more than one pair."""
        order = np.argsort(-self.lengths, kind="stable")
        starts = np.flatnonzero(np.diff(self.lengths[order], prepend=-1))
        for group in np.split(order, starts[1:]):
            size = max(1, most_tokens // int(self.lengths[group[0]])) if len(group) else 1
            for start in range(0, len(group), size):
                yield self._batch(group[start : start + size])

    def sorted_by_length(self, size: int) -> Iterator[Batch]:
        """Batches of `size` pairs, longest first, padded."""
        order = np.argsort(-self.lengths, kind="stable")
        for start in range(0, len(order), size):
            yield self._batch(order[start : start + size])

    def _batch(self, rows: Ids) -> Batch:
        width = int(self.lengths[rows].max())
        ids, types, mask = (np.zeros((len(rows), width), np.int64) for _ in range(3))
        for place, row in enumerate(rows):
            parts = self._parts(int(row))
            length = int(self.lengths[row])
            np.concatenate(parts, out=ids[place, :length])
            types[place, :length] = np.repeat(self._format.types, [len(part) for part in parts])
            mask[place, :length] = 1
        return Batch(rows, ids, types, mask)

    def _parts(self, row: int) -> tuple[Ids, ...]:
        text = self._texts[self._text_of[row]][: self._text_lengths[row]]
        form = self._format
        return form.before, self._queries[self._query_of[row]], form.between, text, form.after


class PairTokenizer:
    """Makes the same tokens of pairs as the model's own tokenizer, but tokenizes each text once."""

    def __init__(self, tokenizer: Tokenizer, max_length: int, prompt: str = "") -> None:
        """`prompt` precedes each query. The tokenizer is modified: its padding and truncation are removed.

        Raises SettingError for a `max_length` without room for both texts, EncoderUnavailableError for a tokenizer that
        does not support pairs.
        """
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._max_length = max_length
        self._format = _pair_format(tokenizer)
        if self._format.specials < _LEAST_SPECIALS:
            message = "the model's tokenizer does not mark where query and text of a pair end; a cross-encoder's does"
            raise EncoderUnavailableError(message)
        prompt_tokens = len(self._ids([prompt], "", max_length)[0]) if prompt else 0
        room = max_length - self._format.specials - prompt_tokens
        if room < 2:
            raise SettingError(f"a cross-encoder cannot read pairs of {max_length} tokens; use 16 or more")
        self._query_tokens = prompt_tokens + min(QUERY_TOKENS, room // 2)

    def tokens(self, queries: Sequence[str], texts: Sequence[str]) -> PairTokens:
        """The tokens of the pairs (queries[i], texts[i]); a very long text costs no more than a long one.

        Raises ValueError if the numbers of queries and texts differ.
        """
        if len(queries) != len(texts):
            raise ValueError(f"{len(queries)} queries cannot be paired with {len(texts)} texts")
        different_queries, query_of = _different(queries)
        different_texts, text_of = _different(texts)
        query_ids = self._ids(different_queries, self._prompt, self._query_tokens)
        text_ids = self._ids(different_texts, "", self._max_length)
        return PairTokens(self._format, self._max_length, (query_ids, query_of), (text_ids, text_of))

    def _ids(self, texts: Sequence[str], prompt: str, limit: int) -> list[Ids]:
        result: list[Ids] = []
        for start in range(0, len(texts), _CHUNK):
            chunk = [prepare_text(text, prompt, limit) for text in texts[start : start + _CHUNK]]
            encodings = self._tokenizer.encode_batch_fast(chunk, add_special_tokens=False)
            result += [np.array(encoding.ids[:limit], np.int64) for encoding in encodings]
        return result


def _different(texts: Sequence[str]) -> tuple[list[str], Ids]:
    """The distinct texts, in order of appearance, and the index of each of `texts` among them."""
    places: dict[str, int] = {}
    of = [places.setdefault(text, len(places)) for text in texts]
    return list(places), np.array(of, np.int64)


def _lengths(ids: list[Ids]) -> Ids:
    return np.array([len(one) for one in ids], np.int64)


def _pair_format(tokenizer: Tokenizer) -> PairFormat:
    pair = tokenizer.encode("a", "a")
    parts = np.array([-1 if part is None else part for part in pair.sequence_ids])
    query, text = np.flatnonzero(parts == 0), np.flatnonzero(parts == 1)
    if not len(query) or not len(text):
        raise EncoderUnavailableError(
            "the model's tokenizer does not support pairs of texts; a cross-encoder needs one that does"
        )
    ids, types = np.array(pair.ids, np.int64), pair.type_ids
    before, between, after = ids[: query[0]], ids[query[-1] + 1 : text[0]], ids[text[-1] + 1 :]
    return PairFormat(
        before,
        between,
        after,
        (types[0], types[query[0]], types[query[-1] + 1] if len(between) else 0, types[text[0]], types[-1]),
    )


DEFAULT_TEACHER = "cross-encoder/ms-marco-MiniLM-L-12-v2"
