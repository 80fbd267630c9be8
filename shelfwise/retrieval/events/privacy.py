"""Privacy of events: personal data in queries is masked, ids of shoppers and sessions become pseudonyms.

E-mail addresses, phone and card numbers and IP addresses are masked. Numbers with which shops sell products are kept:

- article numbers (GTIN, EAN, UPC of 12 to 14 digits, ISBN), bare or grouped, by their check digit;
- digits without the prefix, the length and the check digit of a card;
- lists of sizes: phone numbers count only in groups as written in their country, and rising numbers are not a card;
- a bare run of digits, unless it begins with 0, with a country or trunk prefix, or is a mobile number of a region that
  distinguishes these (China does, the United States and Canada do not): most part numbers have ten digits.

In case of doubt a number is masked: a lost query costs less than a leak.

Pseudonyms are a keyed HMAC of the id. Without the key file, nobody can tell whose an event is, or find out by trying
ids. After a rotation, events under the old and the new key are not linked. An old key is kept while it has events:
without it, a shopper's events could not be found and erased.
"""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache, partial
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path

import msgspec
from phonenumbers import (
    SUPPORTED_REGIONS,
    Leniency,
    PhoneNumberMatch,
    PhoneNumberMatcher,
    PhoneNumberType,
    national_significant_number,
    number_type,
)
from stdnum import ean, isbn, luhn

from shelfwise.retrieval.errors import EventError, StoreDamagedError, StoreError
from shelfwise.retrieval.events.addresses import AddressPseudonyms, address_group
from shelfwise.retrieval.events.stored import KEY_BYTES, StoredEvent, milliseconds, validate_event
from shelfwise.retrieval.records import Event
from shelfwise.retrieval.store.files import SealedFile, Watch, file_stamp
from shelfwise.retrieval.updates.journal import lock_folder

REGIONS = ("US", "GB", "DE", "CN")
"""The default regions (ISO 3166-1) whose phone numbers need no country prefix."""

_PLAIN = str.maketrans(
    {full: full - 0xFEE0 for full in (*range(0xFF10, 0xFF1B), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))}
    | dict.fromkeys((0x00A0, *range(0x2000, 0x2010), 0x202F, 0x2060, 0x3000, 0xFEFF), " ")
    | dict.fromkeys((*range(0x2010, 0x2016), 0x2212, 0xFE63, 0xFF0D), "-")
    | {"\uff20": "@", "\ufe6b": "@", "\uff0e": ".", "\uff0f": "/"}
)
"""Maps full width, non-breaking blanks and dashes of all lengths to ASCII, one character to one."""

_MAY_HOLD = re.compile(
    r"[@\uff20\ufe6b]|(?:\d\D{0,3}){7}|\d[.\uff0e]\d+[.\uff0e]\d+[.\uff0e]\d|:[0-9a-fA-F\uff10-\uff46]{0,4}:"
)
"""A fast test for queries that may contain personal data: very few do."""

_LOCAL = re.compile(r"[!-;=?A-~\u00c0-\u1fff]+")
"""The local part of an e-mail address: letters of scripts that put blanks between words, so not Chinese."""

_TOP = r"[.\u3002][a-zA-Z\u00c0-\u1fff][a-zA-Z0-9\u00c0-\u1fff-]+"
_DOMAIN = rf"[\w-]+(?:(?:[.\u3002][\w-]+)*?(?:{_TOP})+|(?:[.\u3002][^\W\d][\w-]*)+)"
_AT_DOMAIN = re.compile(rf"(?: {{0,2}}@ {{0,2}}{_DOMAIN})+")
"""Up to a top-level domain that is followed by Chinese, if there is one; else up to the end of the word."""

