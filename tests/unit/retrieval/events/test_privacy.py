"""Personal data: masks, pseudonyms and addresses."""

from __future__ import annotations

import re
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from stdnum import ean, isbn, luhn

from shelfwise.retrieval.errors import StoreDamagedError, StoreError
from shelfwise.retrieval.events.addresses import ADDRESS_FILE, AddressPseudonyms, address_group
from shelfwise.retrieval.events.privacy import Masker, Pseudonyms

MASKER = Masker()


@pytest.mark.parametrize(
    ("query", "masked"),
    [
        ("jo.do@example.com", "[email]"),
        ("order of jo_do+shop@mail.example.co.uk please", "order of [email] please"),
        ("test＠qq.com", "[email]"),  # full width
        ("4111 1111 1111 1111", "[card]"),
        ("378282246310005", "[card]"),
        ("13812345678", "[phone]"),
        ("+44 20 7946 0958 drill", "[phone] drill"),
        ("192.168.1.10", "[address]"),
        ("from 2001:db8::ff00:42:8329", "from [address]"),
        ("a@b.com and 13812345678", "[email] and [phone]"),
        ("4111111111111111 12/25 123", "[card] 12/25 123"),  # its expiry, its code
        ("卡号4111111111111111谢谢", "卡号[card]谢谢"),
        ("\uff14" + "\uff11" * 15, "[card]"),  # full width
        ("41 11 11 11 11 11 11 11", "[card]"),
        ("4222222222222", "[card]"),  # thirteen digits, Visa
        ("30569309025904", "[card]"),  # fourteen, Diners Club
        ("3530111333300000", "[card]"),  # JCB
        ("6200000000000005", "[card]"),  # UnionPay
        ("4111111111111111 5555555555554444", "[card] [card]"),
        ("192.168.1.10:8080", "[address]:8080"),
        ("ip地址192.168.1.10谢谢", "ip地址[address]谢谢"),
        ("::ffff:192.168.1.1", "[address]"),
        ("[2001:db8::1]:443", "[[address]]:443"),
        ("josé.müller@example.com", "[email]"),
        ("jo@例子.中国", "[email]"),
        ("jo\uff20qq\uff0ecom", "[email]"),  # full width
        ("jo@qq。com", "[email]"),
        ("jo  @example.com", "[email]"),
        ("我的jo@qq.com谢谢", "我的[email]谢谢"),
        ("jo@qq.com。谢谢", "[email]。谢谢"),
        ("jo@例子.com谢谢", "[email]谢谢"),
        ("jo@example.com@example.org", "[email]"),
    ],
)
def test_personal_data_is_masked(query: str, masked: str) -> None:
    assert MASKER.mask(query) == masked


# Among them an EAN, a UPC and ISBNs with their check digits, one like a phone number of Berlin, and a number of sixteen
# digits without a card's check digit.
SOLD_UNDER_NUMBERS = (
    "cordless drill 18v 5.0ah|dcd771c2|4006381333931|096009010836|978-3-16-148410-0|iphone 13 pro max 256|"
    "85123A 22423|12:30:45 timer|screws 4x40 200 pcs|1920x1080 60hz 27|无线耳机 5.3|aa:bb switch||0306406152|"
    "0-306-40615-2|lego 75192 75313|2.5 3.5 4.5 6 8 10|21 31 41 51 61|iphone 13 128 256 512|bosch 2608900033|"
    "3m 7100044325|v10.1.2.3|12:30:45|std :: vector|drill @ 5.5ah|4006381333931 256 512|100 200 300 400 500|"
    "4111111111111112"
)


@pytest.mark.parametrize("query", SOLD_UNDER_NUMBERS.split("|"))
def test_product_numbers_are_not_personal_data(query: str) -> None:
    assert MASKER.mask(query) == query


PHONE_NUMBERS = (
    "212-555-2368|212.555.2368|(212) 555-2368|1 212 555 2368|12125552368|+12125552368|0151 12345678|015112345678|"
    "020 7946 0958|13812345678|138 1234 5678|１３８１２３４５６７８|+49 151 12345678"
)


@pytest.mark.parametrize("number", PHONE_NUMBERS.split("|"))
def test_phone_numbers_in_national_formats_are_masked(number: str) -> None:
    assert MASKER.mask(number) == "[phone]"
    assert MASKER.mask(f"call {number} now") == "call [phone] now"


