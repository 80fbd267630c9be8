"""Sponsored hits of a search: the advertised products that are relevant enough, their auction, and their clicks.

Relevance is decided first, by the search alone: a product is eligible only if it is one of the candidates (so that it
passes the filters and the rules), is available, has every word of the query, is of the type that the query names, like
the first hits, has every value and the price that it names, and reaches every relevance floor. Bids come after.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, cached_property, partial
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from shelfwise.rerank.ranker.memory import QueryMemory, product_hashes
from shelfwise.retrieval.errors import StoreError
from shelfwise.retrieval.events.addresses import AddressPseudonyms
from shelfwise.retrieval.events.stored import SPONSORED_MARK, StoredEvent
from shelfwise.retrieval.index.keyword import Rows
from shelfwise.retrieval.index.vectors import NearestRows
from shelfwise.retrieval.records import SponsoredHit
from shelfwise.retrieval.store.manifest import EVENTS_FOLDER
from shelfwise.retrieval.text.product_types import type_synonyms
from shelfwise.service.curation.exposure import DelayedCounts
from shelfwise.service.curation.sqlite_file import day_of, to_microseconds, wall_clock
from shelfwise.service.engine.editors import CompiledEditor
from shelfwise.service.engine.ranking import Ranking, Sponsor
from shelfwise.service.engine.related import SimilarSponsor
from shelfwise.service.engine.request import STAGES, ResolvedRequest, SearchRequest
from shelfwise.service.engine.snapshot import Snapshot
from shelfwise.service.events.hot_reload import ReloadedFile
from shelfwise.service.settings import Settings, SponsoredSettings
from shelfwise.service.sponsored.auction import Bid, award_places, bucket_of
from shelfwise.service.sponsored.campaign import LOWEST_FLOOR, MICROS, Campaign, CampaignStore, to_micros
from shelfwise.service.sponsored.ledger import (
    NO_SPENDING,
    Ledger,
    Offer,
    Spending,
    query_subject,
    seal_offer,
    text_hash,
)

SHOPPER_ADDRESS: ContextVar[str] = ContextVar("shopper address", default="")
"""The address or network of the shopper of the current request; empty if a program of the store sends it."""
_HEAD = 10
"""Number of first hits whose agreement with the named type an advertised product must have."""
_MIN_AGREEMENT = 0.5
"""Minimum agreement with the type that a query names."""
_DAY_MICROS = 86_400 * MICROS
_MAX_NAMED = 3


@dataclass(frozen=True, slots=True, eq=False)
class EligibleProducts:
    """The n advertised products of a search that are relevant enough."""

    rows: Rows
    """Rows of the products (n,)."""
    ids: Sequence[str]
    relevance: NDArray[np.float64]
    """Similarity in deviations above that of unrelated products (n,)."""


class CompiledCampaigns:
    """The campaigns of an index, compiled for the searches of one version."""

    def __init__(self, campaigns: Sequence[Campaign], snapshot: Snapshot) -> None:
        self.by_id = {each.id: each for each in campaigns}
        self.of_product: dict[str, list[Campaign]] = {}
        self._advertiser_floors: dict[str, float] = {}
        self._product_floors: dict[str, float] = {}
        for each in campaigns:
            lowest = self._advertiser_floors.get(each.advertiser, LOWEST_FLOOR)
            self._advertiser_floors[each.advertiser] = max(lowest, each.floor)
            for product, floor in each.product_floors.items():
                self._product_floors[product] = max(self._product_floors.get(product, LOWEST_FLOOR), floor)
            for product in each.products if each.enabled else ():
                self.of_product.setdefault(product, []).append(each)
        self._snapshot = snapshot

    @cached_property
    def faults(self) -> Mapping[str, str]:
        """The products of campaigns that the version does not have, by campaign."""
        found = {}
        for name, campaign in self.by_id.items():
            gone = [each for each in campaign.products if self._snapshot.products.row_of(each) is None]
            if gone:
                more = f" and {len(gone) - _MAX_NAMED:,} more" if len(gone) > _MAX_NAMED else ""
                found[name] = f"no product has the id {', '.join(gone[:_MAX_NAMED])}{more}"
        return found

    @cached_property
    def _targets(self) -> Mapping[str, tuple[Sequence[frozenset[str]], frozenset[int]]]:
        """The terms of each query and the numbers of the types of a campaign."""
        groups, number_of = self._snapshot.analyzer.groups, self._snapshot.types.number_of
        return {
            each.id: (
                [frozenset(term for group in groups(text) for term in group.alternatives[0]) for text in each.queries],
                frozenset(map(number_of, each.types)) - {-1},
            )
            for each in self.by_id.values()
        }

    def floor(self, product: str) -> float:
        """The higher one of the floors of a product and of its advertiser."""
        advertisers = {each.advertiser for each in self.of_product[product]}
        own = self._product_floors.get(product, LOWEST_FLOOR)
        return max([own, *map(self._advertiser_floors.__getitem__, advertisers)])

    def targets(self, campaign: Campaign, terms: frozenset[str], named: Callable[[], frozenset[int]]) -> bool:
        """Whether a campaign targets a query with these terms that names types with these numbers."""
        if not (campaign.queries or campaign.types):
            return True
        queries, types = self._targets[campaign.id]
        return any(bool(each) and each <= terms for each in queries) or (bool(types) and bool(types & named()))


class EngineCampaigns(CompiledEditor[Campaign, CompiledCampaigns]):
    """The sponsored campaigns of an engine's index, and their hits in searches: follows campaigns and budgets, runs the
    auctions, counts impressions and charges clicks. Thread-safe.

    >>> engine.campaigns.put([Campaign("drills", "acme", ("p1", "p2"), bid=0.40, daily_budget=20.0)], who="m7")
    >>> engine.campaigns.ledger.entries("acme")
    """

    def __init__(
        self,
        root: Path,
        snapshot: Callable[[], Snapshot],
        memory: Callable[[], QueryMemory],
        is_on: Callable[[], bool],
        *,
        clock: Callable[[], datetime] = wall_clock,
    ) -> None:
        """`is_on` is the switch of sponsored hits."""
        super().__init__(CampaignStore(root, clock=clock), snapshot, CompiledCampaigns)
        self._ledger = Ledger(root, clock=clock)
        self._spending: ReloadedFile[Spending] = ReloadedFile(
            self._ledger.path,
            lambda _: self._ledger.spending(),
            NO_SPENDING,
            "the spending of campaigns is outdated",
            keeps_value=True,
        )
        self._addresses = AddressPseudonyms(root / EVENTS_FOLDER)
        self._memory = memory
        self._is_on = is_on
        self._clock = clock
        self._key = b""
        self._shown: DelayedCounts[Offer, int] = DelayedCounts(
            self._ledger.add_shown, operator.add, "sponsored hits are not counted", clock
        )

    @property
    def notices(self) -> tuple[str, ...]:
        """Reasons why campaigns or budgets are outdated, or why nothing is counted."""
        return (*super().notices, *self._spending.notices, *self._shown.notices)

    @property
    def faults(self) -> Mapping[str, str]:
        """The products of campaigns that the serving version does not have, by campaign."""
        return self.compiled(self._snapshot()).faults

    @property
    def spending(self) -> Spending:
        """The spending of campaigns, and the click rates of sponsored hits."""
        return self.ledger.spending()

    @property
    def ledger(self) -> Ledger:
        """The charges of clicks, with all impressions so far counted."""
        self.flush()
        return self._ledger

    def details(self, _product: str = "", /) -> Mapping[str, object]:
        """Whether searches have sponsored hits, and the state of each campaign by id."""
        states = campaign_states(self.list(), self.spending, datetime.now(UTC))
        return {"enabled": self._is_on(), "states": states}

    def reload_if_changed(self, snapshot: Snapshot) -> None:
        """Loads changed campaigns and charges, and stores impressions."""
        super().reload_if_changed(snapshot)
        self._spending.reload_if_changed()
        self._shown.write_if_due()

    def sponsor(self, request: SearchRequest, snapshot: Snapshot, settings: Callable[[], Settings]) -> Sponsor | None:
        """Places the sponsored hits of a search; None if it gets none."""
        is_first = request.sponsored and request.page == 1 and request.size > 0
        if not is_first or request.sort or request.stage not in STAGES[2:] or not self._is_on():
            return None
        return partial(self.place, snapshot, settings().sponsored)

    def similar_sponsor(self, snapshot: Snapshot, settings: Callable[[], Settings]) -> SimilarSponsor | None:
        """Places the sponsored hits shown with similar products; None if they are switched off."""
        return partial(self.place_similar, snapshot, settings().sponsored) if self._is_on() else None

    def place(
        self,
        snapshot: Snapshot,
        settings: SponsoredSettings,
        ranking: Ranking,
        request: ResolvedRequest,
        least: float,
        buried: Rows,
    ) -> tuple[SponsoredHit, ...]:
        """The sponsored hits of a search, by an auction among the eligible products that no rule buries; `least` is the
        cosine below which nothing in the store's catalog fits a query."""
        campaigns = self.compiled(snapshot)
        is_empty = not ranking.total or ranking.nothing_fits or request.unavailable
        # While the last word may be incomplete, the meaning of the query is not known.
        texts = [each.text for each in request.begun]
        if not campaigns.of_product or is_empty or (texts and texts != [request.typed]):
            return ()
        found = eligible_products(snapshot, ranking, request, campaigns, settings.floor, least, buried)
        if not found.ids:
            return ()
        known = self._memory().posteriors(ranking.text, product_hashes(found.ids))
        terms, named = snapshot.analyzer.analyze(request.text).terms, cache(partial(_named_types, snapshot, request))
        is_target = partial(campaigns.targets, terms=terms, named=named)
        return self._awarded(snapshot, settings, found, known.shape / known.rate, is_target, ranking.text)

    def place_similar(
        self, snapshot: Snapshot, settings: SponsoredSettings, row: int, nearest: NearestRows, least: float
    ) -> tuple[SponsoredHit, ...]:
        """The sponsored hits shown with products similar to the one at `row`, by an auction among those in `nearest`
        that have its type, are available, are at least as similar as `least` (a cosine) and reach every floor."""
        campaigns, background = self.compiled(snapshot), snapshot.manifest.background
        names = [*map(snapshot.products.id_of, nearest.rows.tolist())] if campaigns.of_product else []
        similarity = background.standardise(nearest.scores.astype(np.float64))
        floor, kind = settings.floor, snapshot.types.name_of(row)
        at = [
            place
            for place, (other, name) in enumerate(zip(nearest.rows.tolist(), names, strict=False))
            if name in campaigns.of_product
            and other != row
            and kind == snapshot.types.name_of(other) != ""
            and nearest.scores[place] >= least
            and similarity[place] >= max(floor, campaigns.floor(name))
        ]
        rows = nearest.rows[at]
        can_be_had = np.flatnonzero(~(snapshot.signals.at(rows).availability < 0))
        ids = [names[at[place]] for place in can_be_had.tolist()]
        found = EligibleProducts(rows[can_be_had], ids, similarity[at][can_be_had])
        types = frozenset({snapshot.types.number_of(kind)}) - {-1}
        is_target = partial(campaigns.targets, terms=frozenset(), named=lambda: types)
        seed = snapshot.products.id_of(row)
        return self._awarded(snapshot, settings, found, np.ones(len(ids)), is_target, seed) if ids else ()

    def _awarded(
        self,
        snapshot: Snapshot,
        settings: SponsoredSettings,
        found: EligibleProducts,
        ratios: NDArray[np.float64],
        is_target: Callable[[Campaign], bool],
        seed: str,
    ) -> tuple[SponsoredHit, ...]:
        """The winners among the products found, with campaigns that run, can pay for a click and have the target. None
        whose click could not be charged because of the shopper's address: a free click would be worth an attack."""
        now, spending = self._clock(), self._spending.value
        withheld = self._withheld(spending, now)
        if query_subject(text_hash(seed)) in withheld:
            return ()
        of_product = self.compiled(snapshot).of_product
        chances = spending.rates.probabilities(ratios)
        bids, of_bid = [], []
        for at, product in enumerate(found.ids):
            for each in of_product.get(product, ()):
                can_pay = each.runs(now) and spending.room(each, now) >= to_micros(each.bid)
                if can_pay and each.id not in withheld and is_target(each):
                    bids.append(Bid(each.id, each.advertiser, each.bid, float(chances[at])))
                    of_bid.append(at)
        return tuple(
            SponsoredHit(
                snapshot.products[int(found.rows[of_bid[award.bid]])],
                bids[award.bid].campaign,
                bids[award.bid].advertiser,
                award.place,
                float(found.relevance[of_bid[award.bid]]),
                award.price / MICROS,
                float(ratios[of_bid[award.bid]]),
                seed,
            )
            for award in award_places(bids, settings.places, settings.reserve, seed)
        )

    def _withheld(self, spending: Spending, now: datetime) -> frozenset[str]:
        """The campaigns and queries without sponsored hits for the address of the current request."""
        address = SHOPPER_ADDRESS.get() if spending.withheld else ""
        try:
            return spending.withheld.get(self._addresses.of(address, now), frozenset())
        except StoreError:  # a replica that cannot write the salt of a new day, on which no click has been charged yet
            return frozenset()

    def issue(self, query_id: str, hits: Sequence[SponsoredHit]) -> tuple[str, ...]:
        """The query ids of the sponsored hits of an answer, by which clicks on them are charged; counts the hits as
        shown."""
        if not hits:
            return ()
        self._key = self._key or self.store.ensure_key()
        now = to_microseconds(self._clock())
        offers = [
            Offer(
                hit.campaign,
                hit.advertiser,
                text_hash(hit.product.id),
                hit.place,
                to_micros(hit.price),
                bucket_of(hit.ratio),
                now,
                text_hash(hit.query),
            )
            for hit in hits
        ]
        day = now - now % _DAY_MICROS
        for each in offers:
            self._shown.add(msgspec.structs.replace(each, product=0, price=0, shown=day, query=0), 1)
        return tuple(seal_offer(each, query_id, self._key) for each in offers)

    def charge(self, snapshot: Snapshot, clicks: Sequence[StoredEvent]) -> None:
        """Charges the clicks on sponsored hits among some events. Raises StoreError if nothing can be written."""
        self._key = self._key or (self.store.ensure_key() if self.store.path.exists() else b"")
        if self._key:
            self.flush()  # so that a click is never stored before its impression
            super().reload_if_changed(snapshot)
            campaigns = self.compiled(snapshot).by_id
            self._ledger.charge(clicks, campaigns, self._key)
            self._spending.reload_if_changed()

    def flush(self) -> None:
        """Stores impressions; on failure it is tried again, and `notices` has the reason."""
        self._shown.write()