_ARTICLE = re.compile(
    r"(?<![\d+])(?<!\+\d[ -])(?<!\+\d\d[ -])(?<!\+\d\d\d[ -])"
    r"(?:\d{12,14}|\d{9}[\dXx]|\d[ -]\d{6}[ -]\d{6}|\d[ -]\d{5}[ -]\d{5}[ -]\d"
    r"|(?:97[89][ -]?)?\d{1,5}[ -]\d{1,7}[ -]\d{1,7}[ -][\dXx])(?!\d)"
)
_DIGITS = re.compile(r"\d+")
_RUN = re.compile(r"\d(?:[\s.,/_-]{0,3}\d)+")
_CARD = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    r"|3[47]\d{13}"  # American Express
    r"|(?:5[1-5]|2[2-7])\d{14}"  # Mastercard, Mir
    r"|3(?:0[0-59]|[689]\d)\d{11,16}"  # Diners Club
    r"|35(?:2[89]|[3-8]\d)\d{12,15}"  # JCB
    r"|6(?:011|2\d\d|4[4-9]\d|5\d\d)\d{12,15}"  # Discover, UnionPay
    r"|(?:50|5[6-8]|6[37])\d{11,17}"  # Maestro
)
_CARD_DIGITS = range(13, 20)
_CARD_DIGITS_AFTER_PLUS = range(16, 20)  # phone numbers have at most 15 (ITU-T E.164)

_ADDRESS = re.compile(
    r"(?<![0-9A-Za-z_.])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\d)"
    r"|(?<![0-9A-Za-z_.:])(?:[0-9a-fA-F]{0,4}:){2,7}(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-fA-F]{0,4})(?!\.?[0-9A-Za-z_:])"
)
_MAX_TRIES = 50
"""The most false candidates in a query before the phone matcher gives up."""
_REMEMBERED = 16_384

_Span = tuple[int, int]


class Masker:
    """Masks personal data in queries; results are cached."""

    def __init__(self, regions: Iterable[str] = REGIONS) -> None:
        self.regions = tuple(regions)
        self.mask = lru_cache(_REMEMBERED)(self._mask)
        self._finders: list[tuple[str, Callable[[str], Iterable[_Span]]]] = [
            ("[email]", _emails),
            ("[card]", _cards),
            ("[address]", _addresses),
            # Numbers with a country prefix are recognised without a region, too.
            *(("[phone]", partial(_phones, region)) for region in self.regions or (None,)),
        ]

    def _mask(self, query: str) -> str:
        before = ""
        # Repeated, since a mask exposes what was next to it: the rest of a number, a second address.
        while query != before and _MAY_HOLD.search(query):
            before, query = query, self._mask_once(query)
        return query

    def _mask_once(self, query: str) -> str:
        for mask, find in self._finders:
            # From the last one on, so that the positions of the others stay valid.
            for start, end in reversed(list(find(_plain(query)))):
                query = f"{query[:start]}{mask}{query[end:]}"
        return query


def is_region(name: str) -> bool:
    """Whether a region (ISO 3166-1) has phone numbers."""
    return name in SUPPORTED_REGIONS


def _plain(query: str) -> str:
    """The query with signs in ASCII and article numbers blanked, character by character."""
    if not query.isascii():
        query = _DIGITS.sub(lambda found: "".join(str(int(each)) for each in found[0]), query.translate(_PLAIN))
    return _ARTICLE.sub(_blotted, query)


def _blotted(match: re.Match[str]) -> str:
    is_article = ean.is_valid(match[0]) or isbn.is_valid(match[0])
    return "|" * len(match[0]) if is_article else match[0]


def _emails(text: str) -> Iterator[_Span]:
    searched = 0
    for match in _AT_DOMAIN.finditer(text):
        # Backwards from the sign: a forward search would start again at each letter.
        local = _LOCAL.match(text[searched : match.start()][::-1])
        if local:
            yield match.start() - local.end(), match.end()
        searched = match.end()


def _cards(text: str) -> Iterator[_Span]:
    masked = 0
    for start, end in _card_windows(text):
        if start >= masked and _is_card(text[start:end]):
            yield start, end
            masked = end


def _card_windows(text: str) -> Iterator[_Span]:
    """Spans of digit groups with as many digits as cards have, the longest first."""
    for run in _RUN.finditer(text):
        groups = [group.span() for group in _DIGITS.finditer(text, run.start(), run.end())]
        for first, (start, _) in enumerate(groups):
            wanted = _CARD_DIGITS_AFTER_PLUS if text[max(start - 1, 0) : start] == "+" else _CARD_DIGITS
            digits, ends = 0, []
            for group_start, end in groups[first : first + _CARD_DIGITS[-1]]:
                digits += end - group_start
                if digits in wanted:
                    ends.append(end)
            yield from ((start, end) for end in reversed(ends))


