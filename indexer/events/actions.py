"""What shops call the things that shoppers do, by the kind of event that each is."""

from __future__ import annotations

from collections.abc import Mapping

from retrieval.events.event import EventKind

_NAMES = {
    EventKind.QUERY: "search on_search user_query",
    EventKind.IMPRESSION: "impressions view view_item_list item_view_list shown",
    EventKind.CLICK: "clicked product_click item_click result_click select_item click_through",
    EventKind.CONSULTATION: "view_item product_view item_view page_view detail_view details",
    EventKind.CART: "add_to_cart addtocart cart_add add_cart",
    EventKind.REMOVAL: "remove_from_cart removefromcart cart_remove remove_cart return refund",
    EventKind.PURCHASE: "purchased product_purchase item_purchase buy order checkout transaction",
    EventKind.RATING: "rate review stars",
}
KNOWN_ACTIONS: Mapping[str, EventKind] = {
    name: kind for kind, names in _NAMES.items() for name in (kind.value, *names.split())
}
"""Names in small letters, with underscores between words.

A bare `view` is taken for the least that it may mean: an impression taken for a click would teach what nobody chose.
"""


def plain_action(name: str) -> str:
    """A name as `KNOWN_ACTIONS` spells it: `Add to cart` and `add-to-cart` are add_to_cart."""
    return "_".join(name.lower().replace("-", " ").split())
