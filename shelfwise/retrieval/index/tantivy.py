"""The keyword index on one machine: tantivy, on disk and memory-mapped. The only file that imports tantivy.

Each field's numbers are in a separate float column (`n7`), its texts under one key (`t7`) of two JSON fields: `filter`
has them folded, `facet` as displayed. The number is the field's slot in the catalog, so field names of a feed are never
parsed by tantivy. Places are in a separate file, since tantivy does not support areas.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import tantivy
from numpy.typing import NDArray
from tantivy import Occur, Query

from shelfwise.retrieval.errors import StoreDamagedError, StoreError
from shelfwise.retrieval.filters.conditions import (
    AllOf,
    AnyOf,
    AtLeast,
    Condition,
    HasNumber,
    HasPhrase,
    HasPlace,
    HasTerm,
    HasText,
    InArea,
    NotThat,
    NumberWithin,
    TextIn,
)
from shelfwise.retrieval.filters.schema import FieldCatalog, FieldInfo
from shelfwise.retrieval.index.keyword import (
    LOOK_AHEAD,
    MAX_SHARING,
    NO_MATCHES,
    NO_ROWS,
    DocumentChange,
    KeywordIndex,
    Matches,
    Rows,
    Scores,
    Selection,
    Sort,
    SortedRows,
    SortKey,
    expansion_scores,
    make_facet,
    minimum_matches,
    rank_matches,
    round_scores,
    sort_rows,
    split_optional,
    synonym_boosts,
)
from shelfwise.retrieval.index.keyword_documents import (
    LINES_FILE,
    NUMBERS_FILE,
    PLACES_FILE,
    DocumentNumbers,
    KeywordBuilder,
    KeywordLine,
    PlaceColumns,
    decode_line,
    keyword_line,
    read_lines,
)
from shelfwise.retrieval.index.vectors import rows_now
from shelfwise.retrieval.records import Facet
from shelfwise.retrieval.text.analysis import Phrase, TermGroup

TEXT = "text"
IDENTIFIERS = "identifiers"
TAGGED = "tagged"
ROW = "row"
_HEAP_BYTES = 256 * 1024 * 1024
_LIVE_HEAP_BYTES = 15_000_000
"""The least that tantivy accepts; live changes are few."""
_SPARE_PLACES = 64
_UNION = 32
"""The number of documents that one union selects."""
_MAX_COMBINATIONS = 10
"""The most combinations of query words that a document can match by; enough for up to five words."""
_NARROWED_FROM = 0.5
"""A word with more postings than this share of those of the rarest words is searched only among the latter."""
_MAX_BUCKETS = 65_000
"""tantivy rejects more; a field with more values than this is not useful as a facet."""
Hits = Sequence[tuple[float, tantivy.DocAddress]]


FEWEST_EXTENDED = 20_000
"""The fewest products of an index that is extended; a smaller one is rebuilt in seconds."""
MAX_REPLACED = 0.1
"""The largest share of an extended index's documents that no longer belong to a product, relative to its products; word
statistics still count them."""


class TantivyBuilder(KeywordBuilder):
    """Writes a keyword index into an empty folder, with documents ordered by row. If few products changed, it copies
    the index in `before` and replaces their documents."""

    def __init__(self, folder: Path, catalog: FieldCatalog, before: Path | None = None) -> None:
        super().__init__(folder, catalog, before)
        self._folder_before = before
        self._numbers = _extensible_numbers(before, catalog) if before else None
        """The numbers of the previous index, while it can be extended."""
        self._rows_before = array("q")
        """The row in the previous index of each row, or -1."""
        self._added: list[tuple[int, KeywordLine]] = []
        self._places = array("d")
        """Row, latitude and longitude of each place."""
        self._writer = self._open_writer() if self._numbers is None else None

    def _open_writer(self) -> tantivy.IndexWriter:
        # One thread keeps documents ordered by row, so that equal scores are returned in that order.
        with _written(self._folder):
            return tantivy.Index(_schema(self._catalog), str(self._folder)).writer(_HEAP_BYTES, 1)

    def _index(self, row: int, encoded: bytes) -> None:
        line = decode_line(encoded)
        if self._writer is not None:
            self._places.extend(value for place in line.places for value in (row, *place))
            with _written(self._folder):
                self._writer.add_document(_document(row, line))
            return
        self._rows_before.append(-1)
        if self._numbers and len(self._added) > MAX_REPLACED * len(self._numbers.by_row):
            self._numbers, self._added = None, []
        if self._numbers:
            self._added.append((row, line))

    def _index_as_before(self, row: int, row_before: int, encoded: bytes) -> None:
        if self._writer is None:
            self._rows_before.append(row_before)
        else:
            self._index(row, encoded)

    def finish(self) -> Path:
        """Commits and returns the folder."""
        folder = super().finish()
        if self._writer is None and not (
            self._folder_before and self._numbers and self._extend(self._folder_before, self._numbers)
        ):
            self._writer = self._open_writer()
            for row, encoded in enumerate(read_lines(folder)):
                self._index(row, encoded)
        if self._writer is not None:
            with _written(folder):
                self._writer.commit()
                self._writer.wait_merging_threads()
            PlaceColumns(np.array(self._places).reshape(-1, 3)).save(folder)
        for lock in folder.glob("*.lock"):
            lock.unlink()
        return folder

    def _extend(self, before: Path, numbers: DocumentNumbers) -> bool:
        """Extends the previous index, unless too many of its documents would no longer belong to a product."""
        rows_before = np.array(self._rows_before, np.int64)
        now_at = rows_now(rows_before, len(numbers.by_row))
        kept = np.where(numbers.rows < 0, -1, now_at[numbers.rows])
        rows = np.concatenate([kept, [row for row, _ in self._added]]).astype(np.int32)
        if len(rows) > (1 + MAX_REPLACED) * len(rows_before):
            return False
        for path in before.iterdir():
            if path.name not in (LINES_FILE, PLACES_FILE, NUMBERS_FILE):
                shutil.copyfile(path, self._folder / path.name)
        with _written(self._folder):
            index = tantivy.Index.open(str(self._folder))
            writer = index.writer(_HEAP_BYTES, 1)
            gone = numbers.by_row[rows[numbers.by_row] < 0].tolist()
            documents = (_document(number, line) for number, (_, line) in enumerate(self._added, len(numbers.rows)))
            _replace_documents(writer, index.schema, gone, documents)
            writer.wait_merging_threads()
        np.save(self._folder / NUMBERS_FILE, rows)
        places = PlaceColumns.load(before).table
        places = np.column_stack([now_at[places[:, 0].astype(np.int64)], places[:, 1:]])
        others = PlaceColumns.of((row, line.places) for row, line in self._added).table
        table = np.concatenate([places[places[:, 0] >= 0], others])
        PlaceColumns(table[np.argsort(table[:, 0], kind="stable")]).save(self._folder)
        return True


def _extensible_numbers(folder: Path, catalog: FieldCatalog) -> DocumentNumbers | None:
    """The numbers of an index that can be extended for this catalog, or None."""
    try:
        meta = json.loads((folder / "meta.json").read_bytes())
    except OSError:  # that version's index is in a cluster
        return None
    columns = sum(bool(re.fullmatch(r"n\d+", field["name"])) for field in meta["schema"])
    documents = np.arange(sum(segment["max_doc"] for segment in meta["segments"]))
    numbers = DocumentNumbers.load(folder) or DocumentNumbers(documents, documents)
    is_fit = columns == _places_used(catalog) + _SPARE_PLACES and len(numbers.by_row) >= FEWEST_EXTENDED
    return numbers if is_fit else None


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Raises StoreError if tantivy cannot write; all of its errors are ValueError."""
    try:
        yield
    except ValueError as error:
        raise StoreError(f"{folder} cannot be written to ({error}); check the disk and try again") from error


