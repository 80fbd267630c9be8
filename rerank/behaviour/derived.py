"""The derived tables as they are read: one generation of them, with the window that they are about."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import msgspec
import polars as pl

from rerank.behaviour.acts import ACT_PART
from rerank.behaviour.folders import SUFFIX, read_frame
from rerank.behaviour.labels import LIST_PART, with_own_ids
from rerank.behaviour.options import DeriveOptions, Window
from rerank.behaviour.parts import Context, Part, read_part, shopper_is_known
from rerank.behaviour.popularity import scores_before
from rerank.behaviour.publishing import DerivedManifest, read_manifest
from retrieval.errors import StoreDamagedError, StoreMissingError
from retrieval.manifest import file_problem


class Derived:
    """One generation of derived tables; docs/derived.md says what their columns mean.

    It stays readable while the next one is published. Every table is read, and its checksum compared, when it is asked
    for; that raises StoreDamagedError for a file that is not whole, StoreMissingError for a generation that is gone.
    """

    def __init__(self, folder: Path, manifest: DerivedManifest) -> None:
        self._folder = folder
        self.manifest = manifest

    @property
    def window(self) -> Window:
        """No event outside it has a part in any table."""
        return Window(self.manifest.first, self.manifest.last)

    @property
    def made(self) -> datetime:
        """When it was made."""
        return self.manifest.made

    @property
    def popularity(self) -> pl.DataFrame:
        """Counts, decayed score, trend and rank within its category, by product."""
        return self.table("popularity")

    @property
    def neighbours(self) -> pl.DataFrame:
        """What the same shoppers looked at or bought, by product."""
        return self.table("neighbours")

    @property
    def queries(self) -> pl.DataFrame:
        """How often each query is asked and what comes of it."""
        return self.table("queries")

    @property
    def reformulations(self) -> pl.DataFrame:
        """Which query is replaced by which."""
        return self.table("reformulations")

    @property
    def query_categories(self) -> pl.DataFrame:
        """The likely categories of each query."""
        return self.table("query_categories")

    @property
    def next_products(self) -> pl.DataFrame:
        """What is looked at or bought next, by product."""
        return self.table("next_products")

    @property
    def sequences(self) -> pl.DataFrame:
        """The last acts of each shopper, under pseudonyms."""
        return self.table("sequences")

    @property
    def labels(self) -> pl.DataFrame:
        """How well each product answers each query, as far as clicks, carts and purchases tell."""
        return self.table("labels")

    @property
    def label_weights(self) -> pl.DataFrame:
        """What a click, a cart and a purchase count for in the labels, and how well that foretells purchases."""
        return self.table("label_weights")

    @property
    def visits(self) -> pl.DataFrame:
        """Every visit, robots' among them, with its score and the reasons, under pseudonyms."""
        return self.table("visits")

    @property
    def aside(self) -> pl.DataFrame:
        """How many events cleaning set aside, by day and reason."""
        return self.table("aside")

    def table(self, name: str) -> pl.DataFrame:
        """A table by its name, such as one of a maker that was added."""
        if name not in self.manifest.tables:
            there = ", ".join(sorted(self.manifest.tables))
            raise StoreMissingError(f"{self._folder} has no table {name!r}, only {there}; refresh the tables")
        path = self._folder / self.manifest.folder / f"{name}{SUFFIX}"
        if not path.parent.is_dir():
            raise StoreMissingError(f"{path.parent} is gone: newer tables have replaced it; open them anew")
        if problem := file_problem(path, self.manifest.tables[name].file):
            raise StoreDamagedError(f"{path} {problem}; refresh the tables: they are made anew")
        return read_frame(path)

    def lists(self) -> pl.DataFrame:
        """What was shown for each search and done on it, robots left out, in the order of time: the columns that
        `rerank.clicks.click_log.click_log` takes, and shopper. Raises StoreMissingError where newer tables have
        replaced these."""
        return with_own_ids(self._part(LIST_PART))

    def acts(self) -> pl.DataFrame:
        """All that shoppers who are known did beyond looking at lists, of the whole window: shopper (pseudonym),
        product_id, kind, time. Raises as `lists`."""
        return self._part(ACT_PART).filter(shopper_is_known()).select("shopper", "product_id", "kind", "time")

    def popularity_before(self, end: datetime) -> pl.DataFrame:
        """product_id and score of `popularity` as they stood at a time within the window; nothing that came later has
        a part in them. Raises as `lists`."""
        return scores_before(self._part(ACT_PART), end, self._context())

    def neighbours_before(self, end: datetime) -> pl.DataFrame:
        """`neighbours` as that table stood at a time within the window. Raises as `lists`."""
        # Libraries of matrices, which whoever only reads tables does without.
        from rerank.behaviour.neighbours import neighbours_before

        return neighbours_before(self._part(ACT_PART), end, self._context())

    def _context(self) -> Context:
        """What the tables were made with, but for the catalog."""
        return Context(self.window, msgspec.convert(self.manifest.options, DeriveOptions), None)

    def _part(self, part: Part) -> pl.DataFrame:
        found = {int(day): self._folder / "parts" / name for day, name in self.manifest.days.items()}
        if missing := [each for each in found.values() if not each.is_dir()]:
            raise StoreMissingError(f"{missing[0]} is gone: newer tables have replaced it; open them anew")
        return read_part(part, found)


def open_derived(folder: Path) -> Derived:
    """Opens the newest tables of a folder that `refresh` has written.

    Raises StoreMissingError where there are none, StoreForeignError for another schema, StoreDamagedError where it
    cannot be told.
    """
    return Derived(folder, read_manifest(folder))
