"""API keys: scopes, narrowed keys, the key file, and the authorization of requests."""

from __future__ import annotations

import base64
import re
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.retrieval.errors import FilterError, SettingError, StoreDamagedError
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.files import text_seal
from shelfwise.service.app import create_app
from shelfwise.service.curation.document_store import DocumentKind
from shelfwise.service.curation.relevance import Relevance
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.http.auth import (
    TOKEN_FILE,
    AdminToken,
    KeyFile,
    Permit,
    Scope,
    StoredKey,
    combine_filters,
    narrow_key,
    new_key,
    verify_key,
)
from shelfwise.service.http.errors import RequestError
from shelfwise.service.settings import ServiceSettings
from tests.services import add_key, narrowed

NOW = datetime(2026, 5, 1, tzinfo=UTC)
LONG_FILTER = " OR ".join(f"id = {number:020}" for number in range(35))
"""A filter of almost 1,000 characters."""


def stored_key(*scopes: Scope, filters: str = "", expires: datetime | None = None) -> tuple[str, dict[str, StoredKey]]:
    key, stored = new_key("web", scopes, now=NOW, filters=filters, expires=expires)
    return key, {stored.id: stored}


def permit(key: str, known: dict[str, StoredKey], now: datetime = NOW) -> Permit:
    found = verify_key(key, known, now)
    assert found is not None
    return found


def test_key_file_contains_no_secret() -> None:
    key, known = stored_key(Scope.SEARCH)
    secret = key.split("_", 2)[2]
    (stored,) = known.values()
    assert secret not in repr(stored)
    assert base64.urlsafe_b64decode(secret + "=").hex() not in repr(stored)


def test_key_expires() -> None:
    key, known = stored_key(Scope.SEARCH, expires=NOW + timedelta(hours=1))
    assert verify_key(key, known, NOW + timedelta(minutes=59))
    assert verify_key(key, known, NOW + timedelta(hours=1)) is None


PKCS_8 = bytes.fromhex("302e020100300506032b657004220420")
TOMORROW = (NOW + timedelta(days=1)).timestamp()
WHOLE: dict[str, object] = {"exp": TOMORROW, "scopes": ["search", "write"], "filters": "price < 100"}


def token(key: str, claims: dict[str, object], algorithm: str = "EdDSA", signer: object = None, **header: str) -> str:
    """A JSON Web Token as any language makes it from a key."""
    _, kid, secret = key.split("_", 2)
    own = load_der_private_key(PKCS_8 + base64.urlsafe_b64decode(f"{secret}="), None)
    return jwt.encode(claims, own if signer is None else signer, algorithm, {"kid": kid, **header})  # type: ignore[arg-type]


def test_narrowed_key_cannot_widen_its_rights_and_ends_with_its_parent() -> None:
    key, known = stored_key(Scope.SEARCH, Scope.EVENTS, filters="brand = Bosch")
    less = narrow_key(key, scopes=(Scope.SEARCH, Scope.WRITE), filters="price < 100", expires=NOW + timedelta(days=1))
    for each in (less, token(key, WHOLE), token(key, {**WHOLE, "nbf": 0, "iat": 9e9})):
        found = permit(each, known)
        assert found.scopes == {Scope.SEARCH}
        assert found.filters == ("brand = Bosch", "price < 100")
        assert verify_key(each, known, NOW + timedelta(days=1)) is None
        assert verify_key(each, stored_key(Scope.SEARCH)[1], NOW) is None