def test_fourteen_digit_gtin_is_not_a_card_number() -> None:
    gtin = "3000000000002" + str(-(3 * 3 + 3 * 0 + 2 * 3) % 10)  # a Diners Club number except for its check digit
    assert MASKER.mask(gtin) == gtin


def test_ascending_sizes_are_not_a_card_number() -> None:
    sizes = "40 41 42 43 44 45 46 SIZE"
    last = next(size for size in range(47, 57) if luhn.is_valid(sizes.replace("SIZE", str(size)).replace(" ", "")))
    query = sizes.replace("SIZE", str(last))
    assert MASKER.mask(query) == query
    assert MASKER.mask(query.replace(" ", "")) == "[card]"


def test_phone_number_with_country_prefix_is_masked_despite_gtin_check_digit() -> None:
    number = next(f"+1 212555{line}" for line in range(2000, 2100) if isbn.is_valid(f"212555{line}"))
    assert MASKER.mask(number) == "[phone]"


@pytest.mark.parametrize(
    ("regions", "query", "masked"),
    [
        (["IN"], "9876543211", "[phone]"),  # a mobile number by India's numbering plan
        (["US", "CA"], "9876543211", "9876543211"),
        (["FR"], "06 12 34 56 78", "[phone]"),
        ([], "06 12 34 56 78", "06 12 34 56 78"),
        ([], "+44 20 7946 0958 drill", "[phone] drill"),
    ],
)
def test_phone_numbers_need_a_configured_region_or_a_country_prefix(
    regions: list[str], query: str, masked: str
) -> None:
    assert Masker(regions).mask(query) == masked


WHOLE_PIECES = "4111111111111111 13812345678 212 555 2368 10.0.0.1 a@b.co ::1"
PIECES = st.sampled_from([*"0123456789 .-/@:af[]+()谢。１", *WHOLE_PIECES.split()])


@given(st.text(max_size=60) | st.lists(PIECES, max_size=14).map("".join))
def test_masking_is_idempotent(text: str) -> None:
    masked = MASKER.mask(text)
    assert MASKER.mask(masked) == masked


@given(
    st.emails(domains=st.sampled_from(["example.com", "mail.example.org"])), st.sampled_from(["", "drill ", "我的 "])
)
def test_all_plain_email_addresses_are_masked(email: str, before: str) -> None:
    assert email.rpartition("@")[2] not in MASKER.mask(before + email)


@given(
    st.integers(10**14, 10**15 - 1).map(lambda digits: f"4{digits}"[:15]),
    st.lists(st.sampled_from(["", " ", "-", "  ", ".", "/", "\u00a0", "\u2013", " - "]), min_size=3, max_size=3),
)
def test_cards_in_groups_of_four_are_masked_with_any_separators(digits: str, separators: list[str]) -> None:
    card = digits + luhn.calc_check_digit(digits)
    groups = [card[at : at + 4] for at in range(0, 16, 4)]
    written = "".join(group + separator for group, separator in zip(groups, [*separators, ""], strict=True))
    # Twelve digits of it may be an article number with its check digit, which stays.
    assume(not any(ean.is_valid(part) or isbn.is_valid(part) for part in re.findall(r"\d+", written)))
    assert MASKER.mask(f"refund {written} please") == "refund [card] please"


@pytest.mark.parametrize("text", ["4 ", "1-", "0 1 - ", "a@b.", "::1", "1.1.1.1", "(1", "a", "@", "1/2 ", "978-1-1-1 "])
def test_masking_of_hostile_text_terminates(text: str) -> None:
    masked = MASKER.mask(text * 1000)
    assert MASKER.mask(masked) == masked


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events" / "keys.json"


def test_shopper_has_one_opaque_pseudonym(path: Path, tmp_path: Path) -> None:
    pseudonyms = Pseudonyms(path)
    first = pseudonyms.shopper("jo.do@example.com")
    assert first == pseudonyms.shopper("jo.do@example.com") == Pseudonyms(path).shopper("jo.do@example.com")
    assert first != pseudonyms.shopper("jo.di@example.com")
    assert len(first) == len("k1~") + 22  # 16 bytes in base64
    assert pseudonyms.session("jo.do@example.com") != first
    assert Pseudonyms(tmp_path / "other.json").shopper("jo.do@example.com") != first
    assert pseudonyms.shopper("") == pseudonyms.session("") == "", "nobody stays nobody"


