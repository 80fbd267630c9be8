"""Sessionization: events cut into sessions at long pauses, and searches of a session grouped by information need."""

from __future__ import annotations

import re
import unicodedata
from datetime import timedelta

import polars as pl
from rapidfuzz.distance import OSA

LONGEST = timedelta(hours=24)
"""Longer sessions are cut at each midnight (UTC), so that the rule depends only on one day around an event."""

ORDER = ("session_number", "time", "kind", "position", "key")
"""The order of events by session and time, independent of the order of arrival."""


_GAP = timedelta(minutes=30)
"""The longest pause within a session."""


def sessionize(events: pl.DataFrame) -> pl.DataFrame:
    """The events (columns of `EVENT_SCHEMA`) with `session_number` (UInt32), ordered by session and time.

    Sessions are numbered from 0 in the order in which they begin. If several shoppers share a session, each gets a
    separate one; an event without a shopper joins the shopper of the previous event, or else of the next. An event
    without a session joins the session of its query, or one that its shopper was in less than a gap before.

    The timeout of half an hour is that of web analytics (Spiliopoulou et al. 2003, A Framework for the Evaluation of
    Session Reconstruction Heuristics in Web-Usage Analysis); studies of search logs place it between 10 and 60 minutes
    (He & Göker 2000, Detecting Session Boundaries from Web User Logs; Halfaker et al. 2015, User Session Identification
    Based on Strong Regularities in Inter-activity Time).
    """
    owned = _with_owner(events).sort("_owner", "time", "key")
    chains = owned.with_columns(_chain=_breaks("_owner").cum_sum())
    who = pl.col("_who").forward_fill().over("_chain")
    chains = chains.with_columns(_who=who).with_columns(_who=pl.col("_who").backward_fill().over("_chain"))
    apart = chains.sort("_chain", "_who", "time", "key").with_columns(_part=_breaks("_chain", "_who").cum_sum())
    return _in_order(_without_long(apart), list(events.columns))


def _with_owner(events: pl.DataFrame) -> pl.DataFrame:
    """Adds `_owner`, the unit whose events are cut into sessions, and `_who`, the shopper or null."""
    named = events.with_columns(_session=_filled("session"), _who=_filled("shopper"), _query=_filled("query_id"))
    named = _with_session_of_query(named)
    named = _with_session_of_shopper(named)
    named = _with_shopper_of_query(named)
    owner = pl.coalesce("s" + pl.col("_session"), "u" + pl.col("_who"), "q" + pl.col("_query"), pl.lit(""))
    return named.with_columns(_owner=owner)


def _filled(column: str) -> pl.Expr:
    return pl.when(pl.col(column) != "").then(pl.col(column))


def _with_session_of_query(named: pl.DataFrame) -> pl.DataFrame:
    known = named.filter(pl.col("_session").is_not_null() & pl.col("_query").is_not_null())
    known = known.sort("time", "key").unique("_query", keep="first", maintain_order=True)
    theirs = known.select("_query", _of="_session", _by="_who")
    same = pl.col("_who").is_null() | pl.col("_by").is_null() | (pl.col("_who") == pl.col("_by"))
    joined = named.join(theirs, on="_query", how="left")
    return joined.with_columns(pl.coalesce("_session", pl.when(same).then("_of")).alias("_session")).drop("_of", "_by")


def _with_session_of_shopper(named: pl.DataFrame) -> pl.DataFrame:
    """Assigns a purchase that the server recorded without a session to the session of its shopper."""
    lacks = pl.col("_session").is_null() & pl.col("_who").is_not_null()
    lacking = named.filter(lacks)
    if lacking.is_empty():
        return named
    known = named.filter(pl.col("_session").is_not_null() & pl.col("_who").is_not_null())
    known = known.sort("time", "key").select("_who", "time", _of="_session")
    found = lacking.sort("time").join_asof(known, on="time", by="_who", tolerance=_GAP, check_sortedness=False)
    return pl.concat([named.filter(~lacks), found.with_columns(_session="_of").drop("_of")])


