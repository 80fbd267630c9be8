"""Writes what a version holds of its products, batch by batch in the order of ids: records, terms, fingerprints."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import xxhash

from indexer.before import Before
from indexer.second_pass import Settled
from indexer.text_keys import Keys, key_array
from indexer.words import WordsWriter
from retrieval.fields import FieldCatalog
from retrieval.keyword_lines import KeywordBuilder
from retrieval.keyword_tantivy import TantivyBuilder
from retrieval.layout import FIELDS_FILE, KEYWORD_FOLDER, STANDING_FILE, WORDS_FOLDER, write_fields
from retrieval.manifest import VersionChanges
from retrieval.product_signals import SignalsWriter
from retrieval.product_store import ProductWriter
from retrieval.standing import Standing, write_standing
from retrieval.vectors import Rows


class VersionWriter:
    """Fills the folder of a version to be. `before` is the version that unchanged products' terms are taken from."""

    def __init__(
        self,
        folder: Path,
        found: FieldCatalog,
        before: Before | None,
        *,
        takes_over: bool,
        builder: type[KeywordBuilder] = TantivyBuilder,
    ) -> None:
        """`builder` makes the keyword index; one in a cluster is filled from the lines later."""
        self._folder = folder
        self._before = before
        self._products = ProductWriter(folder)
        self._signals = SignalsWriter(folder)
        self._words = WordsWriter()
        self._terms = builder(folder / KEYWORD_FOLDER, found, before.keyword if before and takes_over else None)
        self._digest = xxhash.xxh3_128()
        self._keys = bytearray()
        self._rows_before = array("q")
        self._same = 0

    def add(self, settled: Settled) -> None:
        """Takes the next products."""
        number = len(self._rows_before)
        columns = (settled.ids, settled.lines, settled.terms, settled.rows_before)
        for product_id, line, terms, row_before in zip(*columns, strict=True):
            self._products.add(product_id, line)
            if terms:
                self._terms.add_line(number, terms)
            else:
                self._terms.add_as_before(number, row_before)
            number += 1
        self._signals.add(settled.lines)
        self._words.add(settled.lines)
        self._digest.update(b"".join(line + b"\n" for line in settled.lines))
        self._keys += b"".join(settled.keys)
        self._rows_before.extend(settled.rows_before)
        self._same += sum(settled.are_as_before)

    def __len__(self) -> int:
        return len(self._rows_before)

    def finish(self, counted: FieldCatalog, standing: Iterable[Standing]) -> None:
        """Ends all files."""
        self._products.finish()
        self._signals.finish()
        self._words.finish(self._folder / WORDS_FOLDER)
        self._terms.finish()
        write_fields(counted, self._folder / FIELDS_FILE)
        write_standing(self._folder / STANDING_FILE, standing)

    @property
    def fingerprint(self) -> str:
        """Equal for two catalogs exactly when they hold the same products."""
        return self._digest.hexdigest()

    @property
    def keys(self) -> Keys:
        """The fingerprint of each row's text (n, 16)."""
        return key_array(self._keys)

    @property
    def rows_before(self) -> Rows:
        """For each row that of the same product in the version before, or -1 (n,)."""
        return np.frombuffer(self._rows_before, dtype=np.int64) if self._rows_before else np.empty(0, dtype=np.int64)

    @property
    def changes(self) -> VersionChanges | None:
        """How many products are new, other or gone."""
        if self._before is None:
            return None
        known = int((self.rows_before >= 0).sum())
        return VersionChanges(
            self._before.manifest.version,
            added=len(self._rows_before) - known,
            changed=known - self._same,
            removed=len(self._before.products) - known,
        )
