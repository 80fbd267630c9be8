"""Distillation of a network encoder to a table, on the texts of one catalog.

The row of a token starts as the network's vector of that token alone, weighted by its rarity (smooth inverse frequency:
Arora et al. 2017, A Simple but Tough-to-Beat Baseline for Sentence Embeddings). Then the rows are trained to reproduce
the network's vectors of whole texts and the similarities among them (Reimers & Gurevych 2020, Making Monolingual
Sentence Embeddings Multilingual; Park et al. 2019, Relational Knowledge Distillation, section 3.2).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import normalizers
from torch.nn.functional import normalize

from shelfwise.retrieval.encoders.base import DEFAULT_MAX_LENGTH, PROJECTION_FILE, unit_rows
from shelfwise.retrieval.encoders.folder import TOKENIZER_FILE, Vectors
from shelfwise.retrieval.encoders.tokenizer import open_tokenizer
from shelfwise.retrieval.encoders.torch import load_model, token_projection
from shelfwise.retrieval.encoders.weights import MODULES_FILE, ModelSource
from shelfwise.retrieval.progress import Progress
from shelfwise.retrieval.store.files import atomic_folder
from shelfwise.retrieval.text.analysis import contains_chinese
from shelfwise.retrieval.text.vocabulary import frequent_words

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_MODULE = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.StaticEmbedding"}
_MAX_PIECES = 32_768
"""The number of first tokens of the vocabulary for which the network computes vectors, in addition to the tokens of the
texts and of words of the language; other rows are zero."""
_MIN_WORDS = 3
"""The number of occurrences from which a word has its own row."""
_MAX_WORDS = 30_000
"""The number of most frequent words of the language whose tokens get vectors although no text has them."""
_SPACE = "\u2581"
"""The prefix of a word in vocabularies of unigrams."""
_RIDGE = 0.3
"""The ridge penalty of the map of rows, as a share of the mean variance of a column."""
_EPOCHS, _BATCH, _MIN_BATCH, _RATE = 5, 1_024, 128, 2e-3
_MIN_STEPS = 40
"""The fewest steps of an epoch; few texts have smaller batches."""
_SIMILARITY = 5.0
"""The weight of the similarities among a batch's texts, relative to each text's own vector."""
_RARITY = 1e-3
"""The token frequency at which a row starts with half its length."""


def distil(
    source: ModelSource,
    texts: Sequence[str],
    vectors: Vectors,
    encode: Callable[[Sequence[str]], Vectors],
    folder: Path,
    progress: Progress,
) -> None:
    """Writes a StaticEmbedding folder of sentence-transformers to `folder`, atomically.

    `vectors` (n, dimension) are those of the network in `source` for `texts`; `encode` returns the vectors of tokens.
    Raises EncoderUnavailableError for a network that cannot be loaded.
    """
    tokenizer = _with_words(_lowercased(open_tokenizer(source.folder / TOKENIZER_FILE, DEFAULT_MAX_LENGTH)), texts)
    ids = [encoding.ids for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)]
    vocabulary = tokenizer.get_vocab()
    size = max(vocabulary.values()) + 1
    counts = np.bincount(np.fromiter((each for text in ids for each in text), np.int64), minlength=size)
    known = (counts > 0) | (np.arange(size) < _MAX_PIECES)
    known[_likely_words(vocabulary, texts)] = True
    alone, rows = np.zeros((2, size, vectors.shape[1]), np.float32)
    alone[known] = encode([tokenizer.decode([token]).removeprefix("##") for token in np.flatnonzero(known).tolist()])
    seen, unseen = np.flatnonzero(counts), np.flatnonzero(known & (counts == 0))
    frequency = counts[seen] / max(1, counts.sum())
    first = np.asarray(alone[seen] * (_RARITY / (_RARITY + frequency))[:, None], np.float32)
    rows[seen] = _train(first, [np.searchsorted(seen, each) for each in ids], vectors, progress)
    rows[unseen] = _carried_over(alone[seen], rows[seen], alone[unseen])
    projection = token_projection(load_model(source, device="cpu"), source.folder)
    tokenizer.no_truncation()
    with atomic_folder(folder) as scratch:
        save_file({"embedding.weight": rows}, scratch / "model.safetensors")
        tokenizer.save(str(scratch / TOKENIZER_FILE))
        np.save(scratch / PROJECTION_FILE, projection)
        (scratch / MODULES_FILE).write_text(json.dumps([_MODULE], indent=1), "utf-8")
        if source.origin:
            source.write_origin(scratch)


def _lowercased(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer, reading capital letters as small ones: a network knows that both are the same word, but a table
    would learn only the spelling in titles, and shoppers do not type capitals."""
    normalizer = tokenizer.normalizer
    if normalizer is None:
        tokenizer.normalizer = normalizers.Lowercase()
    elif normalizer.normalize_str("A") == "A":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizer])
    return tokenizer