def _with_shopper_of_query(named: pl.DataFrame) -> pl.DataFrame:
    known = named.filter(pl.col("_who").is_not_null() & pl.col("_session").is_null() & pl.col("_query").is_not_null())
    known = known.sort("time", "key").unique("_query", keep="first", maintain_order=True)
    joined = named.join(known.select("_query", _by="_who"), on="_query", how="left")
    nobodys = pl.col("_session").is_null() & pl.col("_who").is_null()
    return joined.with_columns(pl.when(nobodys).then("_by").otherwise("_who").alias("_who")).drop("_by")


def _breaks(*columns: str) -> pl.Expr:
    """Rows at which another owner's events begin, or events of the same owner after a pause."""
    changed = pl.any_horizontal(pl.col(column).ne_missing(pl.col(column).shift(1)) for column in columns)
    return (changed | (pl.col("time").diff() > _GAP)).fill_null(True)


def _without_long(apart: pl.DataFrame) -> pl.DataFrame:
    span = pl.col("time").max() - pl.col("time").min()
    day = pl.col("time").dt.date()
    begins = (pl.col("_part") != pl.col("_part").shift(1)).fill_null(True)
    marked = apart.with_columns(_long=span.over("_part") > LONGEST)
    begins |= pl.col("_long") & (day != day.shift(1))
    return marked.with_columns(_part=begins.fill_null(True).cum_sum())


