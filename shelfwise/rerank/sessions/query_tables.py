"""Derived tables of queries: answers, categories, reformulations, statistics, and training labels with the weights of
clicks, carts and purchases in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import polars as pl

from shelfwise.rerank.click_models.click_log import query_texts
from shelfwise.rerank.click_models.labels import SIGNALS, click_labels
from shelfwise.rerank.sessions.decay import ACT_COUNTS, COUNT_PARTIAL, add_trend, counted, exact_sum
from shelfwise.rerank.sessions.partitions import WHO, Context, DailyPartial, PartialReader, TableMaker
from shelfwise.rerank.sessions.product_tables import add_category, weighted_acts

_LATER = ("cart", "purchase")


def normalise_queries(queries: Iterable[str]) -> list[str]:
    """Query texts in lower case with single blanks, the form in which they are counted."""
    return [" ".join(query.casefold().split()) for query in queries]


def _answers(events: pl.DataFrame) -> pl.DataFrame:
    shows_lists = bool((events["kind"] == "impression").any())
    answered = _move_to_query(attribute_to_answers(events).filter(pl.col("query_id") != ""))
    kind, query = pl.col("kind"), pl.col("query")
    answers = answered.group_by("session_number", "query_id").agg(
        pl.col(WHO).first(),
        pl.col("need").first(),
        query.filter(query != "").first().fill_null("").alias("spelling"),
        pl.col("time").first().alias("start"),
        kind.is_in(("query", "impression")).any().alias("searched"),
        (kind == "query").any().alias("requested"),
        pl.col("results").max(),
        counted("impression").alias("impressions"),
        counted("click").alias("clicks"),
        pl.col("position").filter(kind == "click").first().alias("first_click"),
        counted("cart").alias("carts"),
        counted("purchase").alias("purchases"),
    )
    answers = answers.filter(pl.col("spelling") != "")
    found_nothing = pl.col("results").fill_null(0 if shows_lists else -1) == 0
    empty = pl.col("requested") & found_nothing & (pl.col("results").is_not_null() | (pl.col("impressions") == 0))
    answers = _with_normalised(answers).with_columns(empty=empty)
    following = pl.col("query").shift(-1).over("session_number", "need", order_by=["start", "query_id"])
    answers = answers.with_columns(following=pl.when(following != pl.col("query")).then(following))
    return answers.drop("requested", "results").sort("session_number", "start", "query_id")


def _with_normalised(answers: pl.DataFrame) -> pl.DataFrame:
    spellings = answers["spelling"].unique().to_list()
    known = {"spelling": spellings, "query": normalise_queries(spellings)}
    schema = {"spelling": pl.String, "query": pl.String}
    return answers.join(pl.DataFrame(known, schema=schema), on="spelling", how="left")


def attribute_to_answers(events: pl.DataFrame) -> pl.DataFrame:
    """The events, in order. Carts and purchases without an answer get the last answer of their session on which their
    product was clicked."""
    lacking = pl.col("kind").is_in(_LATER) & (pl.col("query_id") == "")
    rows = events.with_row_index("_row")
    clicks = rows.filter((pl.col("kind") == "click") & (pl.col("query_id") != "")).sort("time", "_row")
    of_click = clicks.select("session_number", "product_id", "time", _answer="query_id")
    by = ["session_number", "product_id"]
    found = rows.filter(lacking).sort("time").join_asof(of_click, on="time", by=by, check_sortedness=False)
    answer = pl.coalesce("_answer", "query_id")
    joined = rows.join(found.select("_row", "_answer"), on="_row", how="left", maintain_order="left")
    return joined.with_columns(query_id=answer).drop("_row", "_answer")


def _move_to_query(answered: pl.DataFrame) -> pl.DataFrame:
    """Events with an answer, by session. Events in a session that lacks the answer's query text, such as a purchase
    that the server records an hour later, move to the end of the first session that has it."""
    searched = answered.filter(pl.col("query") != "")
    there = searched.select("session_number", "query_id", _own="session_number").unique()
    first = searched.group_by("query_id").agg(_elsewhere=pl.col("session_number").min())
    joined = answered.join(there, on=["session_number", "query_id"], how="left", maintain_order="left")
    joined = joined.join(first, on="query_id", how="left", maintain_order="left")
    session_number = pl.coalesce("_own", "_elsewhere", "session_number")
    moved = joined.with_columns(session_number=session_number, _joins=pl.col("_own").is_null())
    return moved.sort("session_number", "_joins", "time", maintain_order=True).drop("_own", "_elsewhere", "_joins")


def _query_products(events: pl.DataFrame) -> pl.DataFrame:
    queries = _answers(events).select("session_number", "query_id", "query")
    acts = _move_to_query(attribute_to_answers(events)).filter(pl.col("kind").is_in(("click", "consultation", *_LATER)))
    acts = acts.select("session_number", "query_id", WHO, "product_id", "kind").join(
        queries, on=["session_number", "query_id"]
    )
    return acts.group_by("query", "product_id", WHO).agg(**ACT_COUNTS).sort("query", "product_id", WHO)


ANSWER_PARTIAL = DailyPartial("answers", _answers, version=2)
"""One row an answer: session, query_id, who, need (the day's numbers), query (normalised), spelling, start (time of its
first event), searched (it has a query or impressions), empty (nothing was found), impressions, clicks, first_click
(position), carts, purchases, following (the need's next different query, or null). Browsed pages are left out."""
QUERY_PRODUCT_PARTIAL = DailyPartial("query_products", _query_products, version=2)
"""Acts on the answers of a query: query (normalised), product_id, who, clicks, consultations, carts, purchases."""


def _sales(events: pl.DataFrame) -> pl.DataFrame:
    bought = attribute_to_answers(events).filter(pl.col("kind") == "purchase")
    queries = _answers(events).select("query_id", "query").unique("query_id", keep="first", maintain_order=True)
    named = bought.drop("query").join(queries, on="query_id", how="left").with_columns(pl.col("query").fill_null(""))
    units = pl.col("quantity").fill_null(1).cast(pl.UInt32).sum()
    sales = named.group_by("query", "product_id", WHO).agg(purchases=_number(pl.len()), units=units.cast(pl.UInt32))
    return sales.sort("query", "product_id", WHO)


SALES_PARTIAL = DailyPartial("sales", _sales)
"""query (normalised; empty for purchases not from a search), product_id, who, purchases, units."""


def daily_tables(read: PartialReader, _: Context) -> Mapping[str, pl.DataFrame]:
    """The tables `daily_searches`, `daily_sales` and `daily_products`: the partials of all days in one file each, so
    that a range of days is read at once."""
    searches = read(ANSWER_PARTIAL).filter("searched")
    return {
        "daily_searches": searches.select("day", "query", "spelling", WHO, "empty", "clicks", "carts", "purchases"),
        "daily_sales": read(SALES_PARTIAL),
        "daily_products": read(COUNT_PARTIAL),
    }


DAILY = TableMaker("daily_searches", (ANSWER_PARTIAL, SALES_PARTIAL, COUNT_PARTIAL), daily_tables)


_CATEGORY_PRIOR = 10.0
"""The weight of the prior shares of categories in a query's shares, in acts."""


def query_categories(read: PartialReader, context: Context) -> pl.DataFrame:
    """One row a query (normalised) and category (the whole path), most likely first. Rows with too few shoppers are
    left out, so the probabilities of a query can add up to less than 1.

    P(category | query) = (w + m P(category)) / (W + m): w is the weight of the query's acts in the category, W of all
    its acts, m is `_CATEGORY_PRIOR`, P(category) the share of all queries' acts. This is Dirichlet smoothing
    (Zhai & Lafferty 2004, A Study of Smoothing Methods for Language Models, section 3). Empty without a catalog.
    """
    options = context.options
    acts = add_category(read(QUERY_PRODUCT_PARTIAL), context.products).filter(pl.col("category") != "")
    weight = exact_sum(weighted_acts())
    table = acts.group_by("query", "category").agg(weight=weight, shoppers=pl.col(WHO).n_unique().cast(pl.UInt32))
    of_all = float(acts.select(weight).item())
    general = acts.group_by("category").agg(prior=weight).with_columns(pl.col("prior") / of_all)
    whole = acts.group_by("query").agg(whole=weight)
    table = table.join(general, on="category").join(whole, on="query")
    smoothed = (pl.col("weight") + _CATEGORY_PRIOR * pl.col("prior")) / (pl.col("whole") + _CATEGORY_PRIOR)
    frequent = table.with_columns(probability=smoothed).filter(pl.col("shoppers") >= options.least_shoppers)
    ordered = frequent.sort("query", "probability", "category", descending=[False, True, False])
    return ordered.select("query", "category", "weight", "shoppers", "probability")


QUERY_CATEGORIES = TableMaker("query_categories", (QUERY_PRODUCT_PARTIAL,), query_categories)


def _page_questions(events: pl.DataFrame) -> pl.DataFrame:
    typed = events.filter((pl.col("kind") == "query") & (pl.col("product_id") != ""))
    named = _with_normalised(typed.select("product_id", WHO, spelling="query"))
    return named.group_by("query", "product_id", WHO).agg(_number(pl.len()).alias("times")).sort(pl.all())


def page_questions(read: PartialReader, context: Context) -> pl.DataFrame:
    """Questions on product pages: one row a query (normalised) and product, most frequent first; rows with too few
    shoppers are left out."""
    counts = _number(pl.col("times").sum()), _number(pl.col(WHO).n_unique()).alias("shoppers")
    table = read(PAGE_QUESTION_PARTIAL).group_by("query", "product_id").agg(*counts)
    frequent = table.filter(pl.col("shoppers") >= context.options.least_shoppers)
    return frequent.sort("times", "query", "product_id", descending=[True, False, False])


PAGE_QUESTION_PARTIAL = DailyPartial("page_questions", _page_questions)
"""Queries typed on a product's page: query (normalised), product_id, who, times."""
PAGE_QUESTIONS = TableMaker("page_questions", (PAGE_QUESTION_PARTIAL,), page_questions)


_CHAIN = ("day", "session_number", "need")
_ENDS = ("purchases", "carts", "clicks")
"""Kinds of acts, from the furthest to the nearest."""


def reformulations(read: PartialReader, context: Context) -> pl.DataFrame:
    """Queries and the queries that replaced them for the same need: one row a pair, most frequent first; pairs with too
    few shoppers are left out.

    A chain ends with the furthest act on any of its answers from the second query of the pair on. `purchased`, `carted`
    and `clicked` count chains; a chain counts under at most one of the three. A chain that alternates between two
    queries counts once for each direction, from the first time on.
    """
    answers = read(ANSWER_PARTIAL).sort(*_CHAIN, "start", "query_id")
    later = [pl.col(end).reverse().cum_sum().reverse().shift(-1).over(_CHAIN).fill_null(0).alias(end) for end in _ENDS]
    pairs = answers.with_columns(*later).filter(pl.col("following").is_not_null())
    pairs = pairs.unique([*_CHAIN, "query", "following"], keep="first", maintain_order=True)
    purchased, carted, clicked = (pl.col(end) > 0 for end in _ENDS)
    table = pairs.group_by("query", "following").agg(
        _number(pl.len()).alias("count"),
        _number(pl.col(WHO).n_unique()).alias("shoppers"),
        _number(purchased.sum()).alias("purchased"),
        _number((carted & ~purchased).sum()).alias("carted"),
        _number((clicked & ~carted & ~purchased).sum()).alias("clicked"),
    )
    frequent = table.filter(pl.col("shoppers") >= context.options.least_shoppers)
    ordered = frequent.sort("count", "query", "following", descending=[True, False, False])
    return ordered.rename({"following": "to_query"})


def _number(count: pl.Expr) -> pl.Expr:
    return count.cast(pl.UInt32)


REFORMULATIONS = TableMaker("reformulations", (ANSWER_PARTIAL,), reformulations)


_SUMS = ("impressions", "clicks", "carts", "purchases")


def query_statistics(read: PartialReader, context: Context) -> pl.DataFrame:
    """Counts and rates of queries: one row a query (normalised), most searched first; queries with too few shoppers are
    left out."""
    options = context.options
    answers = read(ANSWER_PARTIAL)
    searched = answers.filter("searched")
    daily = searched.group_by("query", "day").agg(searches=pl.len())
    trends = add_trend(daily, "query", pl.col("searches"), context.window).select("query", "trend")
    sums = answers.group_by("query").agg(pl.col(_SUMS).sum())
    table = searched.group_by("query").agg(
        _number(pl.len()).alias("searches"),
        _number(pl.col(WHO).n_unique()).alias("shoppers"),
        _number((pl.col("clicks") > 0).sum()).alias("clicked"),
        # Sums of integers do not depend on the order of the days.
        _share(pl.col("first_click").cast(pl.Int64).sum(), pl.col("first_click").count()).alias("mean_first_click"),
        _number(pl.col("empty").sum()),
        _number(pl.col("following").is_not_null().sum()).alias("reformulated"),
    )
    table = table.filter(pl.col("shoppers") >= options.least_shoppers)
    table = table.join(sums, on="query").join(trends, on="query").join(_spellings(searched), on="query")
    ordered = table.sort("searches", "query", descending=[True, False])
    return ordered.select(
        "query",
        "spelling",
        "searches",
        "shoppers",
        *_SUMS,
        _share(pl.col("clicks"), pl.col("impressions")).alias("ctr"),
        _share(pl.col("clicked"), pl.col("searches")).alias("clicked_share"),
        "mean_first_click",
        "empty",
        _share(pl.col("reformulated"), pl.col("searches")).alias("reformulated_share"),
        "trend",
    )


def _share(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    """The ratio; null if the whole is 0."""
    return pl.when(whole > 0).then(part / whole)


def _spellings(answers: pl.DataFrame) -> pl.DataFrame:
    """The most frequent spelling of each query; of equally frequent ones, the first."""
    counts = answers.group_by("query", "spelling").len()
    ordered = counts.sort("query", "len", "spelling", descending=[False, True, False])
    return ordered.unique("query", keep="first").select("query", "spelling")


QUERIES = TableMaker("queries", (ANSWER_PARTIAL,), query_statistics)


_KINDS = ("impression", "click", "cart", "purchase")
_ORDER = ("time", "query_id", "position", "product_id", "kind")
_COLUMNS = (*_ORDER, "query", "shopper", WHO)


def _lists(events: pl.DataFrame) -> pl.DataFrame:
    """Impressions and acts of each search. Browsed pages have no query and are left out."""
    answered = attribute_to_answers(events).filter(pl.col("query_id") != "")
    words = query_texts(answered)
    words = words.with_columns(query=pl.Series(normalise_queries(words["query"].to_list()), dtype=pl.String))
    done = answered.filter(pl.col("kind").is_in(_KINDS)).drop("query").join(words, on="query_id", how="left")
    # Acts on an answer of the previous day have no query text on their own day.
    done = done.filter((pl.col("kind") != "impression") | pl.col("query").is_not_null())
    return done.with_columns(pl.col("query").fill_null("")).select(_COLUMNS).sort(_ORDER)


def labels(read: PartialReader, _: Context) -> Mapping[str, pl.DataFrame]:
    """The tables `labels` and `label_weights`; for the columns of `labels`, see
    `shelfwise.rerank.click_models.labels.ClickLabels`.

    Rows with few shoppers are kept, since labels are used only for training.
    """
    made = click_labels(add_own_ids(read(LIST_PARTIAL)))
    weights = pl.DataFrame({"signal": SIGNALS, "weight": made.weights.values}).with_columns(
        fitted=pl.lit(made.weights.fitted),
        purchases=pl.lit(made.weights.purchases, pl.UInt32),
        unattributed=pl.lit(made.unattributed, pl.UInt32),
    )
    return {"labels": made.table.sort("query", "product_id"), "label_weights": weights}


def add_own_ids(lists: pl.DataFrame) -> pl.DataFrame:
    """The rows of `LIST_PARTIAL` with ids that are unique over days, ordered by time: some stores number their answers
    from 1 each day. An act belongs to the last answer with its id that was shown up to the act's day.
    """
    shown = lists.filter(pl.col("kind") == "impression").select("query_id", "day", _of="day").unique().sort("day")
    found = lists.sort("day").join_asof(shown, on="day", by="query_id", check_sortedness=False)
    own = pl.format("{}/{}", pl.coalesce("_of", "day"), "query_id")
    return found.with_columns(query_id=own).select(_COLUMNS).sort(_ORDER)


LIST_PARTIAL = DailyPartial("lists", _lists, version=4)
"""time, query_id, position, product_id, kind, query (normalised; empty for acts on an answer that the day does not
have), shopper (empty if not known)."""
LABELS = TableMaker("labels", (LIST_PARTIAL,), labels)
