"""What finding copies needs to know of a batch: hashes whose meeting makes two rows candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from indexer.quality.derived import Batch
from indexer.quality.fields import every_value
from indexer.quality.rule import Check, Rule
from indexer.quality.shingles import band_hashes

COPIES = "copies"
"""The key of the MinHash bands; every other key is the name of a rule with check unique."""
_SEED = 42


@dataclass(frozen=True, slots=True)
class Meeting:
    """Hashes and the rows that have them, equally long; a row may be there several times."""

    hashes: NDArray[np.uint64]
    rows: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Signatures:
    """Of one batch: for each purpose, the hashes of its rows."""

    first_row: int
    count: int
    meetings: Mapping[str, Meeting]
    claims: NDArray[np.uint32]
    """For each row (columns: trade number, maker's number) a hash of the only one that it has, or 0: rows with
    different ones are different products.
    """


def signatures(batch: Batch, rules: Sequence[Rule], first_row: int) -> Signatures:
    """The hashes that the rules across rows ask for."""
    meetings = {}
    if any(rule.check is not Check.UNIQUE for rule in rules):
        hashes = band_hashes(batch.products)
        rows = np.arange(first_row, first_row + len(hashes), dtype=np.int64)
        meetings[COPIES] = Meeting(hashes.ravel(), np.repeat(rows, hashes.shape[1]))
    for rule in rules:
        if rule.check is Check.UNIQUE:
            meetings[rule.name] = _values(rule.field, batch, first_row)
    return Signatures(first_row, len(batch.products), meetings, _claims(batch))


def _claims(batch: Batch) -> NDArray[np.uint32]:
    claims = np.zeros((len(batch.products), 2), dtype=np.uint32)
    places, numbers = every_value("gtin", batch)
    makers, models = every_value("identifiers.mpn", batch)
    for column, (rows, values) in enumerate(((places, numbers), (makers, models))):
        rows_of = np.array(rows, dtype=np.int64)
        claims[rows_of, column] = _same_for_spellings(values, of_identifiers=True).hash(seed=_SEED).to_numpy() >> 32
        claims[np.flatnonzero(np.bincount(rows_of, minlength=len(claims)) > 1), column] = 0
    return claims


def _values(field: str, batch: Batch, first_row: int) -> Meeting:
    """Hashes of a field's values; two spellings of one value have the same."""
    places, values = every_value(field, batch)
    text = _same_for_spellings(values, of_identifiers=field == "gtin" or field.startswith("identifiers."))
    says_something = (text.str.len_bytes() > 0).to_numpy()
    rows = np.array(places, dtype=np.int64) + first_row
    return Meeting(text.hash(seed=_SEED).to_numpy()[says_something], rows[says_something])


def _same_for_spellings(values: Sequence[str], *, of_identifiers: bool) -> pl.Series:
    text = pl.Series(values, dtype=pl.String).str.to_lowercase()
    if not of_identifiers:
        return text.str.replace_all(r"\s+", " ").str.strip_chars()
    # Leading zeros tell the UPC, EAN and GTIN of one product apart, and nothing else.
    return text.str.replace_all(r"[^\pL\pN]", "").str.strip_chars_start("0")