@pytest.mark.parametrize(
    ("claims", "header"),
    [
        ({"scopes": ["search"]}, {}),
        ({**WHOLE, "exp": None}, {}),
        ({**WHOLE, "exp": "never"}, {}),
        ({**WHOLE, "exp": NOW.timestamp()}, {}),
        ({**WHOLE, "nbf": NOW.timestamp() + 1}, {}),
        ({**WHOLE, "scopes": []}, {}),
        ({**WHOLE, "indexes": []}, {}),
        ({**WHOLE, "filters": " "}, {}),
        ({**WHOLE, "exp": float("nan")}, {}),
        ({**WHOLE, "exp": 10**400}, {}),
        ({**WHOLE, "filters": "b" * 3_000}, {}),
        ({**WHOLE, "scopes": ["all"]}, {}),
        ({**WHOLE, "user": "anna"}, {}),
        (WHOLE, {"algorithm": "none", "signer": ""}),
        (WHOLE, {"algorithm": "HS256", "signer": "PUBLIC"}),
        (WHOLE, {"signer": Ed25519PrivateKey.generate()}),
        (WHOLE, {"signer": Ed448PrivateKey.generate()}),
        (WHOLE, {"kid": "0" * 12}),
        (WHOLE, {"crit": ["b64"]}),
        (WHOLE, {"crit": ["b64"], "b64": False}),
    ],
)
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_forged_narrowed_key_is_refused(claims: dict[str, object], header: dict[str, Any]) -> None:
    key, known = stored_key(Scope.ADMIN)
    (stored,) = known.values()
    if header.get("signer") == "PUBLIC":
        header = {**header, "signer": bytes.fromhex(stored.public)}
    assert verify_key(token(key, WHOLE), known, NOW)
    assert verify_key(token(key, claims, **header), known, NOW) is None


@given(index=st.integers(0, 400), letter=st.sampled_from("AZaz09-_."))
def test_altered_narrowed_key_is_refused(index: int, letter: str) -> None:
    key, known = stored_key(Scope.SEARCH)
    less = narrowed(key, filters="price < 100")
    at = index % len(less)
    for changed in (less[:at] + letter + less[at + 1 :], less[:at], less + letter, f"{less}=="):
        assert changed == less or verify_key(changed, known, NOW) is None


@given(text=st.text(max_size=200))
def test_arbitrary_text_is_not_a_key(text: str) -> None:
    _, known = stored_key(Scope.ADMIN)
    for key in (text, f"sw_{text}", f"{text}.{text}.{text}", f"sw_{next(iter(known))}_{text}"):
        assert verify_key(key, known, NOW) is None


def test_invalid_key_is_refused() -> None:
    with pytest.raises(SettingError, match="a key needs a scope"):
        new_key("web", (), now=NOW)
    with pytest.raises(SettingError, match="1 to 100 characters"):
        new_key(" ", (Scope.SEARCH,), now=NOW)
    with pytest.raises(FilterError):
        new_key("web", (Scope.SEARCH,), now=NOW, filters="price <")
    with pytest.raises(SettingError, match="not a complete key"):
        narrowed("sw_123_short")
    with pytest.raises(SettingError, match="at most 4,096"):
        narrowed(stored_key(Scope.SEARCH)[0], filters=" OR ".join([LONG_FILTER] * 4))


def test_request_filter_cannot_escape_the_key_filter() -> None:
    with pytest.raises(FilterError):
        combine_filters(("brand = Bosch", "price > 0) OR (price > 0"))
    assert combine_filters(("brand = Bosch", "price > 0 OR id EXISTS")) == "brand = Bosch AND (price > 0 OR id EXISTS)"
    assert combine_filters(("", " ")) == ""


def test_changed_key_file_is_reloaded(keys: KeyFile) -> None:
    assert not keys.exists
    running = KeyFile(keys.path)
    assert running.keys() == {}
    key = add_key(keys, Scope.SEARCH)
    assert running.permit(key, datetime.now(UTC))
    keys.withdraw(next(iter(keys.keys())))
    assert running.permit(key, datetime.now(UTC)) is None
    with pytest.raises(SettingError, match="there is no key"):
        keys.withdraw("nosuch")


def test_concurrent_withdrawals_leave_a_key_with_the_scope_admin(keys: KeyFile) -> None:
    """Regression: each of two requests saw the key that the other revoked, and no admin key was left."""
    for _ in range(4):
        add_key(keys, Scope.ADMIN)

    def withdraw(identity: str) -> bool:
        try:
            return bool(KeyFile(keys.path).withdraw(identity, keeps_admin=True))
        except RequestError as error:
            assert error.status == 409
            return False

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(withdraw, list(keys.keys()))) == [False, True, True, True, True], (
            "with that of the store page"
        )


