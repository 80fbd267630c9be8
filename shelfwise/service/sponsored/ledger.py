"""The ledger of sponsored placement: sealed offers in query ids, charges of clicks with their reasons, refunds, counts.

The query id of a sponsored hit is `ANSWER~ad:OFFER`: the id of its answer, and the campaign, the product, the price and
the time, encrypted and authenticated by AES-256-GCM with the answer's id, so that shoppers can neither read a price nor
create or move an offer. INDEX/sponsored.sqlite contains the result of each click. Entries are only ever added; each has
a hash over itself and the previous one, so that changed or removed entries are detected.
"""

from __future__ import annotations

import secrets
import sqlite3
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path

import msgspec
import numpy as np
import xxhash

from shelfwise.retrieval.errors import CampaignError, StoreDamagedError
from shelfwise.retrieval.events.stored import EPOCH, SPONSORED_MARK, StoredEvent
from shelfwise.service.curation.sqlite_file import SqliteFile, day_of, to_microseconds, wall_clock
from shelfwise.service.sponsored.auction import BUCKETS, EXAMINATION, NO_CLICKS, ClickRates
from shelfwise.service.sponsored.campaign import MICROS, Campaign

CLICK_TIME = timedelta(minutes=30)
"""Time during which an answer's offers are valid."""
REPEAT_TIME = timedelta(hours=24)
"""Time during which a shopper, or a session, is charged only once for a campaign."""
MAX_CHARGED = 20
"""Maximum number of clicks of one shopper, over all campaigns, that are charged within `REPEAT_TIME`."""
ADDRESS_CLICKS = 5
"""Default maximum number of clicks of one address that are charged to a campaign on a day (UTC)."""
BURST_CLICKS = 4
"""Number of chargeable clicks of one address for one query within `BURST_TIME` that suspends charging for both."""
BURST_TIME = timedelta(minutes=1)
_NONCE_BYTES = 12
_MAX_ANSWER = 64


class Offer(msgspec.Struct, frozen=True, array_like=True):
    """The content of the query id of a sponsored hit."""

    campaign: str
    advertiser: str
    product: int
    """Hash of the product's id."""
    place: int
    price: int
    """Price in millionths."""
    bucket: int
    """Bucket of `ClickRates`."""
    shown: int
    """Time in microseconds since 1970."""
    query: int = 0
    """Hash of the query, or of the id of the product beside which it is shown."""


def text_hash(text: str) -> int:
    """The hash, of 63 bits, of a product's id or of a query in an offer."""
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass")) >> 1


def query_subject(query: int) -> str:
    """The name of a query, by its hash, among the subjects that are withheld from an address; no campaign has it."""
    return f"query:{query}"


def seal_offer(offer: Offer, query_id: str, key: bytes) -> str:
    """The query id of a sponsored hit of an answer, given that of the answer, whose marks are left out."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # not needed by searches without sponsored hits

    answer, nonce = query_id.partition("~")[0], secrets.token_bytes(_NONCE_BYTES)
    if not 0 < len(answer) <= _MAX_ANSWER:
        raise CampaignError(f"{query_id[:40]!r} is not the query id of an answer", field="query_id")
    sealed = nonce + AESGCM(key).encrypt(nonce, msgspec.msgpack.encode(offer), answer.encode())
    return f"{answer}{SPONSORED_MARK}{urlsafe_b64encode(sealed).decode().rstrip('=')}"


def open_offer(query_id: str, key: bytes) -> tuple[str, Offer] | None:
    """The answer and the offer of a query id; None if it is not an offer sealed with this key."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    answer, _, text = query_id.partition(SPONSORED_MARK)
    try:
        sealed = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        plain = AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], answer.encode())
        return answer, msgspec.msgpack.decode(plain, type=Offer)
    except (ValueError, InvalidTag, msgspec.MsgspecError):
        return None


