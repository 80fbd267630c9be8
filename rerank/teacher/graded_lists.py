"""Graded lists, queries with texts and what each is worth, as a cross-encoder is fine-tuned on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xxhash
from numpy.typing import NDArray

from retrieval.errors import TrainingError

LEAST_LISTS = 50


@dataclass(frozen=True, slots=True)
class GradedList:
    """A query, texts of products, and what each of them is worth to who asks it."""

    query: str
    texts: Sequence[str]
    gains: Sequence[float]
    """As many as texts, none below 0: 2^grade - 1, or debiased labels."""


def teaching(lists: Sequence[GradedList]) -> list[GradedList]:
    """Those that say that one text is better than another.

    Raises TrainingError for a list whose gains cannot be gains, and where fewer than 50 lists are left.
    """
    for number, each in enumerate(lists):
        _check(number, each)
    kept = [each for each in lists if len(set(each.gains)) > 1]
    if len(kept) < LEAST_LISTS:
        raise TrainingError(
            f"{len(kept)} of {len(lists)} lists have texts of different gains; at least {LEAST_LISTS} are needed to "
            "fine-tune a cross-encoder: grade more queries, or use it as it is"
        )
    return kept


def _check(number: int, graded: GradedList) -> None:
    name = f"list {number} ({graded.query[:80]!r})"
    gains = np.asarray(graded.gains, np.float64)
    name = f"list {number} ({graded.query[:80]!r})"
    if len(graded.texts) != len(gains):
        raise TrainingError(f"{name} has {len(graded.texts)} texts and {len(gains)} gains; give each text one")
    if not np.isfinite(gains).all() or (gains < 0).any():
        raise TrainingError(f"{name} has gains that are negative or no numbers; give 0 or more")


def split_by_query(
    lists: Sequence[GradedList], held_out: float, seed: int
) -> tuple[list[GradedList], list[GradedList]]:
    """Lists to train on and lists to validate on: about a share `held_out`, at least one of either.

    All lists of a query go the same way, and which way its hash decides, not its place among the others.
    """
    digests = {each.query: _digest(each.query, seed) for each in lists}
    order = sorted(digests, key=lambda query: (digests[query], query))
    if len(order) < 2:
        raise TrainingError("all lists have the same query; to validate, at least one query must be held out")
    held = set(order[: min(max(1, round(held_out * len(order))), len(order) - 1)])
    return [each for each in lists if each.query not in held], [each for each in lists if each.query in held]


def _digest(query: str, seed: int) -> int:
    return xxhash.xxh3_64_intdigest(query.encode("utf-8", "surrogatepass"), seed=seed)


def fingerprint(lists: Sequence[GradedList]) -> str:
    """XXH3 over queries, texts and gains (64 bits, hexadecimal)."""
    digest = xxhash.xxh3_64()
    for each in lists:
        for text in (each.query, *each.texts):
            digest.update(f"{len(text)}:{text}".encode("utf-8", "surrogatepass"))
        digest.update(np.asarray(each.gains, np.float64).tobytes())
    return digest.hexdigest()


def drawn(graded: GradedList, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Places of at most `most` texts, at random; where there are more, half are of those that are worth something."""
    order = rng.permutation(len(graded.texts))
    if len(order) <= most:
        return order
    worth = np.asarray(graded.gains)[order] > 0
    first = order[worth][: max(1, most // 2)]
    others = order[~np.isin(order, first)]
    # The worthless come first among the others, and the remaining good ones where those are too few.
    others = others[np.argsort(np.asarray(graded.gains)[others] > 0, kind="stable")]
    return np.concatenate([first, others[: most - len(first)]])