def test_concurrently_created_keys_are_all_stored(keys: KeyFile) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: add_key(KeyFile(keys.path), Scope.SEARCH), range(12)))
    assert len(keys.keys()) == 13, "with that of the store page"
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600  # readable only for its owner


def test_damaged_key_file_is_refused_by_name(keys: KeyFile) -> None:
    keys.path.write_text('[{"id": 1}]')
    with pytest.raises(StoreDamagedError, match=str(keys.path)):
        keys.keys()


@pytest.fixture
def guarded(store: SearchEngine, keys: KeyFile) -> Iterator[TestClient]:
    """A client from another address, whose requests need a key."""
    settings = ServiceSettings(keys=keys.path, requests_per_minute_key=50, requests_per_minute_address=100)
    with TestClient(create_app(store, settings), "http://search.example", client=("203.0.113.7", 50_000)) as calling:
        yield calling


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


OPEN = {
    "GET /health/live",
    "GET /health/ready",
    "GET /v1/products/{product_id}/pictures/{number}",
    "POST /v1/search/picture",
    "GET /v1/suggest",
    "GET /v1/related",
    "POST /v1/answer",
    "POST /v1/recommend",
    "GET /v1/search",
    "POST /v1/search",
    "POST /v1/multi-search",
    "GET /v1/products/{product_id}/similar",
    "GET /v1/products/{product_id}/related",
    "GET /v1/products/{product_id}",
    "POST /v1/events",
    "GET /v1/indexes",
    "GET /1/indexes/{index}/{object_id}",
    "POST /1/indexes/*/queries",
    "POST /1/indexes/*/recommendations",
    "POST /1/indexes/*/objects",
    "POST /1/indexes/{index}/query",
    "POST /1/indexes/{index}/browse",
    "POST /1/indexes/{index}/facets/{facet}/query",
    "POST /1/events",
}
"""Operations that a shopper's page may use without a key as long as there are no keys."""
FORGED = f"swt_{'a' * 64}{text_seal('a' * 64)}"
OWN_PAGE = {"Sec-Fetch-Site": "same-origin", "Origin": "http://search.example"}


def paths_of(path: str) -> list[str]:
    """A path of the OpenAPI document, for every kind of documents."""
    return [path.replace("{kind}", kind) for kind in DocumentKind] if "{kind}" in path else [path]


def statuses_of_operations(client: TestClient, headers: dict[str, str]) -> dict[str, int]:
    """The status of each operation of the OpenAPI document, with an empty body."""
    found = {}
    for path, methods in client.get("/v1/openapi.json").json()["paths"].items():
        for method in methods:
            for each in paths_of(path):
                address = re.sub("[{}]", "", each)
                status = client.request(method, address, json={}, headers=headers).status_code
                found[f"{method.upper()} {each}"] = status
    return found


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "127.0.0.1:8080"},
        {"X-API-Key": "sw_000000000000_" + "A" * 43, "X-Algolia-API-Key": "none"},
        {"Authorization": f"Bearer {FORGED}"},
        OWN_PAGE | {"Cookie": f"shelfwise={FORGED}"},
    ],
)
def test_without_keys_only_what_a_shopper_needs_is_open(store: SearchEngine, headers: dict[str, str]) -> None:
    """Regression: behind a proxy that changes no header, every caller was taken for this machine, and administered."""
    app = create_app(store, ServiceSettings())
    app.state.shared.token.ensure()
    before = store.live.sequence
    found = statuses_of_operations(TestClient(app, "http://search.example", client=("127.0.0.1", 50_000)), headers)
    assert len(found) > 90
    hidden = {each.path for each in app.routes if isinstance(each, APIRoute) and not each.include_in_schema}
    assert {each for each in hidden if each.startswith(("/v1/", "/1/"))} == {"/v1/openapi.json"}
    signed = {name for name in found if "/webhooks/" in name}
    assert {name for name, status in found.items() if status != 401} - signed == OPEN
    assert store.live.sequence == before