class ChargeReason(StrEnum):
    """The result of a click on a sponsored hit, with the reason."""

    CHARGED = "charged"
    REPEATED = "repeated"
    """The hit of this answer was charged before, or the campaign was charged to this shopper within `REPEAT_TIME`."""
    TOO_MANY = "too many"
    """The shopper was charged `MAX_CHARGED` times within `REPEAT_TIME`."""
    ADDRESS = "address"
    """The campaign was charged for as many clicks of this address on this day as the setting allows."""
    BURST = "burst"
    """The address had `BURST_CLICKS` chargeable clicks for this query within `BURST_TIME`, earlier on this day."""
    ANONYMOUS = "anonymous"
    """Neither a shopper nor a session is known, so repetitions and fraud could not be found."""
    EXPIRED = "expired"
    """The click came more than `CLICK_TIME` after the answer."""
    OTHER_PRODUCT = "other product"
    """The event names another product than the offer."""
    BUDGET = "budget"
    """The charge would exceed the budget, or that of the day."""
    NO_CAMPAIGN = "no campaign"
    """The campaign was deleted."""
    FRAUD = "fraud"
    """A refund: the shopper's session was classified as a bot or click fraud."""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One click on a sponsored hit, or its refund, as visible to advertisers."""

    id: int
    """Number of the entry, from 1."""
    time: datetime
    campaign: str
    advertiser: str
    product: str
    place: int
    price: float
    """Price of a click from the auction."""
    amount: float
    """Charged amount; 0 for none, negative for a refund."""
    reason: str
    """A `ChargeReason`."""
    refunds: int | None = None
    """Id of the entry that is refunded."""


@dataclass(frozen=True, slots=True)
class CampaignDay:
    """The counts of a campaign on one day (UTC)."""

    day: str
    campaign: str
    shown: int
    """Number of sponsored hits in answers."""
    clicks: int
    """Number of entries of clicks, charged or not."""
    charged: int
    amount: float
    """Charged amount minus refunds."""
    uncharged: Mapping[str, int]
    """Number of clicks that were not charged, or were refunded, by reason."""


@dataclass(frozen=True, slots=True)
class ChargedClick:
    """A charged click that was not refunded, with the pseudonyms of the shopper and the session."""

    id: int
    time: datetime
    shopper: str
    session: str


@dataclass(frozen=True, slots=True)
class Spending:
    """The spending of campaigns, and the click rates of sponsored hits."""

    total: Mapping[str, int] = field(default_factory=dict)
    """Total by campaign, in millionths."""
    by_day: Mapping[tuple[str, int], int] = field(default_factory=dict)
    """Millionths by campaign and day since 1970, for the last two days with any entry."""
    rates: ClickRates = NO_CLICKS
    withheld: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The campaigns and queries (by `query_subject`) whose clicks from an address are not charged, by its pseudonym."""

    def room(self, campaign: Campaign, now: datetime) -> int:
        """The amount that a campaign may spend at a time, in millionths."""
        spent_today = self.by_day.get((campaign.id, day_of(now)), 0)
        return campaign.room(self.total.get(campaign.id, 0), spent_today, now)


NO_SPENDING = Spending()