class TantivyIndex(KeywordIndex):
    """An opened keyword index: read-only, thread-safe."""

    def __init__(self, folder: Path, catalog: FieldCatalog) -> None:
        self._copy = _WorkingCopy(folder, catalog)
        self._searcher = self._copy.index.searcher()
        self._schema = self._copy.schema
        self._catalog = catalog
        self._places = PlaceColumns.load(folder)
        self._numbers = DocumentNumbers.load(folder)
        self._ties_by_row = self._searcher.num_segments < 2 and self._numbers is None

    def apply_changes(self, changes: Sequence[DocumentChange], catalog: FieldCatalog) -> TantivyIndex:
        """A copy of this index with changed rows.

        Until the next version, word statistics also count replaced documents.
        """
        lines = [(each.row, keyword_line(each.document, catalog)) for each in changes if each.document]
        numbers = self._numbers_of(np.array([row for row, _ in lines], np.int64))
        gone = self._numbers_of(np.array([each.row for each in changes], np.int64))
        documents = [_document(number, line) for number, (_, line) in zip(numbers, lines, strict=True)]
        searcher = self._copy.replace(documents, gone)
        newer = copy(self)
        newer._searcher, newer._catalog, newer._ties_by_row = searcher, catalog, False
        changed = PlaceColumns.of((row, line.places) for row, line in lines)
        newer._places = self._places.replace((each.row for each in changes), changed)
        return newer

    def check_changeable(self) -> None:
        """Does nothing: a local index can always be changed."""

    @property
    def field_capacity(self) -> int:
        return _places_used(self._copy.catalog) + _SPARE_PLACES

    @property
    def size(self) -> int:
        return int(self._searcher.num_docs)

    def search(self, groups: tuple[TermGroup, ...], limit: int, where: Condition | None = None) -> Matches:
        match = self._match(groups)
        if match is None or limit < 1:
            return NO_MATCHES
        query = self._filtered(match, where)
        result = self._searcher.search(query, min(limit + LOOK_AHEAD, max(self.size, 1)))
        total = _count(result)
        rows, scores = self._scored(result.hits)
        if self._ties_by_row:
            return Matches(*rank_matches(rows, scores, limit), total)
        # Equal scores are ordered by document here and stay so: a cut must not depend on how many are read.
        return Matches(rows[:limit], round_scores(scores[:limit]), total)

    def score(self, rows: Rows, groups: tuple[TermGroup, ...], where: Condition | None = None) -> Matches:
        if not len(rows):
            return NO_MATCHES
        chosen = self._filtered(self._rows(rows), where)
        needed, least = split_optional(groups)[0], minimum_matches(groups)
        if not 1 < least < len(needed):
            match = self._match(groups)
            clauses = [(Occur.Must, chosen)] if match is None else [(Occur.Must, chosen), (Occur.Should, match)]
            found, scores = self._found(Query.boolean_query(clauses), len(rows))
        else:
            # A union visits each matching document, whereas a single word can be skipped through. So words are counted
            # first.
            one_each = [Query.const_score_query(self._group(each), 1.0) for each in needed]
            found, counts = self._found(_scored_by(chosen, one_each), len(rows))
            matched, scores = found[counts > least - 0.5], np.zeros(len(found), np.float32)
            if len(matched):
                scored = (self._group(each, is_scored=True) for each in groups)
                best = self._found(_scored_by(self._rows(matched), scored), len(matched))
                scores[np.searchsorted(found, best[0])] = best[1]
        return Matches(found, round_scores(scores), total=len(found))

    def find_identifier(self, key: str) -> Rows:
        if not key:
            return NO_ROWS
        rows = self._all_rows(Query.term_query(self._schema, IDENTIFIERS, key, "basic"))
        return rows if len(rows) <= MAX_SHARING else NO_ROWS

    def select(self, selection: Selection) -> Rows:
        return self._all_rows(self._selected(selection))

    def count(self, selections: Sequence[Selection]) -> list[int]:
        return [_count(self._searcher.search(self._selected(each), 1)) for each in selections]

    def facets(self, selection: Selection, fields: Sequence[str], size: int) -> dict[str, Facet]:
        infos = [self._catalog.fields[name] for name in fields]
        query = self._selected(selection)
        return {info.name: self._facet(info, query, size) for info in infos}

    def sort(self, selection: Selection, by: Sort) -> SortedRows:
        hits = self._searcher.search(self._selected(selection), max(self.size, 1), count=False).hits
        rows = self._row_numbers(hits)
        addresses = [address for _, address in hits]

        def values(key: SortKey) -> NDArray[np.float64]:
            if key.place:
                return self._places.distances(rows, key.place)
            column = f"n{self._catalog.fields[key.field].slot}"
            return np.array(self._searcher.fast_field_values(column, addresses), np.float64)  # None becomes NaN

        return sort_rows(rows, by, values)

    def _match(self, groups: tuple[TermGroup, ...]) -> Query | None:
        """The query for documents that match enough of the groups."""
        needed, optional = split_optional(groups)
        if not needed:
            return None
        least, parts = minimum_matches(groups), list(map(self._group, needed))
        scored = [self._group(each, is_scored=True) for each in optional]
        is_scored_apart = any(each.expansions for each in needed)
        if not 1 < least < len(needed):
            match = Query.boolean_query([(Occur.Should, each) for each in parts], least)
        elif math.comb(len(needed), least) <= _MAX_COMBINATIONS:
            # Intersections skip most postings; a union that counts its parts reads all of them.
            together = ([(Occur.Must, each) for each in part] for part in itertools.combinations(parts, least))
            match = _any_of(map(Query.boolean_query, together))
            is_scored_apart = True
        else:
            match = Query.boolean_query([(Occur.Should, each) for each in self._narrowed(needed, parts, least)], least)
        if is_scored_apart:
            match = Query.const_score_query(match, 0.0)
            scored = [*(self._group(each, is_scored=True) for each in needed), *scored]
        clauses = [(Occur.Must, match), *((Occur.Should, each) for each in scored)]
        return Query.boolean_query(clauses) if scored else match

    def _narrowed(self, groups: Sequence[TermGroup], parts: Sequence[Query], least: int) -> list[Query]:
        """The queries of groups, rarest first, of which a document must match `least`. Each such document matches one
        of the rarest groups (all but `least` - 1), so frequent groups are searched only among their documents."""
        frequencies = [
            sum(
                min(self._searcher.doc_freq(TEXT, term) for term in terms)
                for terms in (*each.alternatives, *each.synonyms)
            )
            for each in groups
        ]
        order = sorted(range(len(parts)), key=frequencies.__getitem__)
        rarest, others = order[: 1 - least], order[1 - least :]
        among = Query.const_score_query(_any_of(parts[each] for each in rarest), 0.0)
        many = _NARROWED_FROM * sum(frequencies[each] for each in rarest)
        narrowed = (
            Query.boolean_query([(Occur.Must, among), (Occur.Must, parts[each])])
            if frequencies[each] > many
            else parts[each]
            for each in others
        )
        return [*(parts[each] for each in rarest), *narrowed]

    def _group(self, group: TermGroup, *, is_scored: bool = False) -> Query:
        """The query for a group's matches, or for its score: expansions only score, unless no product has the word."""
        typed, *others = (self._conjunction(terms) for terms in group.alternatives)
        frequencies = {term: self._searcher.doc_freq(TEXT, term) for term in group.weighed_terms}
        if group.synonyms:
            boosts = synonym_boosts(group, frequencies, self.size)
            queries = (typed, *map(self._phrase, group.synonyms))
            typed, *synonyms = map(Query.boost_query, queries, boosts)
            others += synonyms
        scores = expansion_scores(group, frequencies, self.size, is_scored=is_scored)
        others += (Query.const_score_query(self._conjunction((term,)), score) for term, score in scores.items())
        return Query.disjunction_max_query([typed, *others]) if others else typed

    def _phrase(self, terms: Phrase) -> Query:
        return self._conjunction(terms) if len(terms) < 2 else Query.phrase_query(self._schema, TEXT, list(terms))

    def _conjunction(self, terms: tuple[str, ...]) -> Query:
        wanted = [Query.term_query(self._schema, TEXT, term, "freq") for term in terms]
        return wanted[0] if len(wanted) == 1 else Query.boolean_query([(Occur.Must, each) for each in wanted])

    def _numbers_of(self, rows: Rows) -> list[int]:
        numbers: list[int] = (rows if self._numbers is None else self._numbers.of(rows)).tolist()
        return numbers

    def _rows(self, rows: Rows) -> Query:
        # Ten times faster than a term set of the same 200 rows, which scans the whole dictionary. A union visits all of
        # its parts wherever one has a document, so neighbouring documents are in separate unions.
        numbers = sorted(self._numbers_of(rows))
        each = [Query.term_query(self._schema, ROW, number, "basic") for number in numbers]
        parts = (_any_of(each[start : start + _UNION]) for start in range(0, len(each), _UNION))
        return Query.const_score_query(_any_of(parts), 0.0)

    def _filtered(self, match: Query, where: Condition | None) -> Query:
        if where is None:
            return match
        condition = Query.const_score_query(self._where(where), 0.0)
        return Query.boolean_query([(Occur.Must, match), (Occur.Must, condition)])

    def _selected(self, selection: Selection) -> Query:
        parts = [] if (match := self._match(selection.groups)) is None else [match]
        if len(selection.rows):
            parts.append(self._rows(selection.rows))
        if selection.everything:
            parts = [Query.all_query()]
        return self._filtered(_any_of(parts), selection.where)

    def _where(self, condition: Condition) -> Query:
        match condition:
            case AllOf(operands):
                return Query.boolean_query([(Occur.Must, self._where(each)) for each in operands] or [_EVERYTHING])
            case AnyOf(operands):
                return _any_of(map(self._where, operands))
            case AtLeast(count, operands):
                return Query.boolean_query([(Occur.Should, self._where(each)) for each in operands], count)
            case NotThat(operand):
                return Query.boolean_query([_EVERYTHING, (Occur.MustNot, self._where(operand))])
            case TextIn(field, values):
                path = f"filter.t{self._catalog.fields[field].slot}"
                marked = (f"{_MARK}{value}" if _TIME.match(value) else value for value in values)
                return _any_of(Query.term_query(self._schema, path, value, "basic") for value in marked)
            case HasTerm(fields, term):
                tags = self._catalog.tagged_terms(fields, term)
                return _any_of(Query.term_query(self._schema, TAGGED, tag, "basic") for tag in tags)
            case HasPhrase(terms):
                return self._phrase(terms)
            case HasText(field):
                return Query.exists_query(f"facet.t{self._catalog.fields[field].slot}")
            case HasNumber(field):
                return Query.exists_query(f"n{self._catalog.fields[field].slot}")
            case NumberWithin(field, low, high, include_low, include_high):
                column = f"n{self._catalog.fields[field].slot}"
                least = None if low == -math.inf else low
                most = None if high == math.inf else high
                kind = tantivy.FieldType.Float
                return Query.range_query(self._schema, column, kind, least, most, include_low, include_high)
            case InArea() | HasPlace():
                rows = self._places.rows(condition.area if isinstance(condition, InArea) else None)
                # Faster than one term per row, from some hundred rows on.
                numbers = self._numbers_of(rows)
                return Query.term_set_query(self._schema, ROW, numbers) if numbers else Query.empty_query()

    def _facet(self, info: FieldInfo, query: Query, size: int) -> Facet:
        place = info.slot
        buckets = self._buckets(query, f"facet.t{place}") if info.is_textual else []
        texts = [(str(text).removeprefix(_MARK), count) for text, count in buckets]
        if not info.is_numeric:
            return make_facet(info, texts, (), size)
        numbers = [(float(value), count) for value, count in self._buckets(query, f"n{place}")]
        span = self._searcher.aggregate(query, {"span": {"stats": {"field": f"n{place}"}}})["span"]
        return make_facet(info, texts, numbers, size, (span["min"], span["max"]))

    def _buckets(self, query: Query, column: str) -> list[tuple[Any, int]]:
        """The values of a column with their counts. One column per request, since tantivy limits its buckets."""
        wanted = {"values": {"terms": {"field": column, "size": _MAX_BUCKETS}}}
        buckets = self._searcher.aggregate(query, wanted)["values"]["buckets"]
        return [(bucket["key"], bucket["doc_count"]) for bucket in buckets]

    def _scored(self, hits: Hits) -> tuple[Rows, Scores]:
        return self._row_numbers(hits), np.array([score for score, _ in hits], dtype=np.float32)

    def _row_numbers(self, hits: Hits) -> Rows:
        values = self._searcher.fast_field_values(ROW, [address for _, address in hits])
        numbers = np.array(values, dtype=np.int64)
        return numbers if self._numbers is None else self._numbers.rows_of(numbers)

    def _all_rows(self, query: Query) -> Rows:
        hits = self._searcher.search(Query.const_score_query(query, 1.0), max(self.size, 1), count=False).hits
        return np.sort(self._row_numbers(hits))

    def _found(self, query: Query, limit: int) -> tuple[Rows, Scores]:
        """The rows of the `limit` best documents, ascending, and their scores."""
        rows, scores = self._scored(self._searcher.search(query, limit, count=False).hits)
        order = np.argsort(rows)
        return rows[order], scores[order]


