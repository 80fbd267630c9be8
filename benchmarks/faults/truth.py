"""What must be true of an index, kept apart from it in plain dictionaries: versions, and every acknowledged change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from retrieval.records import Availability, Product

Fields = Mapping[str, object]
"""A product's fields that the harness changes: title, brand, price, availability, colour."""
Catalog = dict[str, Fields]
"""Fields by product id."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call for a live change: "upsert", "delete" or "patch", with the fields of each product that it names."""

    kind: str
    products: tuple[tuple[str, Fields], ...]

    def applied(self, catalog: Catalog) -> Catalog:
        """A catalog after the call."""
        changed = dict(catalog)
        for product_id, fields in self.products:
            match self.kind:
                case "upsert":
                    changed[product_id] = fields
                case "delete":
                    changed.pop(product_id, None)
                case _ if product_id in changed:
                    changed[product_id] = {**changed[product_id], **fields}
        return changed


@dataclass(frozen=True, slots=True)
class Version:
    """A version as it was built: what the feed said, what was published, how many changes were folded in."""

    feed: Catalog
    products: Catalog
    folded: int
    encoder: str


@dataclass(slots=True)
class Truth:
    """The versions of an index, the calls that were acknowledged, and what is harmed."""

    versions: dict[str, Version] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    current: str = ""
    """The version that the pointer names; nothing where the pointer is harmed."""
    harmed: set[str] = field(default_factory=set)
    """Versions with a harmed file of their own."""
    harmed_encoders: set[str] = field(default_factory=set)

    @property
    def serving(self) -> str:
        """The version to serve: the current one, else the newest whole one, else one that lacks its encoder alone."""
        order = [name for name in (self.current, *sorted(self.versions, reverse=True)) if name in self.versions]
        whole = [name for name in order if name not in self.harmed]
        return next((name for name in whole if not self.lacks_encoder(name)), whole[0])

    @property
    def next_name(self) -> str:
        """The name of the next version."""
        return f"v{max((int(name[1:]) for name in self.versions), default=0) + 1:06d}"

    @property
    def whole(self) -> list[str]:
        """The versions without a harmed file of their own, oldest first."""
        return sorted(self.versions.keys() - self.harmed)

    def lacks_encoder(self, name: str) -> bool:
        """Whether a version can be searched by words alone."""
        return self.versions[name].encoder in self.harmed_encoders

    def served(self, name: str) -> Catalog:
        """A version with all later changes on top."""
        version = self.versions[name]
        catalog = version.products
        for call in self.calls[version.folded :]:
            catalog = call.applied(catalog)
        return catalog

    def rebuilt(self, feed: Catalog, encoder: str) -> Version:
        """The version that a rebuild makes of a feed now: a live value stands until the feed has another one."""
        before, live = self.versions[self.serving].feed if self.versions else {}, {}
        if self.versions:
            live = self.served(self.serving)
        merged = {each: _merged(before.get(each), live.get(each), feed.get(each)) for each in {*feed, *live}}
        products = {product_id: fields for product_id, fields in merged.items() if fields is not None}
        return Version(feed, products, len(self.calls), encoder)

    def copy(self) -> Truth:
        """The same, to be changed apart."""
        return replace(
            self,
            versions=dict(self.versions),
            calls=list(self.calls),
            harmed=set(self.harmed),
            harmed_encoders=set(self.harmed_encoders),
        )


def _merged(base: Fields | None, live: Fields | None, feed: Fields | None) -> Fields | None:
    if base == feed:
        return live
    if base is None or live is None or feed is None:
        return feed
    return {name: live[name] if base[name] == feed[name] else feed[name] for name in feed}


def product_of(product_id: str, fields: Fields) -> Product:
    """The product that has these fields."""
    return Product(
        product_id,
        str(fields["title"]),
        brand=str(fields["brand"]),
        price=float(str(fields["price"])),
        availability=Availability(str(fields["availability"])),
        attributes={"colour": str(fields["colour"])},
        language="en",
    )
