"""Personal data in queries is masked; what a shop sells under numbers is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.events.masking import Masker, is_region

MASKER = Masker()


@pytest.mark.parametrize(
    ("query", "masked"),
    [
        ("jo.do@example.com", "[email]"),
        ("order of jo_do+shop@mail.example.co.uk please", "order of [email] please"),
        ("test＠qq.com", "[email]"),  # full width
        ("4111 1111 1111 1111", "[card]"),
        ("4111-1111-1111-1111 refund", "[card] refund"),
        ("5555555555554444", "[card]"),
        ("378282246310005", "[card]"),
        ("13812345678", "[phone]"),
        ("联系 13812345678 谢谢", "联系 [phone] 谢谢"),
        ("+44 20 7946 0958 drill", "[phone] drill"),
        ("call (212) 555-2368", "call [phone]"),
        ("192.168.1.10", "[address]"),
        ("from 2001:db8::ff00:42:8329", "from [address]"),
        ("a@b.com and 13812345678", "[email] and [phone]"),
    ],
)
def test_masks(query: str, masked: str) -> None:
    assert MASKER.masked(query) == masked


@pytest.mark.parametrize(
    "query",
    [
        "cordless drill 18v 5.0ah",
        "dcd771c2",
        "4006381333931",  # an EAN with its check digit
        "096009010836",  # a UPC
        "978-3-16-148410-0",  # an ISBN
        "iphone 13 pro max 256",
        "85123A 22423",
        "12:30:45 timer",
        "screws 4x40 200 pcs",
        "1920x1080 60hz 27",
        "无线耳机 5.3",
        "aa:bb switch",
        "",
    ],
)
def test_leaves_alone(query: str) -> None:
    assert MASKER.masked(query) == query


def test_sixteen_digits_without_the_check_digit_of_a_card_are_no_card() -> None:
    assert MASKER.masked("4111111111111112") == "4111111111111112"


def test_phone_numbers_are_those_of_the_regions() -> None:
    number = "06 12 34 56 78"
    assert Masker(["FR"]).masked(number) == "[phone]"
    assert Masker([]).masked(number) == number


def test_regions_are_known() -> None:
    assert is_region("CN")
    assert not is_region("XX")


@given(st.text(max_size=60))
def test_any_text_is_masked_once(text: str) -> None:
    masked = MASKER.masked(text)
    assert MASKER.masked(masked) == masked


@given(
    st.emails(domains=st.sampled_from(["example.com", "mail.example.org"])), st.sampled_from(["", "drill ", "我的 "])
)
def test_no_address_of_ordinary_letters_is_left(email: str, before: str) -> None:
    assert email.rpartition("@")[2] not in MASKER.masked(before + email)
