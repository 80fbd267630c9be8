"""API keys: what each allows, and that nothing that was not signed by one is believed."""

from __future__ import annotations

import base64
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.errors import FilterError, SettingError, StoreDamagedError
from service.http.auth import KeyFile, Permit, Scope, StoredKey, combine_filters, narrow_key, new_key, verify_key
from tests.services import made

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def stored_key(*scopes: Scope, filters: str = "", expires: datetime | None = None) -> tuple[str, dict[str, StoredKey]]:
    key, stored = new_key("web", scopes, now=NOW, filters=filters, expires=expires)
    return key, {stored.id: stored}


def permit(key: str, known: dict[str, StoredKey], now: datetime = NOW) -> Permit:
    found = verify_key(key, known, now)
    assert found is not None
    return found


def test_a_key_allows_its_scopes_and_no_other() -> None:
    key, known = stored_key(Scope.SEARCH)
    assert permit(key, known).allows(Scope.SEARCH)
    assert not permit(key, known).allows(Scope.WRITE)


def test_admin_allows_everything() -> None:
    key, known = stored_key(Scope.ADMIN)
    assert all(permit(key, known).allows(scope) for scope in Scope)


def test_nothing_of_a_key_is_kept_that_it_could_be_made_of() -> None:
    key, known = stored_key(Scope.SEARCH)
    secret = key.split("_", 2)[2]
    (stored,) = known.values()
    assert secret not in repr(stored)
    assert base64.urlsafe_b64decode(secret + "=").hex() not in repr(stored)


def test_a_key_ends_when_it_was_said_to() -> None:
    key, known = stored_key(Scope.SEARCH, expires=NOW + timedelta(hours=1))
    assert verify_key(key, known, NOW + timedelta(minutes=59))
    assert verify_key(key, known, NOW + timedelta(hours=1)) is None


def test_a_narrowed_key_has_less_and_never_more() -> None:
    key, known = stored_key(Scope.SEARCH, Scope.EVENTS, filters="brand = Bosch")
    less = narrow_key(key, scopes=(Scope.SEARCH, Scope.WRITE), filters="price < 100", expires=NOW + timedelta(days=1))
    found = permit(less, known)
    assert found.scopes == {Scope.SEARCH}
    assert found.filters == ("brand = Bosch", "price < 100")
    assert verify_key(less, known, NOW + timedelta(days=1)) is None


def test_a_narrowed_key_is_gone_with_the_one_that_signed_it() -> None:
    key, known = stored_key(Scope.SEARCH)
    other, others = stored_key(Scope.SEARCH)
    less = narrow_key(key)
    assert permit(less, known | others)
    assert verify_key(less, others, NOW) is None
    assert permit(other, others)


@given(place=st.integers(0, 400), letter=st.sampled_from("AZaz09-_."))
def test_a_signed_key_that_was_changed_anywhere_is_refused(place: int, letter: str) -> None:
    key, known = stored_key(Scope.SEARCH)
    less = narrow_key(key, filters="price < 100")
    at = place % len(less)
    changed = less[:at] + letter + less[at + 1 :]
    found = verify_key(changed, known, NOW)
    # The last letter of base64 has bits that count for nothing.
    assert found is None or found == permit(less, known)


@given(text=st.text(max_size=200))
def test_any_text_is_no_key(text: str) -> None:
    _, known = stored_key(Scope.ADMIN)
    for key in (text, f"sw_{text}", f"sws_{text}", f"sw_{next(iter(known))}_{text}"):
        assert verify_key(key, known, NOW) is None


def test_what_cannot_be_a_key_is_refused() -> None:
    with pytest.raises(SettingError, match="without a scope"):
        new_key("web", (), now=NOW)
    with pytest.raises(SettingError, match="1 to 100 characters"):
        new_key(" ", (Scope.SEARCH,), now=NOW)
    with pytest.raises(FilterError):
        new_key("web", (Scope.SEARCH,), now=NOW, filters="price <")
    with pytest.raises(SettingError, match="no complete key"):
        narrow_key("sw_123_short")


def test_a_request_cannot_reach_out_of_the_brackets_of_its_key() -> None:
    with pytest.raises(FilterError):
        combine_filters(("brand = Bosch", "price > 0) OR (price > 0"))
    assert combine_filters(("brand = Bosch", "price > 0 OR id EXISTS")) == "brand = Bosch AND (price > 0 OR id EXISTS)"
    assert combine_filters(("", " ")) == ""


def test_a_file_of_keys_is_taken_up_when_it_changes(keys: KeyFile) -> None:
    assert not keys.exists
    running = KeyFile(keys.path)
    assert running.keys() == {}
    key = made(keys, Scope.SEARCH)
    running._checked = -1.0
    assert running.permit(key, datetime.now(UTC))
    keys.withdraw(next(iter(keys.keys())))
    running._checked = -1.0
    assert running.permit(key, datetime.now(UTC)) is None
    with pytest.raises(SettingError, match="there is no key"):
        keys.withdraw("nosuch")


def test_the_file_is_for_its_owner_alone(keys: KeyFile) -> None:
    made(keys, Scope.SEARCH)
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600


def test_keys_that_are_made_at_the_same_time_are_all_there(keys: KeyFile) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: made(KeyFile(keys.path), Scope.SEARCH), range(12)))
    assert len(keys.keys()) == 12


def test_a_damaged_file_is_refused_by_name(keys: KeyFile) -> None:
    keys.path.write_text('[{"id": 1}]')
    with pytest.raises(StoreDamagedError, match=str(keys.path)):
        keys.keys()
