"""The second pass over a batch of products, in a worker: settled into the catalog's spelling, inspected, analysed.

What travels between processes is plain lists: those cost a third of lists of objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from indexer.cleaning.settler import Settler
from indexer.text_keys import text_key
from retrieval.analysis import Analyzer
from retrieval.fields import FieldCatalog
from retrieval.keyword_lines import encode_line, keyword_line
from retrieval.product_json import product_from_json, product_to_json
from retrieval.product_text import encoder_text, keyword_document
from retrieval.records import Product

if TYPE_CHECKING:
    from indexer.quality.findings import Findings
    from indexer.quality.inspector import Inspector
    from indexer.quality.norms import Norms
    from indexer.quality.rule import Rule
    from indexer.quality.signatures import Signatures


@dataclass(slots=True)
class Items:
    """A batch of products in the order of their ids. The lists are of one length."""

    first_row: int
    """The number of the first one, over all batches."""
    ids: list[bytes] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    """The products as JSON: cleaned, live changes folded in."""
    files: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    guessed: list[bool] = field(default_factory=list)
    rows_before: list[int] = field(default_factory=list)
    """The row of the same id in the version before, or -1."""
    lines_before: list[bytes] = field(default_factory=list)
    """The product there as JSON, or nothing."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What the second pass makes of a batch: the products as they will be published. The lists are of one length."""

    ids: list[bytes]
    lines: list[bytes]
    keys: list[bytes]
    """Fingerprints of the texts that become vectors; empty where no index is built."""
    rows_before: list[int]
    are_as_before: list[bool]
    terms: list[bytes]
    """Lines of the keyword index, each empty where that of the version before can stay; empty where none is built."""
    settled: dict[str, int]
    """By rule: values that were written in the catalog's spelling."""
    findings: Findings
    signatures: Signatures


@dataclass(frozen=True, slots=True)
class Documents:
    """How the second pass makes lines of a keyword index."""

    catalog: FieldCatalog
    takes_over: bool
    """Whether an unchanged product's line of the version before can stay."""


@dataclass(frozen=True, slots=True)
class Judging:
    """What products are inspected by."""

    rules: tuple[Rule, ...]
    norms: Norms
    now: datetime


class SettleRows:
    """The second pass; `documents` is None where no index is built."""

    def __init__(self, settler: Settler, judging: Judging, documents: Documents | None) -> None:
        self._settler = settler
        self._judging = judging
        self._documents = documents
        self._analyzer = Analyzer()  # synonyms are for queries only

    def __call__(self, items: Items) -> Settled:
        """The products that will be published, inspected."""
        from indexer.quality.findings import Place

        cleaned = [product_from_json(line) for line in items.lines]
        settled = self._settler.settle_all(cleaned)
        lines = [
            line if product is before else product_to_json(product)
            for line, before, product in zip(items.lines, cleaned, settled.products, strict=True)
        ]
        are_as_before = [line == before for line, before in zip(lines, items.lines_before, strict=True)]
        places = list(map(Place, items.files, items.rows, items.guessed))
        inspected = self._inspector.inspect(settled.products, places, items.first_row)
        documents = self._documents
        return Settled(
            items.ids,
            lines,
            [] if documents is None else [text_key(encoder_text(product)) for product in settled.products],
            items.rows_before,
            are_as_before,
            [] if documents is None else self._terms(documents, settled.products, are_as_before),
            settled.counts,
            inspected.findings,
            inspected.signatures,
        )

    @cached_property
    def _inspector(self) -> Inspector:
        # Loaded where it is used: the validation library takes a second, and the program that reads needs none of it.
        from indexer.cleaning.languages import detect
        from indexer.quality.inspector import Inspector

        return Inspector(self._judging.rules, self._judging.norms, self._judging.now, detect)

    def _terms(self, documents: Documents, products: Sequence[Product], are_as_before: Sequence[bool]) -> list[bytes]:
        return [
            b"" if documents.takes_over and is_as_before else self._line(documents.catalog, product)
            for product, is_as_before in zip(products, are_as_before, strict=True)
        ]

    def _line(self, catalog: FieldCatalog, product: Product) -> bytes:
        return encode_line(keyword_line(keyword_document(0, product, self._analyzer, catalog), catalog))
