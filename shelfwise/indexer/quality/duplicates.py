"""Duplicates in a catalog: equal values of a field that should be unique, copies of products, groups of variants.

Hashes are written to files, each for a part of their range, and read back one file at a time, so memory holds one part
and some bytes per row. Candidates for copies are compared completely; no estimate is reported.

Signatures of sets (MinHash) agree in each place with the probability of the sets' Jaccard similarity (Broder 1997, "On
the resemblance and containment of documents"). They are cut into bands; sets that agree in whole bands become
candidates (Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", section 3.4): two of six bands of four are shared
by 98% of the pairs at 0.9, by 99.9% of those at 0.95, and by one in five of those at 0.6.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl
import rensa
import xxhash
from numpy.typing import NDArray

from shelfwise.indexer.quality.derived import KINDS, InspectedProduct
from shelfwise.indexer.quality.findings import MAX_EXAMPLES, DuplicateFindings, Example, Failures, RowLocation, shorten
from shelfwise.indexer.quality.rules import QualityCheck, QualityRule, all_values
from shelfwise.indexer.quality.siblings import KnownLeaders, group_products, jaccard, variant_hashes, variant_leaders
from shelfwise.retrieval.filters.schema import fold_value
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.files import load_array
from shelfwise.retrieval.text.analysis import HAN, identifier_key

RowOf = Callable[[int], tuple[Product, RowLocation]]
"""Returns the product of a row, by its position in order of id, and its place in the feed."""

EXACT, NEAR = QualityCheck.NO_COPIES, QualityCheck.NO_NEAR_COPIES
"""The checks that copies of a product fail."""
_VERDICTS = (None, EXACT, NEAR)
MAX_PAIRS = 500_000
"""The most candidate pairs that are compared; a report says if there were more."""
_PARTS = 32
_BUFFERED = 1 << 16
_RECORDS = "*.rows"
_NEIGHBOURS = 4
_SHIFT, _LOW = 31, (1 << 31) - 1
_MAX_MEETINGS = 8_000_000
_MIN_BANDS = 2
"""The number of common bands from which two rows are compared."""
_RECORD = np.dtype([("hash", "<u8"), ("row", "<u4")])
_SIGNS_FILE, _PAIRS_FILE, _LEADERS_FILE = "signs.npy", "pairs.npy", "leaders.npy"
_SIGNS = np.dtype([("claims", "<u4", 2), ("variants", "<u8", 2)])
_PAIRS = np.dtype([("pair", "<i8"), ("verdict", "i1")])
_NOT_COMPARED = -1


class DuplicateFinder:
    """Collects the signatures of all batches in its folder, in any order, and then finds the groups."""

    def __init__(self, folder: Path, rules: Sequence[QualityRule]) -> None:
        self._folder = folder
        self._rules = {rule.name: rule for rule in rules if rule.check is QualityCheck.UNIQUE}
        self._copies = {rule.check: rule.name for rule in rules if rule.check in (EXACT, NEAR)}
        self._count = 0
        self._waiting: dict[str, list[NDArray[np.void]]] = {}
        self._signs: list[tuple[NDArray[np.int64], NDArray[np.void]]] = []
        """Rows with the values to compare."""
        self._compared = np.empty(0, _PAIRS)
        """The pairs that were compared in another catalog, by their rows in this one."""
        self._leaders: KnownLeaders | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, signatures: Signatures) -> None:
        signs = np.empty(len(signatures.rows), _SIGNS)
        signs["claims"], signs["variants"] = signatures.identifier_hashes, signatures.variant_hashes
        self._count += len(signs)
        self._signs.append((signatures.rows, signs))
        for key, records in signatures.hashes.items():
            waiting = self._waiting.setdefault(key, [])
            waiting.append(records)
            if sum(map(len, waiting)) >= _BUFFERED:
                self._write(key)

    def take_over(self, folder: Path, rows: NDArray[np.int64]) -> None:
        """Reuses the signatures and comparisons of another catalog, from the folder of its finder. `rows` (n,) has the
        row of each of its products in this catalog, ascending, or -1. Called once, after all batches were added."""
        signs = load_array(folder / _SIGNS_FILE, mapped=True)
        is_here = rows >= 0
        variants = [signs["variants"][~is_here, 0], *(each["variants"][:, 0] for _, each in self._signs)]
        self._leaders = KnownLeaders(load_array(folder / _LEADERS_FILE), rows, np.unique(np.concatenate(variants)))
        compared = load_array(folder / _PAIRS_FILE)
        later, earlier = rows[compared["pair"] >> _SHIFT], rows[compared["pair"] & _LOW]
        compared["pair"] = (later << _SHIFT) | earlier
        self._compared = np.sort(compared[(later >= 0) & (earlier >= 0)], order="pair")
        self._count += int(is_here.sum())
        self._signs.append((rows[is_here], signs[is_here]))
        for path in folder.glob(_RECORDS):
            records = np.fromfile(path, _RECORD)
            records = records[is_here[records["row"]]]
            records["row"] = rows[records["row"]]
            if len(records):
                with (self._folder / path.name).open("ab") as file:
                    file.write(records.tobytes())

    def groups(self, row_of: RowOf) -> DuplicateFindings:
        """Reads all signatures back and compares the candidates. Rows are those of all batches, from 0 on."""
        for key in self._waiting:
            self._write(key)
        signs = np.empty(self._count, _SIGNS)
        for rows, each in self._signs:
            signs[rows] = each
        np.save(self._folder / _SIGNS_FILE, signs)
        self._claims = signs["claims"]
        findings = DuplicateFindings()
        for name in self._rules:
            self._unique(name, row_of, findings)
        np.save(self._folder / _PAIRS_FILE, self._compared)
        copies = self._find_copies(row_of, findings) if self._copies else []
        leaders = variant_leaders(signs["variants"], lambda row: frozenset(shingles(row_of(row)[0])), self._leaders)
        np.save(self._folder / _LEADERS_FILE, leaders)
        findings.siblings = group_products(leaders, copies)
        return findings

    def _write(self, key: str) -> None:
        if not self._waiting[key]:
            return
        records = np.concatenate(self._waiting[key])
        self._waiting[key] = []
        parts = (records["hash"] >> np.uint64(59)).astype(np.int64)
        records = records[np.argsort(parts, kind="stable")]
        ends = np.searchsorted(np.sort(parts), np.arange(_PARTS), side="right").tolist()
        for part, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            if end > start:
                with self._path(key, part).open("ab") as file:
                    file.write(records[start:end].tobytes())

    def _path(self, key: str, part: int) -> Path:
        return self._folder / f"{key}-{part:02d}.rows"

    def _parts(self, key: str) -> Iterator[_Runs]:
        for part in range(_PARTS):
            path = self._path(key, part)
            if path.exists():
                yield _Runs(np.fromfile(path, dtype=_RECORD))

    def _unique(self, name: str, row_of: RowOf, findings: DuplicateFindings) -> None:
        flagged = np.zeros(self._count, dtype=bool)
        first: list[NDArray[np.int64]] = []
        groups = 0
        for runs in self._parts(name):
            flagged[runs.shared_rows] = True
            groups += len(runs.shared)
            first = sorted([*first, *runs.first_groups()], key=lambda rows: int(rows[0]))[:MAX_EXAMPLES]
        if groups:
            self._report(name, np.flatnonzero(flagged), _partners(first), row_of, findings)
            findings.groups[name] = groups

    def _find_copies(self, row_of: RowOf, findings: DuplicateFindings) -> list[tuple[int, int]]:
        """Reports the copies, and returns each with the product of which it is a copy."""
        pairs = self._candidates(findings)
        copies = []
        before = self._known_verdicts(pairs).tolist()
        verdicts = np.full(len(pairs), _NOT_COMPARED, np.int8)
        judge = CopyComparer(lambda row: row_of(row)[0])
        similarity: dict[QualityCheck, dict[int, int]] = {EXACT: {}, NEAR: {}}
        flagged = {kind: np.zeros(self._count, dtype=bool) for kind in similarity}
        originals = {kind: np.zeros(self._count, dtype=bool) for kind in similarity}
        for index, (later, earlier) in enumerate(zip((pairs >> _SHIFT).tolist(), (pairs & _LOW).tolist(), strict=True)):
            if flagged[EXACT][later]:
                continue
            kind = judge.compare(earlier, later) if before[index] == _NOT_COMPARED else _VERDICTS[before[index]]
            verdicts[index] = _VERDICTS.index(kind)
            if kind is None or flagged[kind][later]:
                continue
            copies.append((later, earlier))
            flagged[kind][later] = True
            flagged[NEAR][later] &= kind is NEAR
            originals[kind][earlier] = True
            if len(similarity[kind]) <= 4 * MAX_EXAMPLES:
                similarity[kind][later] = earlier
        for kind, name in self._copies.items():
            rows = np.flatnonzero(flagged[kind])
            if len(rows):
                partners = {row: [original] for row, original in similarity[kind].items()}
                self._report(name, rows, partners, row_of, findings)
                findings.groups[name] = int((originals[kind] & ~flagged[kind]).sum()) or 1
        compared = np.empty(len(pairs), _PAIRS)
        compared["pair"], compared["verdict"] = pairs, verdicts
        np.save(self._folder / _PAIRS_FILE, compared[verdicts != _NOT_COMPARED])
        return copies

    def _known_verdicts(self, pairs: NDArray[np.int64]) -> NDArray[np.int8]:
        """Result of each comparison of sorted pairs (p,), or _NOT_COMPARED."""
        verdicts = np.full(len(pairs), _NOT_COMPARED, np.int8)
        if len(self._compared):
            positions = np.searchsorted(self._compared["pair"], pairs).clip(max=len(self._compared) - 1)
            is_known = self._compared["pair"][positions] == pairs
            verdicts[is_known] = self._compared["verdict"][positions[is_known]]
        return verdicts

    def _candidates(self, findings: DuplicateFindings) -> NDArray[np.int64]:
        """Pairs of rows that share a band, each as one number with the later row first, ascending; limited."""
        met: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
        for runs in self._parts(COPIES):
            pairs = runs.pairs()
            # Pairs that both have trade numbers, or makers' numbers, which differ.
            later, earlier = self._claims[pairs >> _SHIFT], self._claims[pairs & _LOW]
            met.append(pairs[~((later != earlier) & (later != 0) & (earlier != 0)).any(axis=1)])
            if sum(map(len, met)) > _MAX_MEETINGS:
                met = [_limit_pairs(np.sort(np.concatenate(met)), _MAX_MEETINGS // 2, findings)]
        pairs, bands = np.unique(np.concatenate(met), return_counts=True)
        result = _limit_pairs(pairs[bands >= _MIN_BANDS], MAX_PAIRS, findings)
        findings.pairs = len(result)
        return result

    def _report(
        self,
        name: str,
        rows: NDArray[np.int64],
        partners: Mapping[int, Sequence[int]],
        row_of: RowOf,
        findings: DuplicateFindings,
    ) -> None:
        example_rows = [row for row in rows[: 4 * MAX_EXAMPLES].tolist() if row in partners][:MAX_EXAMPLES]
        findings.failures[name] = Failures(len(rows), [_example(row, partners[row], row_of) for row in example_rows])
        findings.rows[name] = rows


def row_hashes(hashes: NDArray[np.uint64], rows: NDArray[np.int64]) -> NDArray[np.void]:
    """Hashes with their rows (n records); a row may have several hashes."""
    records = np.empty(len(rows), dtype=_RECORD)
    records["hash"], records["row"] = hashes, rows
    return records


class _Runs:
    """The records of one part, ordered by hash and row; a run has the rows with the same hash."""

    def __init__(self, records: NDArray[np.void]) -> None:
        order = np.lexsort((records["row"], records["hash"]))
        hashes, rows = records["hash"][order], records["row"][order].astype(np.int64)
        is_new = np.r_[True, (hashes[1:] != hashes[:-1]) | (rows[1:] != rows[:-1])]  # a row may repeat a hash
        hashes, self._rows = hashes[is_new], rows[is_new]
        starts = np.flatnonzero(np.r_[True, hashes[1:] != hashes[:-1]])
        self._sizes = np.diff(np.r_[starts, len(hashes)])
        self.shared_rows: NDArray[np.int64] = self._rows[np.repeat(self._sizes > 1, self._sizes)]
        self._starts = starts
        self.shared: NDArray[np.intp] = np.flatnonzero(self._sizes > 1)
        """The runs of several rows."""

    def first_groups(self) -> list[NDArray[np.int64]]:
        """The runs of several rows with the smallest first rows, each cut to the length that a report shows."""
        firsts = np.argsort(self._rows[self._starts[self.shared]], kind="stable")[:MAX_EXAMPLES]
        starts = self._starts[self.shared[firsts]]
        ends = starts + np.minimum(self._sizes[self.shared[firsts]], MAX_EXAMPLES + 1)
        return [self._rows[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]

    def pairs(self) -> NDArray[np.int64]:
        """Each row with the first row and the four before it in its run, as one number: all pairs of a small run, few
        of a large one.
        """
        indices = np.arange(len(self._rows))
        starts = np.repeat(self._starts, self._sizes)
        later, earlier = [], []
        for step in range(1, _NEIGHBOURS + 1):
            positions = np.flatnonzero(indices - starts >= step)
            later.append(positions)
            earlier.append(positions - step)
        far = np.flatnonzero(indices - starts > _NEIGHBOURS)
        later.append(far)
        earlier.append(starts[far])
        pairs: NDArray[np.int64] = (self._rows[np.concatenate(later)] << _SHIFT) | self._rows[np.concatenate(earlier)]
        return pairs


def _limit_pairs(pairs: NDArray[np.int64], most: int, findings: DuplicateFindings) -> NDArray[np.int64]:
    """The first of sorted pairs; which ones does not depend on the order in which they were found."""
    findings.unchecked += max(0, len(pairs) - most)
    return pairs[:most]


def _partners(groups: Sequence[NDArray[np.int64]]) -> dict[int, list[int]]:
    partners: dict[int, list[int]] = {}
    for rows in groups:
        for row in rows.tolist():
            partners.setdefault(row, []).extend(other for other in rows.tolist() if other != row)
    return partners


def _example(row: int, partners: Sequence[int], row_of: RowOf) -> Example:
    product, location = row_of(row)
    others = [row_of(other)[0].id for other in partners[:3]]
    more = f" and {len(partners) - 3} more" if len(partners) > 3 else ""
    return Example(
        product.id, shorten(product.title), location.file, location.line, shorten(f"like {', '.join(others)}{more}")
    )


MIN_JACCARD = 0.9
_KINDS = (*KINDS, "mpn", "asin", "model")
_KEPT = 4_096


class CopyComparer:
    """Compares rows of a catalog; it caches the latest products, because candidates are ordered by row."""

    def __init__(self, product_of: Callable[[int], Product]) -> None:
        @lru_cache(maxsize=_KEPT)
        def read(row: int) -> tuple[Product, frozenset[bytes], bytes]:
            product = product_of(row)
            return product, frozenset(shingles(product)), copy_key(product)

        self._read = read

    def compare(self, one: int, other: int) -> QualityCheck | None:
        """The check that two rows fail; None if they are not copies.

        EXACT if everything but id, SKU and dates is equal. NEAR if the words have a Jaccard similarity of 0.9, brand
        and numbers of the title are equal, and no identifier or attribute differs.
        """
        product, words, numbers = self._read(one)
        second, second_words, second_numbers = self._read(other)
        if numbers != second_numbers or jaccard(words, second_words) < MIN_JACCARD:
            return None
        if _content(product) == _content(second):
            return EXACT
        return None if _says_otherwise(product, second) else NEAR


def _content(product: Product) -> Product:
    """A product without the fields that may differ between two entries of it."""
    identifiers = {kind: values for kind, values in product.identifiers.items() if kind != "sku"}
    return replace(product, id="", identifiers=identifiers, created=None, updated=None, expires=None)


def _says_otherwise(one: Product, other: Product) -> bool:
    for kind in _KINDS:
        values, seconds = (set(map(identifier_key, each.identifiers.get(kind, ()))) for each in (one, other))
        if values and seconds and values.isdisjoint(seconds):
            return True
    texts, others = (
        {name: fold_value(value) if isinstance(value, str) else value for name, value in each.attributes.items()}
        for each in (one, other)
    )
    return any(texts[name] != others[name] for name in texts.keys() & others.keys())


BANDS = 6
_ROWS = 4
_SEED = 42
_FOLDED = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZ!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", b"abcdefghijklmnopqrstuvwxyz" + b" " * 32
)
"""Folds ASCII letters and signs; over bytes, because that is ten times as fast as over text."""
_HAN_RUN = re.compile(f"[{HAN}]{{2,}}")
_NUMBERED = re.compile(r"[a-z]*\d[a-z0-9]*")


def shingles(product: Product) -> list[bytes]:
    """The words of title, brand and description as UTF-8, without case and ASCII signs; for Chinese, every pair of
    neighbouring characters.
    """
    text = f"{product.title} {product.brand} {product.description}"
    if text.isascii():
        return text.encode().translate(_FOLDED).split()
    text = text.casefold()
    chinese = "".join(_HAN_RUN.findall(text))
    rest = _HAN_RUN.sub(" ", text) if chinese else text
    return _pairs(chinese) + rest.encode(errors="surrogatepass").translate(_FOLDED).split()


def _pairs(chinese: str) -> list[bytes]:
    encoded = chinese.encode()  # three bytes per character, except rare ones beyond the basic plane
    return [encoded[at : at + 6] for at in range(0, len(encoded) - 3, 3)]


def copy_key(product: Product) -> bytes:
    """The brand and the words of the title with a digit, which copies must share exactly: models of a series often
    differ in nothing else.
    """
    title, brand = product.title, product.brand
    if title.isascii():
        words = [word for word in title.encode().translate(_FOLDED).split() if not word.isalpha()]
    else:
        words = [word.encode() for word in _NUMBERED.findall(title.casefold())]
    words.sort()
    return b" ".join([brand.casefold().encode(errors="surrogatepass"), *words])


def band_hashes(products: Sequence[Product]) -> NDArray[np.uint64]:
    """One hash for each product (row) and band (column). Copies of a product share all, near copies usually one."""
    if not products:
        return np.empty((0, BANDS), dtype=np.uint64)
    matrix = rensa.RMinHash.digest_matrix_from_token_byte_sets(list(map(shingles, products)), BANDS * _ROWS, _SEED)
    parts = chain.from_iterable(matrix.to_rows())
    signatures = np.fromiter(parts, dtype=np.uint32, count=len(products) * BANDS * _ROWS)
    hashes = signatures.reshape(len(products), BANDS, _ROWS).astype(np.uint64)
    guards = np.array([xxhash.xxh3_64_intdigest(copy_key(product)) for product in products], dtype=np.uint64)
    mixed: NDArray[np.uint64] = np.add.outer(guards, np.arange(BANDS, dtype=np.uint64))
    for row in range(_ROWS):
        mixed = _mix(mixed ^ hashes[:, :, row])
    return mixed


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of the input affects every bit of the result."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


COPIES = "copies"
"""The key of the MinHash bands; every other key is the name of a rule with the check unique."""


@dataclass(frozen=True, slots=True)
class Signatures:
    """The hashes of one batch's rows for each purpose, as returned by `row_hashes`."""

    rows: NDArray[np.int64]
    hashes: Mapping[str, NDArray[np.void]]
    identifier_hashes: NDArray[np.uint32]
    """Hash of each row's number if it has exactly one, or 0 (columns: trade number, maker's number): rows with
    different ones are different products."""
    variant_hashes: NDArray[np.uint64]
    """(n, 2): see `shelfwise.indexer.quality.siblings.variant_hashes`."""