def _is_card(window: str) -> bool:
    groups = _DIGITS.findall(window)
    digits = "".join(groups)
    if not _CARD.fullmatch(digits) or not luhn.is_valid(digits):
        return False
    # Cards have at most five groups, the last one short; five rising ones are sizes.
    return len(groups) < 5 or any(int(one) >= int(other) for one, other in pairwise(groups))


def _addresses(text: str) -> Iterator[_Span]:
    return (match.span() for match in _ADDRESS.finditer(text) if _is_address(match[0]))


def _is_address(text: str) -> bool:
    try:
        return not ip_address(text).is_unspecified
    except ValueError:
        return False


def _phones(region: str | None, text: str) -> Iterator[_Span]:
    matches = PhoneNumberMatcher(text, region, leniency=Leniency.STRICT_GROUPING, max_tries=_MAX_TRIES)
    return ((match.start, match.end) for match in matches if _is_written_as_phone(match))


def _is_written_as_phone(match: PhoneNumberMatch) -> bool:
    digits = match.raw_string
    if not digits.isdigit() or digits.startswith("0"):
        return True
    has_prefix = digits != national_significant_number(match.number)
    return has_prefix or number_type(match.number) == PhoneNumberType.MOBILE


KEYS_FILE = "keys.json"
_SECRET_BYTES = 32
_PSEUDONYM_BYTES = 16
_PSEUDONYMS_REMEMBERED = 65_536
_MARK = "~"
"""Separates a key's name from the pseudonym; never part of a name."""


class PseudonymKey(msgspec.Struct, frozen=True):
    """A key; its name is the prefix of its pseudonyms."""

    name: str
    secret: bytes
    made: datetime


class _KeyFile(msgspec.Struct, frozen=True):
    salt: bytes
    """Never replaced: event keys are derived from it, so that resent events are recognised after a rotation."""
    keys: tuple[PseudonymKey, ...]
    """The keys; the last one is in use."""


_MAX_KEY_BYTES = 1 << 20
_CURE = "check its permissions, or restore it from a backup"
_KEYS = SealedFile(1, _CURE, "content", msgspec.json.Decoder(_KeyFile))


class Pseudonyms:
    """Pseudonyms with the keys of a file, which is reloaded when it changes. Thread-safe.

    With `make`, a missing file is created, readable only by its owner. Without it StoreError is raised, since other
    keys would not find any shopper's events.
    """

    def __init__(self, path: Path, *, make: bool = True) -> None:
        self.path = path
        self._watch = Watch()
        if make and not path.exists():
            _make(path)
        self.reload_if_changed()

    def shopper(self, name: str) -> str:
        """The pseudonym of a shopper under the newest key; empty for an empty id."""
        return self._made("shopper", name) if name else ""

    def session(self, name: str) -> str:
        """The pseudonym of a session under the newest key; empty for an empty id."""
        return self._made("session", name) if name else ""

    def key(self, name: str) -> bytes:
        """The key of an event: 16 bytes of a keyed hash of its id."""
        return hmac.digest(self._keys.salt, name.encode(), "sha256")[:KEY_BYTES]

    def reload_if_changed(self) -> None:
        """Reloads the file if another process has changed it."""
        self._watch.update(file_stamp(self.path), self._load)

    def all_pseudonyms(self, shopper: str) -> tuple[str, ...]:
        """All pseudonyms of a shopper, one for each key."""
        self.reload_if_changed()
        return tuple(_pseudonym(key, "shopper", shopper) for key in self._keys.keys)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the keys, the current one last."""
        return tuple(key.name for key in self._keys.keys)

    def rotate(self) -> str:
        """Adds a key and makes it the current one; returns its name."""
        with self._locked():
            number = 1 + max(int(name.removeprefix("k")) for name in self.names)
            added = PseudonymKey(f"k{number}", secrets.token_bytes(_SECRET_BYTES), datetime.now(UTC))
            self._write((*self._keys.keys, added))
        return added.name

    def retire(self, in_use: Collection[str], replaced_before: datetime) -> tuple[str, ...]:
        """Removes old keys that no pseudonym uses and that were replaced before a time, so that no process uses them;
        returns their names."""
        with self._locked():
            keys = self._keys.keys
            gone = {
                key.name
                for key, following in pairwise(keys)
                if key.name not in in_use and following.made < replaced_before
            }
            if gone:
                self._write(tuple(key for key in keys if key.name not in gone))
        return tuple(key.name for key in keys if key.name in gone)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with lock_folder(self.path.parent, None, "the keys"):
            self.reload_if_changed()
            yield

    def _write(self, keys: tuple[PseudonymKey, ...]) -> None:
        _KEYS.write(self.path, _KeyFile(self._keys.salt, keys), datetime.now(UTC), private=True)
        self.reload_if_changed()

    def _load(self) -> None:
        found = _KEYS.read(self.path, _MAX_KEY_BYTES)
        if found is None:
            message = f"the keys {self.path} do not exist; without them, events have no shopper"
            raise StoreError(f"{message}: restore the file, or set events.keys")
        if not found.keys or not found.salt:
            raise StoreDamagedError(f"{self.path} has no key; {_CURE}")
        self._keys = found
        self._made: Callable[[str, str], str] = lru_cache(_PSEUDONYMS_REMEMBERED)(
            partial(_pseudonym, self._keys.keys[-1])
        )


def prefix(name: str) -> str:
    """The prefix of the pseudonyms of a key."""
    return f"{name}{_MARK}"


def _pseudonym(key: PseudonymKey, what: str, name: str) -> str:
    digest = hmac.digest(key.secret, f"{what}\0{name}".encode(), "sha256")[:_PSEUDONYM_BYTES]
    return f"{prefix(key.name)}{urlsafe_b64encode(digest).decode().rstrip('=')}"


def _make(path: Path) -> None:
    """Creates the file with one key; a file that another process created in the meantime is kept."""
    first = PseudonymKey("k1", secrets.token_bytes(_SECRET_BYTES), datetime.now(UTC))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock_folder(path.parent, None, "the keys"):
            if not path.exists():
                keys = _KeyFile(secrets.token_bytes(_SECRET_BYTES), (first,))
                _KEYS.write(path, keys, datetime.now(UTC), private=True)
    except OSError as error:
        raise StoreError(
            f"the keys {path} cannot be created ({error.strerror}); check the permissions of its folder"
        ) from error


_BETWEEN = "\x1f"
"""Separates the values of an event's content; ids do not contain it."""