def test_the_token_opens_every_operation_with_or_without_keys(guarded: TestClient, keys: KeyFile) -> None:
    token = guarded.app.state.shared.token.ensure()  # type: ignore[attr-defined]
    sent = (
        {"Authorization": f"Bearer {token}"},
        {"X-API-Key": token},
        OWN_PAGE | {"Cookie": f"a=b; shelfwise={token}"},
    )
    for _ in range(2):
        for headers in sent:
            assert guarded.get("/v1/settings", headers=headers).status_code == 200
            assert guarded.delete("/v1/products/nosuch", headers=headers).status_code == 200
        assert guarded.get("/1/indexes/store/settings", headers={"X-Algolia-API-Key": token}).status_code == 200
        add_key(keys, Scope.SEARCH)
    assert guarded.get("/v1/settings").status_code == 401


def test_hidden_fields_are_not_public(guarded: TestClient, store: SearchEngine) -> None:
    store.relevance.put([Relevance(hidden=("brand",))], who="")
    token = guarded.app.state.shared.token.ensure()  # type: ignore[attr-defined]
    cookie = OWN_PAGE | {"Cookie": f"shelfwise={token}"}  # the owner's store page shows what a shopper's does
    for headers, is_hidden in (({}, True), (cookie, True), (bearer(token), False)):
        (hit,) = guarded.get("/v1/search", params={"q": "drill", "size": 1}, headers=headers).json()["hits"]
        assert (not hit["product"]["brand"]) is is_hidden
    store.relevance.put([Relevance()], who="")


@pytest.mark.parametrize(
    ("method", "headers", "is_own"),
    [
        ("DELETE", {"Origin": "http://search.example", "Sec-Fetch-Site": "same-origin"}, True),
        ("DELETE", {"Origin": "http://search.example"}, True),
        ("DELETE", {"Sec-Fetch-Site": "same-origin"}, True),
        ("GET", {"Sec-Fetch-Site": "none"}, True),
        ("GET", {}, True),
        ("DELETE", {}, False),
        ("GET", {"Sec-Fetch-Site": "same-site"}, False),
        ("GET", {"Sec-Fetch-Site": "cross-site"}, False),
        ("GET", {"Origin": "http://search.example:9999"}, False),
        ("DELETE", {"Origin": "http://search.example:9999", "Sec-Fetch-Site": "same-site"}, False),
        ("DELETE", {"Origin": "http://search.example", "Sec-Fetch-Site": "same-site"}, False),
        ("DELETE", {"Origin": "https://search.example", "Sec-Fetch-Site": "same-origin"}, False),
        ("DELETE", {"Origin": "http://other.example", "Sec-Fetch-Site": "same-origin"}, False),
        ("DELETE", {"Origin": "null"}, False),
        ("DELETE", {"Origin": ""}, False),
    ],
)
def test_cookie_counts_only_for_pages_of_the_service(
    store: SearchEngine, method: str, headers: dict[str, str], is_own: bool
) -> None:
    """Also where the settings let pages of another origin use the API."""
    app = create_app(store, ServiceSettings(cors_origins=("http://other.example",)))
    cookie = {"Cookie": f"shelfwise={app.state.shared.token.ensure()}"}
    client = TestClient(app, "http://search.example")
    path = "/v1/products/nosuch" if method == "DELETE" else "/v1/settings"
    answer = client.request(method, path, headers=headers | cookie)
    assert answer.status_code == (200 if is_own else 403)
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert is_own or "service.trusted_proxies" in answer.json()["error"]["message"]