def signatures(batch: Sequence[InspectedProduct], rules: Sequence[QualityRule], rows: NDArray[np.int64]) -> Signatures:
    """The hashes for the rules that compare rows; `rows` (n,) are those of the batch."""
    products = [each.product for each in batch]
    meetings = {}
    if any(rule.check is not QualityCheck.UNIQUE for rule in rules):
        hashes = band_hashes(products)
        meetings[COPIES] = row_hashes(hashes.ravel(), np.repeat(rows, hashes.shape[1]))
    for rule in rules:
        if rule.check is QualityCheck.UNIQUE:
            meetings[rule.name] = _values(rule.field, batch, rows)
    return Signatures(rows, meetings, _claims(batch), variant_hashes(products))


def _claims(batch: Sequence[InspectedProduct]) -> NDArray[np.uint32]:
    claims = np.zeros((len(batch), 2), dtype=np.uint32)
    indices, numbers = all_values("gtin", batch)
    makers, models = all_values("identifiers.mpn", batch)
    for column, (rows, values) in enumerate(((indices, numbers), (makers, models))):
        rows_of = np.array(rows, dtype=np.int64)
        claims[rows_of, column] = _same_for_spellings(values, of_identifiers=True).hash(seed=_SEED).to_numpy() >> 32
        claims[np.flatnonzero(np.bincount(rows_of, minlength=len(claims)) > 1), column] = 0
    return claims


def _values(field: str, batch: Sequence[InspectedProduct], rows_of: NDArray[np.int64]) -> NDArray[np.void]:
    """Hashes of a field's values; equal for two spellings of one value."""
    indices, values = all_values(field, batch)
    text = _same_for_spellings(values, of_identifiers=field == "gtin" or field.startswith("identifiers."))
    says_something = (text.str.len_bytes() > 0).to_numpy()
    rows = rows_of[np.array(indices, dtype=np.int64)]
    return row_hashes(text.hash(seed=_SEED).to_numpy()[says_something], rows[says_something])


def _same_for_spellings(values: Sequence[str], *, of_identifiers: bool) -> pl.Series:
    text = pl.Series(values, dtype=pl.String).str.to_lowercase()
    if not of_identifiers:
        return text.str.replace_all(r"\s+", " ").str.strip_chars()
    # The UPC, EAN and GTIN of one product differ only in leading zeros.
    return text.str.replace_all(r"[^\pL\pN]", "").str.strip_chars_start("0")
