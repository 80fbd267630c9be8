"""What a service under load has said: what it took, and what its pages showed. And whether all of that is so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import msgspec

Row = Mapping[str, Any]
_RESENT = 1_000
"""Events of one request."""
_IMAGES = "https://example.com/edition-"


@dataclass(slots=True)
class Ledger:
    """Written by one thread."""

    products: dict[str, float | None] = field(default_factory=dict)
    """The price of each product whose change was acknowledged last; None for one that was taken away."""
    unsure: set[str] = field(default_factory=set)
    """Products whose last change was neither acknowledged nor refused: it may be there, or not."""
    changes: int = 0
    """Acknowledged."""
    events: list[Row] = field(default_factory=list)
    """Acknowledged."""
    editions: dict[str, str] = field(default_factory=dict)
    """Of each version of the index that answered, which edition of the feed its first page showed."""
    mixed: int = 0
    """Pages with products of another edition than their version's."""
    stale: int = 0
    """Reads that did not show a change that had been acknowledged before."""

    def take_change(self, product: str, price: float | None) -> None:
        """A change was acknowledged."""
        self.changes += 1
        self.products[product] = price
        self.unsure.discard(product)

    def look_at_page(self, page: Row) -> None:
        """Compares the products of a page with its version: in one version all are of one edition of the feed."""
        shown = set(_editions(page["hits"]))
        if shown and {self.editions.setdefault(page["version"], min(shown))} != shown:
            self.mixed += 1

    def look_at_product(self, product: str, status: int, body: bytes) -> None:
        """Compares a product that was read with what was acknowledged of it; a refusal to read tells nothing."""
        if not self._agrees(product, status, body):
            self.stale += 1

    def lost_changes(self, address: str) -> int:
        """How many products are not, in the service at `address`, what was acknowledged."""
        with httpx2.Client(base_url=address, timeout=30.0) as client:
            return sum(not self._agrees(each, *_read(client, each)) for each in self.products)

    def lost_events(self, address: str) -> int:
        """Sends all events again: what is taken as new had been lost."""
        lost = 0
        with httpx2.Client(base_url=address, timeout=120.0) as client:
            for first in range(0, len(self.events), _RESENT):
                events = self.events[first : first + _RESENT]
                answer = client.post("/v1/events", json={"events": events}).raise_for_status().json()
                lost += answer["taken"]
        return lost

    def _agrees(self, product: str, status: int, body: bytes) -> bool:
        wanted = self.products.get(product)
        if product in self.unsure or product not in self.products:
            return True
        if status not in (200, 404):
            return True
        if status == 404:
            return wanted is None
        return bool(msgspec.json.decode(body)["product"]["price"] == wanted)


def write_edition(folder: Path, rows: Sequence[Row], edition: int) -> Path:
    """A feed of `rows`, each with its edition as its image: a field that is shown, and that is not encoded."""
    path, images = folder / f"edition-{edition}.jsonl", [f"{_IMAGES}{edition}"]
    path.write_bytes(b"".join(msgspec.json.encode({**row, "images": images}) + b"\n" for row in rows))
    return path


def _editions(hits: Iterable[Row]) -> Iterator[str]:
    """What came live has none."""
    return (image for hit in hits for image in hit["product"].get("images", ())[:1] if image.startswith(_IMAGES))


def _read(client: httpx2.Client, product: str) -> tuple[int, bytes]:
    """Raises HTTPStatusError where it is neither told nor said to be gone."""
    answer = client.get(f"/v1/products/{product}")
    if answer.status_code != 404:
        answer.raise_for_status()
    return answer.status_code, answer.content