LEDGER_FILE = "sponsored.sqlite"
MAX_ENTRIES = 10_000
"""Maximum number of entries that one call returns."""
_TABLES = """
CREATE TABLE entries (
    id INTEGER PRIMARY KEY, time INTEGER NOT NULL, answer TEXT NOT NULL, place INTEGER NOT NULL, campaign TEXT NOT NULL,
    advertiser TEXT NOT NULL, product TEXT NOT NULL, price INTEGER NOT NULL, amount INTEGER NOT NULL,
    reason TEXT NOT NULL, refunds INTEGER UNIQUE, bucket INTEGER NOT NULL, query INTEGER NOT NULL,
    address TEXT NOT NULL, chain BLOB NOT NULL, key BLOB UNIQUE, shopper TEXT NOT NULL, session TEXT NOT NULL
);
CREATE UNIQUE INDEX one_charge ON entries (answer, place) WHERE amount > 0;
CREATE INDEX entries_by_advertiser ON entries (advertiser, id);
CREATE INDEX charges_by_shopper ON entries (shopper, time) WHERE amount > 0 AND shopper <> '';
CREATE INDEX charges_by_session ON entries (session, time) WHERE amount > 0 AND session <> '';
CREATE INDEX counted_by_address ON entries (address) WHERE address <> '' AND reason IN ('charged', 'budget');
CREATE TABLE withheld (
    address TEXT NOT NULL, subject TEXT NOT NULL, time INTEGER NOT NULL, PRIMARY KEY (address, subject)
) WITHOUT ROWID;
CREATE TABLE days (
    day INTEGER NOT NULL, campaign TEXT NOT NULL, advertiser TEXT NOT NULL, shown INTEGER NOT NULL,
    clicks INTEGER NOT NULL, charged INTEGER NOT NULL, amount INTEGER NOT NULL, PRIMARY KEY (day, campaign)
) WITHOUT ROWID;
CREATE TABLE uncharged (
    day INTEGER NOT NULL, campaign TEXT NOT NULL, reason TEXT NOT NULL, clicks INTEGER NOT NULL,
    PRIMARY KEY (day, campaign, reason)
) WITHOUT ROWID;
CREATE TABLE rates (bucket INTEGER PRIMARY KEY, looks REAL NOT NULL, clicks INTEGER NOT NULL);
"""
_CONTENT = (
    "id, time, answer, place, campaign, advertiser, product, price, amount, reason, refunds, bucket, query, address"
)
_SHOWN = "id, time, campaign, advertiser, product, place, price, amount, reason, refunds"
_ADD_DAY = """
INSERT INTO days VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (day, campaign) DO UPDATE SET shown = shown + excluded.shown,
clicks = clicks + excluded.clicks, charged = charged + excluded.charged, amount = amount + excluded.amount
"""
_ADD_UNCHARGED = """
INSERT INTO uncharged VALUES (?, ?, ?, 1) ON CONFLICT (day, campaign, reason) DO UPDATE SET clicks = clicks + 1
"""
_ADD_RATE = """
INSERT INTO rates VALUES (?, ?, ?) ON CONFLICT (bucket) DO UPDATE SET looks = looks + excluded.looks,
clicks = clicks + excluded.clicks
"""
_RECENT = """
SELECT count(*), coalesce(max(campaign = :campaign), 0) FROM entries WHERE amount > 0 AND time > :since AND id IN (
SELECT id FROM entries WHERE amount > 0 AND shopper = :shopper AND shopper <> '' AND time > :since UNION
SELECT id FROM entries WHERE amount > 0 AND session = :session AND session <> '' AND time > :since)
"""
_OF_ADDRESS = """
SELECT coalesce(sum(campaign = :campaign), 0), coalesce(sum(query = :query AND time > :since), 0) FROM entries
WHERE address = :address AND address <> '' AND reason IN ('charged', 'budget')
"""
_COUNTED = (ChargeReason.CHARGED, ChargeReason.BUDGET)
"""Clicks that count towards click rates, and towards the limits of an address."""