def eligible_products(
    snapshot: Snapshot,
    ranking: Ranking,
    request: ResolvedRequest,
    campaigns: CompiledCampaigns,
    floor: float,
    least: float,
    buried: Rows,
) -> EligibleProducts:
    """The advertised products among the candidates of a search that are relevant enough, regardless of bids.

    `floor` is the higher one of the store's floor and the placement's, in deviations above unrelated products; the
    floors of the product and the advertiser, and the cosine `least`, can only raise it. Buried products are excluded.
    """
    names = [*map(snapshot.products.id_of, ranking.rows.tolist())]
    at = np.array([place for place, each in enumerate(names) if each in campaigns.of_product], np.int64)
    evidence, rows = ranking.evidence, ranking.rows[at]
    similarity = evidence.similarity
    floors = np.array([max(floor, campaigns.floor(names[place])) for place in at.tolist()])
    lowest = float(evidence.background.standardise(np.array(least)))
    fits = (similarity[at] >= np.maximum(floors, lowest)) & ~np.isin(rows, buried)
    agreed = evidence.intent[:_HEAD].min(initial=np.inf)
    fits &= evidence.intent[at] >= (max(agreed, _MIN_AGREEMENT) if evidence.intent.any() else 0)
    fits &= evidence.preferred[at] >= len(request.preferences) + len(request.measures) + bool(request.lacking)
    fits &= ~(snapshot.signals.at(rows).availability < 0)
    ordered = np.sort(rows[fits])
    for group in request.groups if len(ordered) else ():  # each word or a synonym; learned expansions do not count
        found = snapshot.keyword.score(ordered, (replace(group, expansions=()),))
        fits &= np.isin(rows, found.rows[found.scores > 0])
    kept = at[fits]
    ids = [names[place] for place in kept.tolist()]
    return EligibleProducts(ranking.rows[kept], ids, similarity[kept])