_EVERYTHING = (Occur.Must, Query.all_query())


def _any_of(queries: Iterable[Query]) -> Query:
    clauses = [(Occur.Should, query) for query in queries]
    return Query.boolean_query(clauses) if clauses else Query.empty_query()


def _scored_by(query: Query, parts: Iterable[Query]) -> Query:
    """A query whose documents also get the scores of `parts`, added one by one, without a union of them."""
    for part in parts:
        query = Query.boolean_query([(Occur.Must, query), (Occur.Should, part)])
    return query


class _WorkingCopy:
    """A temporary folder with links to an index's files: tantivy writes locks and new segments next to the files that
    it reads, but a published folder is never written to."""

    def __init__(self, folder: Path, catalog: FieldCatalog) -> None:
        self.catalog = catalog
        try:
            # Lives as long as this object, since tantivy accesses the folder occasionally.
            self._links = tempfile.TemporaryDirectory(prefix="shelfwise-", ignore_cleanup_errors=True)
            for path in folder.iterdir() if folder.is_dir() else ():
                Path(self._links.name, path.name).symlink_to(path.resolve())
        except OSError as error:
            message = f"no temporary folder can be created to open {folder} ({error.strerror}); check its disk"
            raise StoreError(message) from error
        self._writer: tantivy.IndexWriter | None = None
        try:
            self.index = tantivy.Index.open(self._links.name)
            self.index.config_reader("manual")
        except ValueError as error:
            message = f"{folder} has no keyword index that can be opened ({error}); rebuild the index"
            raise StoreDamagedError(message) from error
        self.schema = self.index.schema

    def replace(self, documents: Iterable[tantivy.Document], gone: Iterable[int]) -> tantivy.Searcher:
        """Removes the documents of the numbers `gone`, adds others, and returns a searcher of the result.

        Raises StoreError if nothing can be written; the index is then unchanged.
        """
        # A writer that failed cannot be used again; its uncommitted changes are dropped with it.
        writer, self._writer = self._writer, None
        with _written(Path(self._links.name)):
            try:
                if writer is None:
                    writer = self.index.writer(_LIVE_HEAP_BYTES, 1)
                    # Files that a failed writer began would block this writer, which generates the same names.
                    writer.garbage_collect_files()
                _replace_documents(writer, self.schema, gone, documents)
                self.index.reload()
            except ValueError:
                if writer is not None:
                    # Its lock is released now, not when the last reference in a traceback is gone.
                    with suppress(ValueError):
                        writer.wait_merging_threads()
                raise
        self._writer = writer
        return self.index.searcher()