def test_the_link_with_the_token_sets_a_cookie_and_leads_to_the_address_without_it(store: SearchEngine) -> None:
    app = create_app(store, ServiceSettings())
    token = app.state.shared.token.ensure()
    for origin, start, end in (
        ("http://shop.example", "shelfwise-", ""),
        ("https://s", "__Host-shelfwise-", "; Secure"),
    ):
        client = TestClient(app, origin, follow_redirects=False)
        answer = client.get("/admin", params={"token": token})
        assert (answer.status_code, answer.headers["Location"]) == (303, "admin")
        assert (answer.headers["Cache-Control"], answer.headers["Referrer-Policy"]) == ("no-store", "no-referrer")
        name, _, attributes = answer.headers["Set-Cookie"].partition(f"={token}; ")
        assert name.startswith(start) and token not in name
        assert attributes == f"HttpOnly; Max-Age=2592000; Path=/; SameSite=strict{end}"
        assert client.get("/v1/settings").status_code == 200
    wrong = client.get("/admin", params={"token": FORGED})
    assert (wrong.status_code, wrong.headers.get("Set-Cookie"), wrong.content) == (303, None, b"")


def test_cookies_of_two_services_have_different_names(tmp_path: Path, store: SearchEngine) -> None:
    names = set()
    for root in (tmp_path / "a", tmp_path / "b"):
        root.mkdir()
        app = create_app(root, ServiceSettings())
        with TestClient(app, follow_redirects=False) as client:
            names |= {
                client.get("/admin", params={"token": app.state.shared.token.ensure()}).headers["Set-Cookie"][:26]
            }
    assert len(names) == 2


def test_token_is_created_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / TOKEN_FILE
    with ThreadPoolExecutor(8) as threads:
        (token,) = set(threads.map(lambda _: AdminToken(tmp_path).ensure(), range(16)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert AdminToken(tmp_path).ensure() == token
    path.chmod(0o644)  # others may have read it
    assert not AdminToken(tmp_path).is_among([token])
    again = AdminToken(tmp_path).ensure()
    assert again != token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (AdminToken(tmp_path).is_among([token]), AdminToken(tmp_path).is_among([again])) == (False, True)
    path.unlink()
    assert not AdminToken(tmp_path).is_among([again])


@pytest.mark.parametrize("content", [b"", b"swt_short", b"\xff" * 50, b"swt_" + b"a" * 80])
def test_damaged_token_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / TOKEN_FILE).write_bytes(content)
    (tmp_path / TOKEN_FILE).chmod(0o600)
    with pytest.raises(StoreDamagedError, match=rf"{tmp_path / TOKEN_FILE} contains no token; remove it"):
        AdminToken(tmp_path).ensure()
    assert not AdminToken(tmp_path).is_among([content.decode("latin-1"), "", FORGED])


@pytest.mark.parametrize("key", ["", "wrong", "sw_000000000000_" + "A" * 43, "e30.e30.AAAA", "\u00e9" * 10])
def test_a_wrong_key_is_refused(guarded: TestClient, keys: KeyFile, key: str) -> None:
    add_key(keys, Scope.ADMIN)
    answer = guarded.get("/v1/search", headers={b"X-API-Key": key.encode()})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] in ("no_key", "bad_key")


REQUESTS = {
    Scope.SEARCH: ("GET", "/v1/search"),
    Scope.EVENTS: ("POST", "/v1/events"),
    Scope.WRITE: ("POST", "/v1/products/changes"),
    Scope.METRICS: ("GET", "/metrics"),
    Scope.ADVERTISER: ("GET", "/v1/campaigns/log"),
    Scope.ADMIN: ("GET", "/v1/settings"),
}


@pytest.mark.parametrize("scope", Scope)
def test_key_allows_only_its_scopes_and_is_accepted_in_both_headers(
    guarded: TestClient, keys: KeyFile, scope: Scope
) -> None:
    key = add_key(keys, scope)
    for headers in (bearer(key), {"X-API-Key": key}):
        allowed = set()
        for each, (method, path) in REQUESTS.items():
            answer = guarded.request(method, path, json={}, headers=headers)
            assert answer.status_code != 403 or f"it has {scope}" in answer.json()["error"]["message"]
            allowed |= {each} if answer.status_code in (200, 400) else set()
        assert allowed == (REQUESTS.keys() if scope is Scope.ADMIN else {scope} & REQUESTS.keys())


