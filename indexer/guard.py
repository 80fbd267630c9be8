"""What keeps a broken feed from replacing a good catalog: limits on what a publish may lose."""

from __future__ import annotations

from retrieval.errors import PublishRefusedError

MOST_REJECTED = 0.05
"""Share of the rows read that may be set aside."""
MOST_LOST = 0.20
"""Share by which the number of products may fall against the version that serves."""


def check_publish(read: int, rejected: int, products: int, served: int | None) -> None:
    """Raises PublishRefusedError, with both numbers, where a publish would lose more than it may.

    `read` and `rejected` count rows, `products` and `served` products: of the new version and of the one that serves.
    """
    if rejected > MOST_REJECTED * read:
        share = rejected / read
        raise PublishRefusedError(
            f"{rejected:,} of {read:,} rows ({share:.1%}) were set aside, more than {MOST_REJECTED:.0%}; nothing was "
            "published: repair the feed (the rows are in rejected.jsonl), or publish all the same with --force"
        )
    if served is not None and products < (1 - MOST_LOST) * served:
        share = 1 - products / served
        raise PublishRefusedError(
            f"the feed has {products:,} products, the version that serves has {served:,}: {share:.1%} would go, more "
            f"than {MOST_LOST:.0%}; nothing was published: check the feed, or publish all the same with --force"
        )
