"""The services: `serve` over HTTP with `keys`, and `mcp` for AI assistants."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from typer import Argument, Option

from shelfwise.retrieval.errors import SettingError, StoreMissingError
from shelfwise.service.cli import output
from shelfwise.service.cli.options import Index, SettingsFile, command
from shelfwise.service.cli.output import Column, emit, say, show_notices, show_objects

if TYPE_CHECKING:
    from shelfwise.service.http.auth import KeyFile, Scope
    from shelfwise.service.settings import ServiceSettings

_EXPIRES = Option("--expires", help="Expiry of the key, in UTC.", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])
KeyIndexes = Annotated[
    list[str] | None, Option("--index", help="Only indexes with this name, * for any characters. Repeatable.")
]
KeyFilter = Annotated[str, Option("--filter", help="A filter that is applied to every search with the key.")]


Stores = Annotated[Path, Argument(help="An index directory, or a directory of several indexes.", metavar="INDEX")]


@command("settings --settings shop.toml")
def show_settings(settings: SettingsFile = None) -> None:
    """List every setting with its value, where the value is from, and what it does. Secrets are not shown."""
    from shelfwise.service.settings import INDEX, SourcedSettings, describe_settings

    sections = describe_settings(SourcedSettings.read(settings))

    def show(_: object) -> None:
        for section, described in sections.items():
            for name, each in described.items():
                full = name if section == INDEX else f"{section}.{name}"
                value = "" if each.value is None else msgspec.json.encode(each.value).decode().strip('"')
                say(full, (f" = {value} ({each.source})", "bold"))
                say(f"    {each.description}")

    emit(sections, show)


@command("serve store --port 8080", json=False)
def serve(
    index: Stores,
    host: Annotated[str | None, Option(help="Address to listen on; by default as set, 127.0.0.1.")] = None,
    port: Annotated[int | None, Option(help="Port; by default as set, 8080.", min=0, max=65_535)] = None,
    default: Annotated[
        str, Option(help="With several indexes, the one for requests that name none; by default as set.")
    ] = "",
    workers: Annotated[
        int | None, Option(help="Worker processes, one per core to use; by default as set, 1.", min=1, max=256)
    ] = None,
    notice: Annotated[
        float, Option(help="Seconds from not ready to exit, so that a load balancer can notice.", min=0, max=600)
    ] = 0.0,
    settings: SettingsFile = None,
) -> None:
    """Serve an index over HTTP until Ctrl-C or SIGTERM; requests in progress are finished first.

    Several indexes in one directory are served together.
    """
    limit_malloc_arenas()  # before other code starts threads
    from shelfwise.service.app import serve as run
    from shelfwise.service.engine.engine import SearchEngine
    from shelfwise.service.settings import FILE_VARIABLE, SourcedSettings, adjacent_settings
    from shelfwise.service.supervisor import bind, serve_workers

    settings = settings or adjacent_settings(index)
    read = SourcedSettings.read(settings)
    if settings is not None:
        os.environ[FILE_VARIABLE] = str(settings.resolve())  # for the commands that run its tasks
    options = (("host", host), ("port", port), ("default_index", default or None), ("workers", workers))
    sourced = read.with_service({name: value for name, value in options if value is not None})
    wanted = sourced.settings.service
    names = _indexes_of(index)
    admin = _admin_address(index, wanted)
    if wanted.workers > 1:
        serve_workers(
            index,
            sourced,
            is_directory=bool(names),
            notice=notice,
            on_ready=lambda served: _show_served(wanted, admin, names, served.products, served.version, served.notices),
        )
        return
    with bind(wanted.host, wanted.port) as listeners:  # before the index is loaded: the port may be in use
        if names:
            _show_served(wanted, admin, names)
            run(index, sourced, listeners, notice=notice)
            return
        with SearchEngine.open(index, settings=sourced.settings) as engine:
            _show_served(wanted, admin, (), engine.manifest.products, engine.manifest.version, engine.notices)
            run(engine, sourced, listeners, notice=notice)


def run_worker() -> None:
    """Runs a worker process of a service."""
    limit_malloc_arenas()  # before other code starts threads
    from shelfwise.service.supervisor import serve_as_worker

    serve_as_worker()


def _show_served(
    wanted: ServiceSettings,
    admin: str,
    names: Collection[str],
    products: int = 0,
    version: str = "",
    notices: Collection[str] = (),
) -> None:
    """Prints what is served, and where: the named indexes, or the only one."""
    show_notices(notices)
    address = _address_of(wanted)
    by = f" by {wanted.workers} worker processes" if wanted.workers > 1 else ""
    pages = f"; store page{'s' if names else ''}: {address}/" if wanted.pages else ""
    if names:
        api = f"the API is documented at {address}/docs, as /v1/indexes/NAME/..."
        say(f"{', '.join(names)}{by}; {api}{pages}", to=output.err)
    else:
        say(f"{products:,} products of {version}{by}; the API is documented at {address}/docs{pages}", to=output.err)
    say(admin, to=output.err)


def _address_of(service: ServiceSettings) -> str:
    """The address of the service for a browser on this machine."""
    host = "127.0.0.1" if service.host in ("0.0.0.0", "::") else service.host  # noqa: S104 - is not listened on
    return f"http://{host}:{service.port}"


def _admin_address(index: Path, service: ServiceSettings) -> str:
    """The message that says how to administer the service; with the token while there are no keys, since logs are
    kept."""
    from shelfwise.service.http.auth import KEYS_FILE, AdminToken, KeyFile

    token = AdminToken(index)
    address = f"{_address_of(service)}/admin"
    try:
        secret = token.ensure()
    except OSError as error:
        return f"Only a key allows administration: {token.path} cannot be used ({error.strerror})"
    if not service.pages:
        return f"A key or the token in {token.path} allows administration."
    if KeyFile(service.keys or index / KEYS_FILE).exists:
        return f"Admin page: {address}, with a key or the token in {token.path}"
    return f"Admin page, with a link only for you: {address}?token={secret}"


def _indexes_of(path: Path) -> tuple[str, ...]:
    """The names of the indexes in a directory that is not an index itself; empty if it is or was an index."""
    from shelfwise.retrieval.store.manifest import MARKER
    from shelfwise.service.http.indexes import index_directories

    if (path / MARKER).exists() or not path.is_dir():
        return ()
    names = tuple(sorted(index_directories(path)))
    if not names:
        raise StoreMissingError(
            f"{path} is not an index directory and contains none; build an index (shelfwise rebuild {path} "
            f"FEED), or several (shelfwise rebuild {path / 'NAME'} FEED)"
        )
    return names


@command("mcp store", json=False)
def mcp(index: Index, settings: SettingsFile = None) -> None:
    """Serve an index to an AI assistant: an MCP server on standard input and output."""
    from shelfwise.service.engine.engine import SearchEngine
    from shelfwise.service.mcp import serve_stdio
    from shelfwise.service.settings import load_settings

    with SearchEngine.open(index, settings=load_settings(settings)) as engine:
        show_notices(engine.notices)
        serve_stdio(engine)


@command("keys create store web-shop --scope search,events", json=False)
def create_key(
    index: Index,
    name: Annotated[str, Argument(help="A label that distinguishes it from other keys.", metavar="NAME")],
    scope: Annotated[str, Option(help="Comma-separated scopes: search, events, write, metrics, admin.")] = "search",
    expires: Annotated[datetime | None, _EXPIRES] = None,
    filters: KeyFilter = "",
    indexes: KeyIndexes = None,
    requests_per_minute: Annotated[int | None, Option(help="By default as set.", min=1)] = None,
    *,
    secured: Annotated[bool, Option("--secured", help="Parent of secured API keys; stored encrypted, too.")] = False,
    settings: SettingsFile = None,
) -> None:
    """Create a key and print it once. A running service accepts it at once."""
    from shelfwise.service.http.auth import new_key

    key, entry = new_key(
        name,
        _scopes(scope),
        now=datetime.now(UTC),
        expires=expires and expires.replace(tzinfo=UTC),
        filters=filters,
        requests_per_minute=requests_per_minute,
        indexes=tuple(indexes or ()),
    )
    keys = _key_file(index, settings)
    entry = keys.as_parent(key, entry) if secured else entry
    keys.add(entry)
    content = "its hash, and the key encrypted: it may be the parent of secured API keys" if secured else "its hash"
    say(f"The key is only shown once, since the file stores {content}:", to=output.err)
    say(key)
    for line in _next_steps(entry.scopes, settings):
        say(line, to=output.err)


def _next_steps(scopes: Collection[Scope], settings: Path | None) -> Iterator[str]:
    """The effects of a new key, and how to use it; KEY is a placeholder for it."""
    from shelfwise.service.http.auth import Scope
    from shelfwise.service.settings import load_settings

    service = load_settings(settings).service
    address = _address_of(service)
    page = "; the store page has its own" if service.pages and not service.page_key else ""
    yield f"Every request now needs a key{page}."
    if not {Scope.SEARCH, Scope.ADMIN}.isdisjoint(scopes):
        yield f"Search with this key:   curl -H 'Authorization: Bearer KEY' '{address}/v1/search?q=drill'"
    if service.pages and Scope.ADMIN in scopes:
        yield f"The admin page prompts for it:  {address}/admin"


@command("keys list store")
def list_keys(index: Index, settings: SettingsFile = None) -> None:
    """List the keys with their scopes, without their secrets."""
    keys = list(_key_file(index, settings).keys().values())
    left = ("sha256", "public", "page_key", "verifier")  # what identifies a key
    document = [{name: value for name, value in msgspec.to_builtins(key).items() if name not in left} for key in keys]
    empty = "There are no keys: anyone may search, and only the token that serve prints allows more."
    emit(keys, show_objects, _KEY_COLUMNS, empty, document=document)


_KEY_COLUMNS: Mapping[str, Column] = {
    "id": "id",
    "name": "name",
    "scopes": lambda key: ", ".join([*key.scopes, *(("parent of secured keys",) if key.secured else ())]),
    "created": "created",
    "expires": lambda key: key.expires or "never",
    "indexes": lambda key: ", ".join(key.indexes) or "all",
    "filter": "filters",
}


@command("keys withdraw store 3f9a1c0b22de", json=False)
def withdraw_key(
    index: Index,
    identity: Annotated[str, Argument(help="Id of the key, as shown by: shelfwise keys list", metavar="ID")],
    settings: SettingsFile = None,
) -> None:
    """Withdraw a key and all keys narrowed from it. A running service notices within a second."""
    removed = _key_file(index, settings).withdraw(identity)
    say(f"{removed.name} ({removed.id}) is withdrawn.{' The store page has a new key.' if removed.page_key else ''}")


@command("keys narrow --filter 'brand = Bosch' --expires 2030-01-31 < key.txt", json=False)
def narrow(
    expires: Annotated[datetime, _EXPIRES],
    scope: Annotated[str, Option(help="Comma-separated scopes to keep; by default all.")] = "",
    filters: KeyFilter = "",
    indexes: KeyIndexes = None,
) -> None:
    """Derive a narrower key from the key on standard input, without contacting a server."""
    from shelfwise.service.http.auth import narrow_key

    key = sys.stdin.readline().strip()
    scopes = _scopes(scope) if scope else ()
    patterns = tuple(indexes or ())
    say(narrow_key(key, expires=expires.replace(tzinfo=UTC), scopes=scopes, filters=filters, indexes=patterns))


def _scopes(text: str) -> tuple[Scope, ...]:
    from shelfwise.service.http.auth import Scope

    names = [each.strip() for each in text.split(",") if each.strip()]
    unknown = [name for name in names if name not in set(Scope)]
    if unknown:
        raise SettingError(f"{unknown[0]} is not a scope; use one or more of {', '.join(Scope)}")
    return tuple(Scope(name) for name in dict.fromkeys(names))


def _key_file(index: Path, settings: Path | None) -> KeyFile:
    from shelfwise.service.http.auth import KEYS_FILE, KeyFile
    from shelfwise.service.settings import load_settings

    return KeyFile(load_settings(settings).service.keys or index / KEYS_FILE)


# glibc gives each core up to eight malloc arenas, so that threads do not wait for each other, and returns only the free
# memory at the end of each. Searches over live changes allocate large arrays in many threads; freed memory stays in the
# arena of its thread, and each new version allocates more. With two arenas the memory of a service stays flat, and
# searches are not slower, since Python's own lock lets one thread run at a time (shelfwise.benchmarks.studies.soak).

MALLOC_ARENAS = 2
_M_ARENA_MAX = -8
"""Parameter of mallopt in glibc's malloc.h."""
_OVERRIDE = "MALLOC_ARENA_MAX"


def limit_malloc_arenas(environment: Mapping[str, str] = os.environ) -> bool:
    """Limits the malloc arenas of this process, before it has threads; returns whether it did. Does nothing if the
    environment sets their number, or with another C library than glibc."""
    if _OVERRIDE in environment:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(_M_ARENA_MAX, MALLOC_ARENAS) == 1