def test_narrowed_key_is_filtered(guarded: TestClient, keys: KeyFile, store: SearchEngine) -> None:
    everything = store.search("", facets=["brand"], size=200)
    brand = str(everything.facets["brand"].counts[0].value)
    key = narrowed(add_key(keys, Scope.SEARCH), filters=f'brand = "{brand}"')
    found = guarded.get("/v1/search", params={"facets": "brand"}, headers=bearer(key)).json()
    assert {each["value"] for each in found["facets"]["brand"]["counts"]} == {brand}
    tried = guarded.get("/v1/search", params={"filters": "price >= 0 OR price < 0"}, headers=bearer(key)).json()
    assert tried["total"] <= found["total"]
    hidden = next(hit.product.id for hit in everything.hits if hit.product.brand != brand)
    for path in (f"/v1/products/{hidden}", f"/v1/products/{hidden}/similar", f"/v1/products/{hidden}/related"):
        assert guarded.get(path, headers=bearer(key)).status_code == 404


@pytest.fixture
def dealer(keys: KeyFile) -> dict[str, str]:
    """The headers of a key that is narrowed to one brand and has all rights for it."""
    return bearer(narrowed(add_key(keys, Scope.ADMIN, requests_per_minute=100), filters="brand = Ownbrand"))


@pytest.fixture
def rival(store: SearchEngine) -> Product:
    """A product of another brand."""
    return store.search("drill", filters="brand EXISTS AND brand != Ownbrand").hits[0].product


def test_narrowed_key_changes_products_of_its_filter(guarded: TestClient, dealer: dict[str, str]) -> None:
    own = {"id": "own", "title": "Drill", "brand": "Ownbrand"}
    operations = [{"put": own}, {"delete": "own"}, {"put": own}]
    assert guarded.post("/v1/products/changes", json={"operations": operations}, headers=dealer).status_code == 200
    assert guarded.patch("/v1/products/own", json={"price": 9}, headers=dealer).json()["products"] == 1
    assert guarded.get("/v1/products/own", headers=dealer).json()["product"]["price"] == 9
    assert guarded.delete("/v1/products/own", headers=dealer).json()["products"] == 1


def test_narrowed_key_changes_no_product_outside_its_filter(
    guarded: TestClient, dealer: dict[str, str], store: SearchEngine, rival: Product
) -> None:
    stolen = {"id": rival.id, "title": "Mine", "brand": "Ownbrand"}
    foreign = {"id": "foreign", "title": "Theirs", "brand": rival.brand}
    own = {"id": "kept", "title": "Drill", "brand": "Ownbrand"}
    guarded.put("/v1/products/kept", json=own, headers=dealer)
    for status, operations in (
        (404, [{"patch": {"id": rival.id, "price": 1}}]),
        (404, [{"patch": {"id": rival.id, "brand": "Ownbrand"}}]),
        (404, [{"delete": rival.id}]),
        (403, [{"put": stolen}]),
        (403, [{"put": foreign}]),
        (403, [{"patch": {"id": "kept", "brand": rival.brand}}]),
        (403, [{"put": own | {"price": 1}}, {"put": foreign}]),
        (404, [{"delete": "kept"}, {"delete": rival.id}]),
        (403, [{"delete": "kept"}, {"put": foreign | {"id": "kept"}}]),
    ):
        answer = guarded.post("/v1/products/changes", json={"operations": operations}, headers=dealer)
        assert answer.status_code == status, operations
        assert rival.title not in answer.text
    for method, body in (("PUT", stolen), ("PATCH", {"price": 1}), ("DELETE", None)):
        answer = guarded.request(method, f"/v1/products/{rival.id}", json=body, headers=dealer)
        assert answer.status_code in (403, 404)
    assert store.product(rival.id) == rival
    assert store.product("kept").price is None
    unknown, hidden = (guarded.delete(f"/v1/products/{each}", headers=dealer).json() for each in ("no", rival.id))
    assert unknown["error"]["message"].replace("'no'", repr(rival.id)) == hidden["error"]["message"]