def _replace_documents(
    writer: tantivy.IndexWriter, schema: tantivy.Schema, gone: Iterable[int], documents: Iterable[tantivy.Document]
) -> None:
    """Removes the documents of the numbers `gone`, adds others, and commits."""
    for number in gone:
        writer.delete_documents_by_query(Query.term_query(schema, ROW, number, "basic"))
    for document in documents:
        writer.add_document(document)
    writer.commit()


def _document(number: int, line: KeywordLine) -> tantivy.Document:
    # Not as one JSON text: tantivy's JSON parser rounds some numbers in their last digit, and filters would miss them.
    document = tantivy.Document()
    document.add_unsigned(ROW, number)
    for text in line.repeated:
        document.add_text(TEXT, text)
    document.add_text(TAGGED, line.tagged)
    for key in line.identifiers:
        document.add_text(IDENTIFIERS, key)
    for slot, value in line.numbers:
        document.add_float(f"n{slot}", value)
    if line.texts:
        document.add_json("filter", _TIME_IN_JSON.sub(_ESCAPED, line.texts))
    if line.shown:
        document.add_json("facet", _TIME_IN_JSON.sub(_ESCAPED, line.shown))
    return document


_MARK = "\x1f"
"""Prefix of texts that look like a time: tantivy would store the time, which no filter by the text finds, and panics on
some, such as 9999-12-31T23:59:59-23:59."""
_TIME = re.compile(r"(?=\d{4}-\d\d-\d\d\D\d\d:)")
_TIME_IN_JSON = re.compile(rf'"(?<=[\[,]"){_TIME.pattern}')
_ESCAPED = r'"\\u001f'


def _count(result: tantivy.SearchResult) -> int:
    return int(getattr(result, "count", 0) or 0)


def _schema(catalog: FieldCatalog) -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field(ROW, indexed=True, fast=True)
    builder.add_text_field(TEXT, tokenizer_name="whitespace", index_option="position")
    builder.add_text_field(TAGGED, tokenizer_name="whitespace", index_option="basic")
    builder.add_text_field(IDENTIFIERS, tokenizer_name="raw", index_option="basic")
    builder.add_json_field("filter", tokenizer_name="raw", index_option="basic")
    builder.add_json_field("facet", tokenizer_name="raw", index_option="basic", fast=True)
    # Any field may get numbers later, and fields may be added: a live change cannot alter the schema.
    for place in range(_places_used(catalog) + _SPARE_PLACES):
        builder.add_float_field(f"n{place}", fast=True)
    return builder.build()


def _places_used(catalog: FieldCatalog) -> int:
    return max((info.slot for info in catalog.fields.values()), default=-1) + 1