class Ledger:
    """The charges of an index directory. Threads and processes may use it at the same time: each call is one
    transaction, durable when it returns. All methods raise StoreError, or its subclasses StoreDamagedError and
    StoreForeignError, if the file cannot be used."""

    def __init__(self, root: Path, *, clock: Callable[[], datetime] = wall_clock) -> None:
        self.path = root / LEDGER_FILE
        self._file = SqliteFile(self.path, "charges", 0x53574C45, _TABLES, version=2, private=True)
        self._clock = clock

    def add_shown(self, shown: Mapping[Offer, int]) -> None:
        """Counts sponsored hits of answers: offers, with the number of times that each was shown."""
        with self._file.writing() as cursor:
            for offer, count in shown.items():
                day = offer.shown // (86_400 * MICROS)
                cursor.execute(_ADD_DAY, (day, offer.campaign, offer.advertiser, count, 0, 0, 0))
                cursor.execute(_ADD_RATE, (offer.bucket, count * EXAMINATION[offer.place - 1], 0))

    def charge(
        self,
        clicks: Sequence[StoredEvent],
        campaigns: Mapping[str, Campaign],
        key: bytes,
        address_clicks: int = ADDRESS_CLICKS,
    ) -> list[ChargeReason | None]:
        """Enters clicks on sponsored hits, and charges those that are chargeable, of one address at most
        `address_clicks` to a campaign on a day; returns the result of each. None stands for an event that was entered
        before, and for an offer that this store did not create."""
        opened = [open_offer(click.query_id, key) for click in clicks]
        if not any(opened):
            return [None] * len(clicks)
        with self._file.writing() as cursor:
            results: list[ChargeReason | None] = []
            for click, offer in zip(clicks, opened, strict=True):
                reason = self._enter(cursor, click, *offer, campaigns.get(offer[1].campaign)) if offer else None
                if offer and click.address and reason in _COUNTED:
                    self._limit(cursor, click.address, offer[1], address_clicks)
                results.append(reason)
        return results

    def _limit(self, cursor: sqlite3.Cursor, address: str, offer: Offer, address_clicks: int) -> None:
        """Withholds the campaign of a counted click from its address, or its query, if a limit is reached."""
        now = self._clock()
        names = {"address": address, "campaign": offer.campaign, "query": offer.query}
        names["since"] = to_microseconds(now - BURST_TIME)
        of_campaign, of_query = cursor.execute(_OF_ADDRESS, names).fetchone()
        reached = {offer.campaign: of_campaign >= address_clicks, query_subject(offer.query): of_query >= BURST_CLICKS}
        rows = [(address, subject, to_microseconds(now)) for subject, is_reached in reached.items() if is_reached]
        cursor.executemany("INSERT OR IGNORE INTO withheld VALUES (?, ?, ?)", rows)
        if rows:  # on the next day, the address has another pseudonym
            cursor.execute("DELETE FROM withheld WHERE time < ?", (to_microseconds(now - 2 * REPEAT_TIME),))

    def _enter(
        self, cursor: sqlite3.Cursor, click: StoredEvent, answer: str, offer: Offer, campaign: Campaign | None
    ) -> ChargeReason | None:
        if cursor.execute("SELECT 1 FROM entries WHERE key = ?", (click.key,)).fetchone():
            return None
        now = self._clock()
        reason = self._reason(cursor, click, answer, offer, campaign, now)
        # If a budget is spent, no other check keeps a shopper from clicking on one hit any number of times.
        seen = "SELECT 1 FROM entries WHERE answer = ? AND place = ? AND reason = ?"
        is_new = not cursor.execute(seen, (answer, offer.place, ChargeReason.BUDGET)).fetchone()
        amount = offer.price if reason is ChargeReason.CHARGED else 0
        entry = (answer, offer.place, offer.campaign, offer.advertiser, click.product_id, offer.price, amount, reason)
        content = (*entry, None, offer.bucket, offer.query, click.address)
        _append(cursor, now, content, (click.key, click.shopper, click.session))
        day = (day_of(now), offer.campaign, offer.advertiser, 0, 1, int(amount > 0), amount)
        cursor.execute(_ADD_DAY, day)
        if reason is not ChargeReason.CHARGED:
            cursor.execute(_ADD_UNCHARGED, (day_of(now), offer.campaign, reason))
        cursor.execute(_ADD_RATE, (offer.bucket, 0.0, int(is_new and reason in _COUNTED)))
        return reason

    def _reason(
        self,
        cursor: sqlite3.Cursor,
        click: StoredEvent,
        answer: str,
        offer: Offer,
        campaign: Campaign | None,
        now: datetime,
    ) -> ChargeReason:
        if text_hash(click.product_id) != offer.product:
            return ChargeReason.OTHER_PRODUCT
        if not (click.shopper or click.session):
            return ChargeReason.ANONYMOUS
        if now - _moment(offer.shown) > CLICK_TIME:
            return ChargeReason.EXPIRED
        one = "SELECT 1 FROM entries WHERE answer = ? AND place = ? AND amount > 0"
        since = to_microseconds(now - REPEAT_TIME)
        names = {"campaign": offer.campaign, "since": since, "shopper": click.shopper, "session": click.session}
        charged, is_same = cursor.execute(_RECENT, names).fetchone()
        if is_same or cursor.execute(one, (answer, offer.place)).fetchone():
            return ChargeReason.REPEATED
        if charged >= MAX_CHARGED:
            return ChargeReason.TOO_MANY
        if campaign is None:
            return ChargeReason.NO_CAMPAIGN
        withheld = "SELECT 1 FROM withheld WHERE address = ? AND subject = ?"
        if cursor.execute(withheld, (click.address, offer.campaign)).fetchone():
            return ChargeReason.ADDRESS
        if cursor.execute(withheld, (click.address, query_subject(offer.query))).fetchone():
            return ChargeReason.BURST
        spent = "SELECT coalesce(sum(amount), 0), coalesce(sum(CASE day WHEN ? THEN amount END), 0) FROM days"
        total, today = cursor.execute(f"{spent} WHERE campaign = ?", (day_of(now), campaign.id)).fetchone()
        has_room = offer.price <= campaign.room(total, today, now, paced=False)
        return ChargeReason.CHARGED if has_room else ChargeReason.BUDGET

    def charged(self, since: datetime) -> list[ChargedClick]:
        """The charged clicks since a time that were not refunded and have a pseudonym."""
        query = """SELECT id, time, shopper, session FROM entries WHERE amount > 0 AND time >= ?
        AND shopper || session <> '' AND id NOT IN (SELECT refunds FROM entries WHERE refunds IS NOT NULL)"""
        with self._file.reading() as cursor:
            rows = cursor.execute(query, (to_microseconds(since),)).fetchall() if cursor else []
        return [ChargedClick(number, _moment(time), *names) for number, time, *names in rows]

    def refund(self, ids: Collection[int]) -> int:
        """Refunds charged clicks as fraud; returns the number of those not refunded before. Budgets get the amounts
        back."""
        if not ids:
            return 0
        done = 0
        with self._file.writing() as cursor:
            for number in sorted(ids):
                found = cursor.execute(f"SELECT {_CONTENT} FROM entries WHERE id = ?", (number,)).fetchone()  # noqa: S608  # our own words
                again = cursor.execute("SELECT 1 FROM entries WHERE refunds = ?", (number,)).fetchone()
                if found is None or again or found[8] <= 0:
                    continue
                _, time, answer, place, campaign, advertiser, product, price, amount, _, _, bucket, query, address = (
                    found
                )
                entry = (answer, place, campaign, advertiser, product, price, -amount, ChargeReason.FRAUD)
                _append(cursor, self._clock(), (*entry, number, bucket, query, address), (None, "", ""))
                day = day_of(_moment(time))
                cursor.execute(_ADD_DAY, (day, campaign, advertiser, 0, 0, -1, -amount))
                cursor.execute(_ADD_UNCHARGED, (day, campaign, ChargeReason.FRAUD))
                cursor.execute(_ADD_RATE, (bucket, 0.0, -1))
                done += 1
        return done

    def forget(self, pseudonyms: Collection[str] = (), *, before: datetime | None = None) -> int:
        """Removes from entries, which are kept, the pseudonyms of some shoppers and all those from before a time;
        returns the number of changed entries."""
        if not self.path.exists():
            return 0
        marks = ", ".join("?" * len(pseudonyms))
        which = f"(shopper IN ({marks}) OR time < ?) AND shopper || session <> ''"
        with self._file.writing() as cursor:
            # Removed data is overwritten.
            cursor.execute("PRAGMA secure_delete = ON")
            values = (*pseudonyms, to_microseconds(before) if before else 0)
            return cursor.execute(f"UPDATE entries SET shopper = '', session = '' WHERE {which}", values).rowcount  # noqa: S608  # our own words

    def holds(self, pseudonyms: Collection[str]) -> int:
        """The number of entries with one of some pseudonyms of shoppers."""
        marks = ", ".join("?" * len(pseudonyms))
        with self._file.reading() as cursor:
            query = f"SELECT count(*) FROM entries WHERE shopper IN ({marks})"  # noqa: S608  # our own words
            return int(cursor.execute(query, (*pseudonyms,)).fetchone()[0]) if cursor else 0

    def spending(self) -> Spending:
        """The amounts spent, by campaign and by day, and the click rates so far."""
        with self._file.reading() as cursor:
            if cursor is None:
                return NO_SPENDING
            total = dict(cursor.execute("SELECT campaign, sum(amount) FROM days GROUP BY campaign").fetchall())
            last = "SELECT campaign, day, amount FROM days WHERE day >= (SELECT max(day) FROM days) - 1"
            by_day = {(campaign, day): amount for campaign, day, amount in cursor.execute(last).fetchall()}
            looks, clicks = np.zeros(BUCKETS), np.zeros(BUCKETS)
            for bucket, seen, clicked in cursor.execute("SELECT bucket, looks, clicks FROM rates").fetchall():
                looks[bucket], clicks[bucket] = seen, clicked
            withheld: dict[str, frozenset[str]] = {}
            for address, subject in cursor.execute("SELECT address, subject FROM withheld").fetchall():
                withheld[address] = withheld.get(address, frozenset()) | {subject}
        return Spending(total, by_day, ClickRates(looks, clicks), withheld)

    def entries(
        self, advertiser: str = "", *, campaign: str = "", after: int = 0, limit: int = 100
    ) -> list[LedgerEntry]:
        """Entries after an id, oldest first, of all or of one advertiser or campaign. Raises CampaignError for a limit
        outside 1 to `MAX_ENTRIES`."""
        if not 1 <= limit <= MAX_ENTRIES:
            raise CampaignError(f"limit is {limit}, it can be 1 to {MAX_ENTRIES:,}", field="limit")
        which, values = _which(advertiser, campaign)
        query = f"SELECT {_SHOWN} FROM entries WHERE id > ? {which} ORDER BY id LIMIT ?"  # noqa: S608  # our own words
        with self._file.reading() as cursor:
            rows = cursor.execute(query, (after, *values, limit)).fetchall() if cursor else []
        return [
            LedgerEntry(id_, _moment(time), name, who, product, place, price / MICROS, amount / MICROS, why, refunds)
            for id_, time, name, who, product, place, price, amount, why, refunds in rows
        ]

    def days(self, advertiser: str = "", *, campaign: str = "", days: int = 30) -> list[CampaignDay]:
        """The counts of the last days, newest first, of all or of one advertiser or campaign."""
        which, values = _which(advertiser, campaign)
        first = day_of(self._clock()) - days + 1
        columns = "day, campaign, shown, clicks, charged, amount"
        query = f"SELECT {columns} FROM days WHERE day >= ? {which} ORDER BY day DESC, campaign"  # noqa: S608  # our own words
        with self._file.reading() as cursor:
            rows = cursor.execute(query, (first, *values)).fetchall() if cursor else []
            others: dict[tuple[int, str], dict[str, int]] = {}
            each_reason = "SELECT * FROM uncharged WHERE day >= ?"
            for day, name, reason, count in cursor.execute(each_reason, (first,)) if cursor else ():
                others.setdefault((day, name), {})[reason] = count
        return [
            CampaignDay(
                f"{EPOCH + timedelta(days=day):%Y-%m-%d}",
                name,
                shown,
                clicks,
                charged,
                amount / MICROS,
                others.get((day, name), {}),
            )
            for day, name, shown, clicks, charged, amount in rows
        ]

    def check(self) -> None:
        """Reads every entry; raises StoreDamagedError if one was changed or removed."""
        before, last = b"", 0
        with self._file.reading() as cursor:
            rows = cursor.execute(f"SELECT {_CONTENT}, chain FROM entries ORDER BY id") if cursor else ()  # noqa: S608  # our own words
            for *content, chain in rows:
                if content[0] != last + 1 or chain != _link(before, content):
                    message = f"{self.path} is damaged: entry {last + 1:,} was changed or removed"
                    raise StoreDamagedError(f"{message}; restore it from a backup")
                before, last = chain, content[0]


def _append(cursor: sqlite3.Cursor, now: datetime, content: Sequence[object], private: Sequence[object]) -> None:
    """Adds an entry: the fields covered by the chain after id and time, and those that may be removed later."""
    number, chain = cursor.execute("SELECT id, chain FROM entries ORDER BY id DESC LIMIT 1").fetchone() or (0, b"")
    entry = [number + 1, to_microseconds(now), *content]
    marks = ", ".join("?" * (len(entry) + 4))
    cursor.execute(
        f"INSERT INTO entries ({_CONTENT}, chain, key, shopper, session) VALUES ({marks})",  # noqa: S608  # our own words
        (*entry, _link(chain, entry), *private),
    )


def _link(before: bytes, content: Sequence[object]) -> bytes:
    return blake2b(before + msgspec.json.encode(content), digest_size=16).digest()


def _which(advertiser: str, campaign: str) -> tuple[str, list[str]]:
    named = {"advertiser": advertiser, "campaign": campaign}
    given = {name: value for name, value in named.items() if value}
    return "".join(f"AND {name} = ? " for name in given), list(given.values())


def _moment(time: int) -> datetime:
    return EPOCH.astimezone(UTC) + timedelta(microseconds=time)
