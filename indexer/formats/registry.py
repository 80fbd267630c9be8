"""All formats, and which one a feed has: told by its first bytes and its header, never by its name."""

from __future__ import annotations

from collections.abc import Mapping

from indexer.formats.columns import CSV, first_line, opened_table
from indexer.formats.format import Feed, Format
from indexer.formats.google import GOOGLE_TEXT, google_name, resembles_google
from indexer.formats.google_xml import GOOGLE_XML
from indexer.formats.jsonarray import JSON_ARRAY
from indexer.formats.jsonlines import JSON_LINES, REJECTED, is_rejected
from indexer.formats.parquet import PARQUET
from indexer.formats.shopify import SHOPIFY, resembles_shopify
from indexer.formats.woocommerce import WOOCOMMERCE, resembles_woocommerce
from indexer.lines import Source
from retrieval.close_names import close_names
from retrieval.errors import FeedError

FORMATS: Mapping[str, Format] = {
    one.name: one
    for one in (
        GOOGLE_XML,
        GOOGLE_TEXT,
        SHOPIFY,
        WOOCOMMERCE,
        JSON_LINES,
        JSON_ARRAY,
        CSV,
        PARQUET,
        REJECTED,
    )
}


def format_named(name: str) -> Format:
    """A format by its name. Raises FeedError for an unknown one, naming those that there are."""
    if name in FORMATS:
        return FORMATS[name]
    close = close_names(name, list(FORMATS))
    advice = f"did you mean {' or '.join(close)}?" if close else f"the formats are {', '.join(FORMATS)}"
    raise FeedError(f"--format {name}: there is no such format; {advice}")


def recognised(feed: Feed) -> Format:
    """The format of a feed. An empty one is JSON lines without a line. Raises FeedError for what is none."""
    source = feed.source
    if source.head.startswith(b"PAR1"):
        return PARQUET
    start = source.head.lstrip()
    if not start:
        return JSON_LINES
    if start.startswith(b"<"):
        return GOOGLE_XML
    if start.startswith(b"["):
        return JSON_ARRAY
    if start.startswith(b"{"):
        return REJECTED if is_rejected(start.split(b"\n", 1)[0]) else JSON_LINES
    return _table_format(feed, source)


def _table_format(feed: Feed, source: Source) -> Format:
    table = opened_table(feed, fewest=2)
    if table is None:
        raise FeedError(
            f"{source.path}: line 1: cannot be recognised: {first_line(source.head)} begins no JSON, no XML and no "
            f"table with a header; say what it is with --format ({', '.join(FORMATS)})"
        )
    if resembles_shopify(table.names):
        return SHOPIFY
    if resembles_woocommerce(table.names):
        return WOOCOMMERCE
    if resembles_google([google_name(name) for name in table.names]):
        return GOOGLE_TEXT
    return CSV