class EventIntake:
    """Validates, pseudonymises and masks events. Thread-safe."""

    def __init__(self, pseudonyms: Pseudonyms, masker: Masker, addresses: AddressPseudonyms | None = None) -> None:
        """`addresses` is by default in the folder of the keys."""
        self.pseudonyms = pseudonyms
        self.masker = masker
        self.addresses = addresses or AddressPseudonyms(pseudonyms.path.parent)

    def __reduce__(self) -> tuple[object, ...]:
        # A worker process opens the same keys; caches are not copied.
        return _opened, (self.pseudonyms.path, self.masker.regions, self.addresses.path.parent)

    def prepare(self, event: Event, now: datetime) -> StoredEvent:
        """The event to store; `now` is its time of arrival. Raises EventError for an invalid one, StoreError if its
        address can get no pseudonym."""
        event = validate_event(event, now)
        time = milliseconds(event.time or now)
        pseudonyms = self.pseudonyms
        return StoredEvent(
            pseudonyms.key(event.event_id or _content(event, time)),
            event.kind.value,
            time,
            milliseconds(now),
            pseudonyms.shopper(event.shopper),
            pseudonyms.session(event.session),
            event.query_id,
            self.masker.mask(event.query),
            event.product_id,
            event.position,
            event.quantity,
            None if event.rating is None else float(event.rating),
            event.results,
            self.addresses.of(address_group(event.address), now),
        )


def _opened(keys: Path, regions: tuple[str, ...], folder: Path) -> EventIntake:
    return EventIntake(Pseudonyms(keys, make=False), Masker(regions), AddressPseudonyms(folder))


def conflict_error(event: Event) -> EventError:
    """The error for an event whose id another event already has."""
    what = f"event_id {event.event_id!r}" if event.event_id else "an event"
    return EventError("another event's id", f"{what} was already stored with other content; give each event its own id")


def utc_now() -> datetime:
    """The clock for the arrival of events."""
    return datetime.now(UTC)


def _content(event: Event, time: int) -> str:
    values = (event.kind.value, time, event.query_id, event.query, event.shopper, event.session, event.product_id)
    numbers = (event.position, event.quantity, event.rating, event.results)
    return _BETWEEN.join(map(str, (*values, *numbers)))
