"""The commands of the HTTP service: `shelfwise serve`, and `shelfwise keys` for who may ask it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.options import IndexOption, JsonOption, SettingsOption

if TYPE_CHECKING:
    from service.http.auth import KeyFile, Scope, StoredKey


keys = typer.Typer(
    name="keys",
    help="Make, list, narrow and withdraw the API keys of a service.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

ScopeOption = Annotated[
    str, typer.Option("--scope", help="What it is for: search, events, write, metrics, admin; several with commas.")
]
ExpiresOption = Annotated[
    datetime | None, typer.Option("--expires", help="When it ends, in UTC.", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])
]
FilterOption = Annotated[str, typer.Option("--filter", help="An expression that every search with it is narrowed by.")]


def serve(
    index: IndexOption = Path("store"),
    host: Annotated[str | None, typer.Option(help="The address to listen at; by default as set, 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="The port; by default as set, 8080.", min=0, max=65_535)] = None,
    notice: Annotated[
        float,
        typer.Option(help="Seconds between not being ready and ending, for a load balancer to notice.", min=0, max=600),
    ] = 0.0,
    settings: SettingsOption = None,
) -> None:
    """Answer searches over HTTP, until Ctrl-C or SIGTERM; requests under way are answered first."""
    bound_arenas()
    from service.app import serve as run
    from service.cli.output import err, show_notices
    from service.engine.engine import SearchEngine
    from service.settings import FILE_VARIABLE, SourcedSettings

    read = SourcedSettings.read(settings)
    if settings is not None:
        os.environ[FILE_VARIABLE] = str(settings.resolve())  # for the commands that do its tasks
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    sourced = read.with_service(given)
    wanted = sourced.settings.service
    with SearchEngine.open(index, settings=sourced.settings) as engine:
        show_notices(engine.notices)
        products, version = engine.manifest.products, engine.manifest.version
        address = f"http://{wanted.host}:{wanted.port}"
        pages = f"; a store page is at {address}/, the admin page at {address}/admin" if wanted.pages else ""
        err.print(
            f"{products:,} products of {version}; the API is described at {address}/docs{pages}",
            highlight=False,
            soft_wrap=True,
        )
        run(engine, sourced, notice=notice)


@keys.command("create", epilog="Example: shelfwise keys create web-shop --scope search,events --index store")
def create(
    name: Annotated[str, typer.Argument(help="What it is for, to tell it from the others.", metavar="NAME")],
    scope: ScopeOption = "search",
    index: IndexOption = Path("store"),
    expires: ExpiresOption = None,
    filters: FilterOption = "",
    requests_per_minute: Annotated[int | None, typer.Option(help="By default as set.", min=1)] = None,
    settings: SettingsOption = None,
) -> None:
    """Make a key, and show it this once. A running service takes it up at once."""
    from service.cli.output import err, out
    from service.http.auth import new_key

    key, stored = new_key(
        name,
        _scopes(scope),
        now=datetime.now(UTC),
        expires=_in_utc(expires),
        filters=filters,
        requests_per_minute=requests_per_minute,
    )
    _key_file(index, settings).add(stored)
    err.print("This is the only time that it is shown; the file keeps its hash:", highlight=False)
    out.print(key, highlight=False, soft_wrap=True)


@keys.command("list", epilog="Example: shelfwise keys list --index store")
def list_keys(index: IndexOption = Path("store"), settings: SettingsOption = None, as_json: JsonOption = False) -> None:
    """Show which keys there are, and what each may do; not the keys themselves."""
    import msgspec

    from service.cli.output import out, plain_table, write_json

    known = list(_key_file(index, settings).keys().values())
    if as_json:
        write_json(msgspec.json.encode([_told(key) for key in known]))
        return
    table = plain_table("id", "name", "scopes", "created", "expires", "filter")
    for key in known:
        ends = f"{key.expires:%Y-%m-%d %H:%M}" if key.expires else "never"
        table.add_row(key.id, key.name, ", ".join(key.scopes), f"{key.created:%Y-%m-%d}", ends, key.filters)
    out.print(table if known else "There is no key: only this machine is served.")


@keys.command("withdraw", epilog="Example: shelfwise keys withdraw 3f9a1c0b22de --index store")
def withdraw(
    identity: Annotated[str, typer.Argument(help="A key's id, as shown by: shelfwise keys list", metavar="ID")],
    index: IndexOption = Path("store"),
    settings: SettingsOption = None,
) -> None:
    """Take a key out, and with it those that were narrowed from it. A running service notices within a second."""
    from service.cli.output import out

    gone = _key_file(index, settings).withdraw(identity)
    out.print(f"{gone.name} ({gone.id}) may do nothing any more.", highlight=False)


@keys.command("narrow", epilog="Example: shelfwise keys narrow --filter 'brand = Bosch' --expires 2030-01-31 < key.txt")
def narrow(
    scope: Annotated[str, typer.Option("--scope", help="Only these of its scopes; by default all of them.")] = "",
    filters: FilterOption = "",
    expires: ExpiresOption = None,
) -> None:
    """Sign a narrower key with the one that is read from standard input; no server is asked."""
    import sys

    from service.cli.output import out
    from service.http.auth import narrow_key

    key = sys.stdin.readline().strip()
    made = narrow_key(key, scopes=_scopes(scope) if scope else (), filters=filters, expires=_in_utc(expires))
    out.print(made, highlight=False, soft_wrap=True)


EXAMPLES = ((serve, "Example: shelfwise serve --index store --port 8080"),)


def _scopes(told: str) -> tuple[Scope, ...]:
    from retrieval.errors import SettingError
    from service.http.auth import Scope

    names = [each.strip() for each in told.split(",") if each.strip()]
    unknown = [name for name in names if name not in set(Scope)]
    if unknown:
        raise SettingError(f"{unknown[0]} is no scope; a key has one or more of {', '.join(Scope)}")
    return tuple(Scope(name) for name in dict.fromkeys(names))


def _told(key: StoredKey) -> dict[str, object]:
    """All but what it is recognised by."""
    import msgspec

    fields: dict[str, object] = msgspec.to_builtins(key)
    return {name: value for name, value in fields.items() if name not in ("sha256", "public")}


def _in_utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=UTC)


def _key_file(index: Path, settings: Path | None) -> KeyFile:
    from service.http.auth import KEYS_FILE, KeyFile
    from service.settings import load_settings

    return KeyFile(load_settings(settings).service.keys or index / KEYS_FILE)


# How the C library shares out memory in a process that serves for months.
#
# glibc gives up to eight arenas to each core, so that threads need not wait for each other, and gives back what is free
# at the end of one alone. Searches over live changes make large arrays in many threads: what they leave free stays with
# the arena of whichever thread it was, and each new version is laid out beside it. Two arenas hold the memory of a
# service flat; searches take no longer, since Python's own lock lets one thread work at a time (`shelfwise bench
# soak`).

ARENAS = 2
_M_ARENA_MAX = -8
"""mallopt's parameter, in malloc.h of glibc."""
_OWN_WISH = "MALLOC_ARENA_MAX"


def bound_arenas(environment: Mapping[str, str] = os.environ) -> bool:
    """Bounds the arenas of this process, before it has threads; returns whether it did. Not where the environment
    says how many there should be, nor with another C library than glibc."""
    if _OWN_WISH in environment:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(_M_ARENA_MAX, ARENAS) == 1