def _in_order(apart: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    firsts = apart.unique("_part", keep="first", maintain_order=True).sort("time", "key")
    numbers = firsts.select("_part", session_number=pl.int_range(pl.len(), dtype=pl.UInt32))
    joined = apart.join(numbers, on="_part", how="left")
    return joined.select(*columns, "session_number").sort(ORDER)


_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")
_WORD = re.compile(r"[^\W_]+")
_SHORTEST = 4
"""The fewest characters of a text that can be a misspelling of another."""


# Thresholds at which two successive searches belong to one need.

_NEED_GAP = timedelta(minutes=15)
"""The longest pause from the last act on the first search to the second search."""
_SHARED_WORDS = 0.5
"""The lowest share of common words in all words of both (Jaccard)."""
_SPELLING = 0.75
"""The lowest similarity of the texts: one minus the share of changed letters."""
_SHARED_PRODUCTS = 0.2
"""The lowest share of common products in those that the shorter of the two answers showed."""


def add_needs(events: pl.DataFrame) -> pl.DataFrame:
    """The events (with `session_number`, ordered by session and time) with `need` (UInt32), unique over the table.

    Two successive searches of a session are of one need if one contains the other's words (generalised, specialised),
    they share enough words (reformulated), one is a misspelling of the other (the kinds of Jansen, Booth & Spink 2009,
    Patterns of Query Reformulation During Web Searching), or their answers show the same products. Such cues and a
    short pause separate the needs of a session well (Hagen et al. 2013, From Search Session Detection to Search Mission
    Detection; Hassan et al. 2013, Beyond Clicks). An event without a query has the need of the one before it.
    """
    # The query text of an event, or of the answer on which it happened, or null.
    own = pl.when(pl.col("query") != "").then(pl.col("query"))
    of_answer = pl.when(pl.col("query_id") != "").then(own.first(ignore_nulls=True).over("query_id"))
    searched = events.with_row_index("_row").with_columns(_text=pl.coalesce(own, of_answer))
    searches = _searches(searched)
    starts = _searches_of_new_needs(searches, searched)
    marks = searched.join(starts, on="_row", how="left", maintain_order="left")
    begins = pl.col("_new").fill_null(False) | (
        pl.col("session_number") != pl.col("session_number").shift(1)
    ).fill_null(True)
    need = (begins.cum_sum() - 1).cast(pl.UInt32)
    return _by_search(marks.with_columns(need=need), searches).select(*events.columns, "need")


def _searches(searched: pl.DataFrame) -> pl.DataFrame:
    """One row an answer, or text, of a session, in order: `_row` of its first event, and its last time."""
    with_text = searched.filter(pl.col("_text").is_not_null())
    found = with_text.group_by("session_number", "query_id", "_text").agg(
        pl.col("_row").min(), _first=pl.col("time").min(), _last=pl.col("time").max()
    )
    found = found.sort("_row").with_columns(_search=pl.int_range(pl.len(), dtype=pl.UInt32))
    same = pl.col("session_number") == pl.col("session_number").shift(1)
    return found.with_columns(
        _before=pl.when(same).then(pl.col("_text").shift(1)), _pause=pl.col("_first") - pl.col("_last").shift(1)
    )


def _searches_of_new_needs(searches: pl.DataFrame, searched: pl.DataFrame) -> pl.DataFrame:
    follows = searches.filter(pl.col("_before").is_not_null())
    pairs = follows.select("_before", "_text").unique()
    alike = [same_need(before, text) for before, text in pairs.iter_rows()]
    judged = follows.join(pairs.with_columns(_alike=pl.Series(alike, dtype=pl.Boolean)), on=["_before", "_text"])
    judged = judged.join(_shared_products(searches, searched), on="_search", how="left")
    shared = pl.col("_shared").fill_null(0.0) >= _SHARED_PRODUCTS
    new = ~(pl.col("_alike") | shared) | (pl.col("_pause") > _NEED_GAP)
    return judged.select("_row", _new=new)


def _shared_products(searches: pl.DataFrame, searched: pl.DataFrame) -> pl.DataFrame:
    """Share of products that each search has in common with the search before it."""
    shown = searched.filter((pl.col("kind") == "impression") & pl.col("_text").is_not_null())
    keys = ["session_number", "query_id", "_text"]
    shown = shown.join(searches.select("_search", *keys), on=keys).select("_search", "product_id").unique()
    sizes = shown.group_by("_search").len("_size")
    both = shown.join(shown.with_columns(pl.col("_search") + 1), on=["_search", "product_id"])
    counts = both.group_by("_search").len("_both").join(sizes, on="_search")
    counts = counts.join(sizes.select(pl.col("_search") + 1, _other="_size"), on="_search")
    return counts.select("_search", _shared=pl.col("_both") / pl.min_horizontal("_size", "_other"))


def _by_search(marked: pl.DataFrame, searches: pl.DataFrame) -> pl.DataFrame:
    """Gives late events of an answer the answer's need, whatever was searched since."""
    keys = ["session_number", "query_id", "_text"]
    needs = searches.select("_row", *keys).join(marked.select("_row", "need"), on="_row")
    joined = marked.join(needs.select(*keys, _of="need"), on=keys, how="left", maintain_order="left")
    return joined.with_columns(need=pl.coalesce("_of", "need"))


def same_need(one: str, other: str) -> bool:
    """Whether two query texts express the same need."""
    one, other = _plain(one), _plain(other)
    first, second = _terms(one), _terms(other)
    if first <= second or second <= first:
        return bool(first and second) or one == other
    if len(first & second) >= _SHARED_WORDS * len(first | second):
        return True
    # Unspaced text has no long words: one character more or less changes the meaning, and its pairs were compared.
    long_enough = min(len(one), len(other)) >= _SHORTEST and not _UNSPACED.search(one + other)
    return long_enough and OSA.normalized_similarity(one, other) >= _SPELLING


def _plain(query: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", query).casefold().split())


def _terms(plain: str) -> frozenset[str]:
    """The words of a text; in unspaced scripts, pairs of neighbouring characters."""
    runs = [run[0] for run in _UNSPACED.finditer(plain)]
    pairs = [run[at : at + 2] for run in runs for at in range(max(1, len(run) - 1))]
    return frozenset([*pairs, *_WORD.findall(_UNSPACED.sub(" ", plain))])