def _with_words(tokenizer: Tokenizer, texts: Sequence[str]) -> Tokenizer:
    """The tokenizer with the frequent words of the texts as tokens: a word's own row represents it better than the sum
    of its pieces. Only a WordPiece vocabulary is extended, since it cuts the longest known piece off a word."""
    content = json.loads(tokenizer.to_str())
    normalizer, splitter, vocabulary = tokenizer.normalizer, tokenizer.pre_tokenizer, content["model"]["vocab"]
    if content["model"]["type"] != "WordPiece" or normalizer is None or splitter is None:
        return tokenizer
    split = (splitter.pre_tokenize_str(normalizer.normalize_str(text)) for text in texts)
    counts = Counter(word for words in split for word, _ in words)
    new = sorted(word for word, count in counts.items() if count >= _MIN_WORDS and word not in vocabulary)
    first = max(tokenizer.get_vocab().values()) + 1
    content["model"]["vocab"] = vocabulary | {word: first + place for place, word in enumerate(new)}
    return tokenizer.from_str(json.dumps(content))


def _likely_words(vocabulary: Mapping[str, int], texts: Sequence[str]) -> list[int]:
    """Tokens that queries may have although no text does: words of the language, and Chinese if the texts have some."""
    words = (mark + word for word in frequent_words()[:_MAX_WORDS] for mark in ("", _SPACE))
    found = [vocabulary[word] for word in words if word in vocabulary]
    if any(map(contains_chinese, texts)):
        found += [token for piece, token in vocabulary.items() if contains_chinese(piece)]
    return found


def _carried_over(alone: Vectors, trained: Vectors, others: Vectors) -> Vectors:
    """The estimated result of training for other rows (n, dimension): a map fitted by ridge regression to the change of
    the rows of the texts' tokens (as words are mapped to another language: Mikolov et al. 2013, Exploiting Similarities
    among Languages for Machine Translation)."""
    mean, after = alone.mean(axis=0), trained.mean(axis=0)
    centred = alone - mean
    moments = centred.T @ centred
    ridge = (_RIDGE * np.trace(moments) / len(moments) + 1e-6) * np.eye(len(moments))
    mapped = (others - mean) @ np.linalg.solve(moments + ridge, centred.T @ (trained - after)) + after
    return np.asarray(unit_rows(mapped) * np.linalg.norm(trained, axis=1).mean(), np.float32)


def _train(rows: Vectors, ids: Sequence[NDArray[np.int64]], vectors: Vectors, progress: Progress) -> Vectors:
    """The rows (v, dimension) after training on texts with the tokens `ids` and the vectors `vectors`."""
    chance = np.random.default_rng(0)
    usable = np.array([place for place, each in enumerate(ids) if len(each)])
    bag = torch.nn.EmbeddingBag.from_pretrained(torch.from_numpy(rows.copy()), freeze=False, mode="sum")
    optimizer = torch.optim.Adam(bag.parameters(), _RATE)
    steps = max(1, len(usable) // _BATCH, min(len(usable) // _MIN_BATCH, _MIN_STEPS))
    progress.begin("distil", _EPOCHS * len(usable), "texts")
    for _ in range(_EPOCHS):
        for batch in np.array_split(chance.permutation(usable), steps):
            tokens = [ids[place] for place in batch.tolist()]
            starts = np.cumsum([0, *(len(each) for each in tokens[:-1])])
            student = normalize(bag(torch.from_numpy(np.concatenate(tokens)), torch.from_numpy(starts)), dim=1)
            teacher = torch.from_numpy(vectors[batch])
            own = 1 - (student * teacher).sum(dim=1).mean()
            among = (student @ student.T - teacher @ teacher.T).square().mean()
            optimizer.zero_grad()
            (own + _SIMILARITY * among).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            progress.advance(len(batch))
    progress.end(f"mean cosine with the network {1 - own.item():.3f}")
    return np.asarray(bag.weight.detach().numpy())