def _named_types(snapshot: Snapshot, request: ResolvedRequest) -> frozenset[int]:
    """The numbers of the types that a query names."""
    product = request.product or request.text
    words = sum(not group.is_character for group in snapshot.analyzer.analyze(product).groups)
    found = snapshot.types.named(product, words, type_synonyms(snapshot.analyzer))
    agreement = found.agreement if found else {}
    return frozenset(number for number, share in agreement.items() if share >= _MIN_AGREEMENT)


def is_sponsored_click(kind: str, query_id: str) -> bool:
    """Whether an event is a click on a sponsored hit."""
    return kind == "click" and SPONSORED_MARK in query_id


@dataclass(frozen=True, slots=True)
class CampaignState:
    """The state of a campaign at one time."""

    state: str
    """off, waiting, running, ended or spent (the total or today's budget)."""
    spent: float
    spent_today: float


def campaign_states(campaigns: Iterable[Campaign], spending: Spending, now: datetime) -> dict[str, CampaignState]:
    """The states of campaigns at a time, by id."""
    found = {}
    for each in campaigns:
        if not each.enabled:
            state = "off"
        elif each.starts and now < each.starts:
            state = "waiting"
        elif each.ends and each.ends <= now:
            state = "ended"
        else:
            state = "running" if spending.room(each, now) >= to_micros(each.bid) else "spent"
        total, today = spending.total.get(each.id, 0), spending.by_day.get((each.id, day_of(now)), 0)
        found[each.id] = CampaignState(state, total / MICROS, today / MICROS)
    return found