def test_rotation_reaches_other_processes_and_old_pseudonyms_are_found(path: Path) -> None:
    here, there = Pseudonyms(path), Pseudonyms(path)
    before = here.shopper("u1")
    assert here.rotate() == "k2"
    there.reload_if_changed()
    after = there.shopper("u1")
    assert (before[:3], after[:3]) == ("k1~", "k2~")
    assert here.all_pseudonyms("u1") == there.all_pseudonyms("u1") == (before, after)


def test_resent_event_has_the_same_key_after_a_rotation(path: Path) -> None:
    pseudonyms = Pseudonyms(path)
    key = pseudonyms.key("e1")
    pseudonyms.rotate()
    assert pseudonyms.key("e1") == key
    assert pseudonyms.key("e2") != key


def test_unused_key_is_retired_except_the_newest(path: Path) -> None:
    pseudonyms = Pseudonyms(path)
    pseudonyms.rotate()
    pseudonyms.rotate()
    assert pseudonyms.retire(set(), datetime.now(UTC) - timedelta(days=1)) == (), "all were replaced just now"
    later = datetime.now(UTC) + timedelta(seconds=1)
    assert pseudonyms.retire({"k1"}, later) == ("k2",)
    assert pseudonyms.names == ("k1", "k3")
    assert pseudonyms.retire(set(), later) == ("k1",)
    assert pseudonyms.names == Pseudonyms(path).names == ("k3",)
    assert pseudonyms.rotate() == "k4"


def test_missing_keys_are_created_only_if_allowed(path: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="restore the file"):
        Pseudonyms(path, make=False)
    assert not path.exists()
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be created"):
        Pseudonyms(tmp_path / "file" / "keys.json")


def test_leftovers_of_a_killed_rotation_are_removed_and_keys_are_private(path: Path) -> None:
    pseudonyms = Pseudonyms(path)
    (path.parent / ".keys.json.new").write_bytes(b"secrets")
    pseudonyms.rotate()
    assert [each.name for each in path.parent.iterdir()] == ["keys.json"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_concurrent_first_use_creates_one_key(path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: Pseudonyms(path).shopper("u1"), range(8)))
    assert len(set(made)) == 1
    assert [each.name for each in path.parent.iterdir()] == ["keys.json"]


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"salt":"", "keys":[]}', b"\xff"])
def test_damaged_keys_are_refused_by_name(path: Path, content: bytes) -> None:
    Pseudonyms(path)
    path.write_bytes(content)
    with pytest.raises(StoreDamagedError, match=r"keys\.json"):
        Pseudonyms(path)


NOON = datetime(2026, 12, 2, 12, tzinfo=UTC)


def test_processes_agree_within_a_day_and_nobody_links_two_days(tmp_path: Path) -> None:
    one, other = AddressPseudonyms(tmp_path), AddressPseudonyms(tmp_path)
    today = one.of("192.0.2.7", NOON)
    assert len(today) == 22
    assert other.of("192.0.2.7", NOON + timedelta(hours=11)) == today
    assert other.of("192.0.2.8", NOON) != today
    tomorrow = other.of("192.0.2.7", NOON + timedelta(days=1))
    assert tomorrow != today
    assert one.of("192.0.2.7", NOON + timedelta(days=1)) == tomorrow


def test_the_salt_of_yesterday_is_gone(tmp_path: Path) -> None:
    before = AddressPseudonyms(tmp_path).of("192.0.2.7", NOON)
    AddressPseudonyms(tmp_path).of("192.0.2.7", NOON + timedelta(days=1))
    assert AddressPseudonyms(tmp_path).of("192.0.2.7", NOON) != before


def test_only_its_owner_reads_the_salt_and_damage_ends_only_the_counts_of_a_day(tmp_path: Path) -> None:
    AddressPseudonyms(tmp_path).of("192.0.2.7", NOON)
    path = tmp_path / ADDRESS_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StoreDamagedError, match="a new one is made"):
        AddressPseudonyms(tmp_path).check()
    assert len(AddressPseudonyms(tmp_path).of("192.0.2.7", NOON)) == 22


def test_no_address_has_no_pseudonym(tmp_path: Path) -> None:
    assert not AddressPseudonyms(tmp_path).of("", NOON)
    assert not (tmp_path / ADDRESS_FILE).exists()


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
        ("unix:", "unix:"),
        ("", ""),
    ],
)
def test_addresses_of_one_ipv6_network_are_one(address: str, group: str) -> None:
    assert address_group(address) == group