def test_narrowed_key_records_no_event_outside_its_filter(
    guarded: TestClient, dealer: dict[str, str], rival: Product
) -> None:
    click = {"kind": "click", "product_id": rival.id, "session": "s"}
    assert guarded.post("/v1/events", json={"events": [click]}, headers=dealer).status_code == 404
    sent = {"eventType": "click", "eventName": "c", "index": "i", "userToken": "u", "objectIDs": [rival.id]}
    body = {"events": [sent], "apiKey": dealer["Authorization"].removeprefix("Bearer ")}
    assert guarded.post("/1/events", json=body).status_code == 404


def test_narrowed_key_administers_nothing(guarded: TestClient, dealer: dict[str, str]) -> None:
    paths = guarded.get("/v1/openapi.json").json()["paths"]
    routes = [(method, path) for path, methods in paths.items() for method in methods if path.startswith("/v1/")]
    shared = re.compile("/v1/(search|multi|products|suggest|related|recommend|answer|webhooks|indexes|events$)")
    administered = [each for each in routes if not shared.match(each[1])]
    assert len(administered) > 30
    tried = [(method, each) for method, path in administered for each in paths_of(path)]
    for method, path in [*tried, ("get", "/metrics")]:
        answer = guarded.request(method, path.replace("{", "").replace("}", ""), json={}, headers=dealer)
        assert (answer.status_code, "no filter" in answer.text) == (403, True), (method, path)


@pytest.fixture
def tailor(keys: KeyFile, store: SearchEngine) -> dict[str, str]:
    """The headers of a key for clothes only, which have no lumens and no hair type."""
    assert {"attributes.lumens", "attributes.hair_type"} <= store.snapshot.catalog.fields.keys()
    return bearer(narrowed(add_key(keys, Scope.SEARCH), filters="category = Clothing"))


@pytest.mark.parametrize(
    ("parameter", "hidden"),
    [
        *((each, "lumens") for each in ("filters", "facets", "sort", "group", "fields", "ranges")),
        *((each, "hair_type") for each in ("highlight", "search_fields")),
    ],
)
def test_hidden_field_is_answered_as_an_unknown_one(
    guarded: TestClient, tailor: dict[str, str], parameter: str, hidden: str
) -> None:
    """Regression: errors listed the fields of the whole catalog."""

    def answer(name: str) -> str:
        given = f"{name} > 1" if parameter == "filters" else name
        found = guarded.get("/v1/search", params={parameter: given}, headers=tailor)
        assert found.status_code == 400
        assert hidden not in found.text.replace(name, "")
        # The advice contains names similar to the given one.
        return str(found.json()["error"]["message"]).partition(";")[0].replace(name, "")

    assert answer(f"attributes.{hidden}") == answer("attributes.qzqzqz")


def test_protocol_and_page_say_nothing_of_hidden_products(guarded: TestClient, tailor: dict[str, str]) -> None:
    found = guarded.get("/v1/search", params={"q": "drill"}, headers=tailor).json()
    assert (found["total"], found["nothing_fits"]) == (0, True)
    key = tailor["Authorization"].removeprefix("Bearer ")
    message = guarded.post("/1/indexes/p/query", json={"apiKey": key, "query": "drill"}).json()["message"]
    assert "no product fits" in message
    answers = [guarded.post(f"/1/indexes/p_{name}_desc/query", json={"apiKey": key}) for name in ("lumens", "qzqzqz")]
    assert answers[0].text.replace("lumens", "qzqzqz") == answers[1].text


def test_hidden_products_in_a_history_have_no_effect(
    guarded: TestClient, tailor: dict[str, str], store: SearchEngine
) -> None:
    pages = []
    for product_id in (store.search("drill").hits[0].product.id, "nosuch"):
        history = [{"product_id": product_id}]
        recommended = guarded.post("/v1/recommend", json={"history": history}, headers=tailor).json()
        found = guarded.post("/v1/search", json={"q": "shirt", "history": history}, headers=tailor).json()
        pages.append((recommended, found["hits"]))
    assert pages[0] == pages[1]


