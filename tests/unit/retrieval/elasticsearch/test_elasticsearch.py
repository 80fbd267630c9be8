"""Connection settings of a cluster, and its sortable numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.retrieval.elasticsearch.cluster_index import number_of, sortable
from shelfwise.retrieval.elasticsearch.settings import ClusterSettings
from shelfwise.retrieval.errors import SettingError

URL = ("http://localhost:9200",)


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        ({"urls": ()}, "elasticsearch.url is not set"),
        ({"urls": ("localhost:9200",)}, "must be like"),
        ({"urls": ("http://me:secret@localhost:9200",)}, "has a name or a password"),
        ({"urls": URL, "alias": "Shop"}, "elasticsearch.alias is 'Shop'"),
        ({"urls": URL, "alias": "a,b"}, "elasticsearch.alias"),
        ({"urls": URL, "username": "me"}, "go together"),
        ({"urls": URL, "username": "me", "password": "secret", "api_key": "key"}, "both set"),
        ({"urls": URL, "ca_certificate": Path("nowhere.pem")}, "nowhere.pem"),
        ({"urls": URL, "deadline": 0.0}, "elasticsearch.deadline is 0.0"),
    ],
)
def test_invalid_settings_are_named(given_settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message) as raised:
        ClusterSettings(**given_settings)
    assert "secret" not in str(raised.value)


def test_secrets_are_not_shown() -> None:
    hidden: tuple[dict[str, Any], ...] = ({"username": "me", "password": "secret"}, {"api_key": "secret"})
    for secrets in hidden:
        assert "secret" not in repr(ClusterSettings(URL, **secrets))


@given(st.lists(st.floats(allow_nan=False), min_size=2, max_size=20))
def test_digits_sort_like_numbers(numbers: list[float]) -> None:
    assert sorted(numbers) == sorted(numbers, key=sortable)
    assert [number_of(sortable(number)) for number in numbers] == numbers
    assert sortable(0.0) == sortable(-0.0)
