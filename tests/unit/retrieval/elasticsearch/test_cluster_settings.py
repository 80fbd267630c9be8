"""What no cluster can be asked with is refused by the name of its setting, and secrets are shown nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.elasticsearch.keyword import number_of, sortable
from retrieval.elasticsearch.settings import ClusterSettings
from retrieval.errors import SettingError

URL = ("http://localhost:9200",)
SECRET = "secret"


@pytest.mark.parametrize(
    ("given_settings", "told"),
    [
        ({"urls": ()}, "elasticsearch.url is not set"),
        ({"urls": ("localhost:9200",)}, "must be such as"),
        ({"urls": ("ftp://localhost",)}, "must be such as"),
        ({"urls": ("http://me:secret@localhost:9200",)}, "holds a name or a password"),
        ({"urls": URL, "alias": "Shop"}, "elasticsearch.alias is 'Shop'"),
        ({"urls": URL, "alias": "_shop"}, "elasticsearch.alias"),
        ({"urls": URL, "alias": "a,b"}, "elasticsearch.alias"),
        ({"urls": URL, "username": "me"}, "go together"),
        ({"urls": URL, "username": "me", "password": "secret", "api_key": "key"}, "both set"),
        ({"urls": URL, "ca_certificate": Path("nowhere.pem")}, "nowhere.pem"),
        ({"urls": URL, "deadline": 0.0}, "elasticsearch.deadline is 0.0"),
    ],
)
def test_what_is_wrong_is_named(given_settings: dict[str, Any], told: str) -> None:
    with pytest.raises(SettingError, match=told) as raised:
        ClusterSettings(**given_settings)
    assert "secret" not in str(raised.value)


def test_secrets_are_not_shown() -> None:
    shown = repr(ClusterSettings(URL, username="me", password=SECRET)) + repr(ClusterSettings(URL, api_key=SECRET))
    assert "secret" not in shown


@given(st.lists(st.floats(allow_nan=False), min_size=2, max_size=20))
def test_digits_sort_as_the_numbers_do(numbers: list[float]) -> None:
    assert sorted(numbers) == sorted(numbers, key=sortable)
    assert [number_of(sortable(number)) for number in numbers] == numbers
    assert sortable(0.0) == sortable(-0.0)