@pytest.mark.parametrize("filters", ["seler = 3", "price <"])
def test_key_whose_filter_no_product_can_pass_is_refused_without_names(
    guarded: TestClient, keys: KeyFile, filters: str
) -> None:
    key = token(add_key(keys, Scope.SEARCH), {"exp": 9e9, "filters": filters})
    answer = guarded.get("/v1/search", headers=bearer(key))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "bad_key_filter")
    assert "price" not in answer.text


@pytest.mark.parametrize(
    ("path", "body", "cost"),
    [
        ("/v1/multi-search", {"searches": [{}] * 20}, 20),
        ("/1/indexes/*/queries", {"requests": [{"indexName": "p"}] * 20}, 20),
        ("/v1/search", {"size": 1_000}, 21),
        ("/1/indexes/p/query", {"hitsPerPage": 1_000}, 21),
        ("/v1/products/changes", {"operations": [{"delete": "nosuch"}] * 1_000}, 21),
        ("/v1/events", {"events": [{"kind": "click", "product_id": "x", "session": "s", "event_id": "e"}] * 1_000}, 21),
        ("/1/indexes/*/recommendations", {"requests": [{"model": "trending-items"}] * 20}, 20),
        ("/v1/multi-search", {"searches": [{"q": "drill", "explain": True}] * 4}, 24),
        ("/v1/search", {"q": "drill", "optional_filters": [LONG_FILTER] * 20}, 20),
        ("/v1/multi-search", {"searches": [{"filters": 5 * f"{LONG_FILTER} OR " + LONG_FILTER}] * 3}, 20),
        ("/v1/search", {"ranges": ["price:" + ",".join(f"{low}.{0:016}" for low in range(100))] * 10}, 20),
        ("/1/indexes/a/query", {"optionalFilters": [["nosuch:" + "b" * 990] * 20]}, 20),
        ("/1/indexes/a/facets/brand/query", {"facetFilters": [["nosuch:" + "b" * 990] * 9] * 2}, 18),
        ("/1/indexes/a/browse", {"hitsPerPage": 1, "tagFilters": [["b" * 990] * 9] * 2}, 18),
    ],
)
def test_searches_and_hits_are_charged(
    guarded: TestClient, keys: KeyFile, path: str, body: dict[str, object], cost: int
) -> None:
    """Regression: a batch of many searches counted as one request."""
    key = add_key(keys, Scope.SEARCH, Scope.WRITE, Scope.EVENTS)
    headers = bearer(key) | {"X-Algolia-API-Key": key}
    answers = [guarded.post(path, json=body, headers=headers) for _ in range(3)]
    assert [each.status_code for each in answers] == [200, 200, 429], f"50 a minute, {cost} each"
    assert 1 <= int(answers[2].headers["Retry-After"]) <= 60


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/multi-search", {"searches": [{"size": 1_000}] * 6}),
        ("/1/indexes/*/queries", {"requests": [{"hitsPerPage": 1_000}] * 6}),
    ],
)
def test_hits_of_a_batch_are_bounded(client: TestClient, path: str, body: dict[str, object]) -> None:
    answer = client.post(path, json=body)
    assert (answer.status_code, "at most 5,000 hits" in answer.text) == (400, True)


def test_pages_of_other_origins_need_a_setting(store: SearchEngine, keys: KeyFile) -> None:
    key = add_key(keys, Scope.SEARCH)
    wanted = {"Origin": "https://shop.example", "Access-Control-Request-Method": "GET"}
    for origins, allowed in (((), None), (("https://shop.example",), "https://shop.example")):
        app = create_app(store, ServiceSettings(keys=keys.path, cors_origins=origins))
        with TestClient(app, "http://search.example") as calling:
            answer = calling.get("/v1/search", headers={**wanted, **bearer(key)})
            assert answer.headers.get("access-control-allow-origin") == allowed
