"""Fairness between keys: searches of one client while others send the largest batches that the service accepts."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx2
import numpy as np
import typer

from benchmarks.load import client_of, serve_index
from benchmarks.studies import run_study
from benchmarks.tables import figure_table
from service.cli.options import Index, command
from service.cli.output import TerminalProgress, emit, show_table
from service.http.auth import KeyFile, Scope, new_key

_QUERIES = ("laptop", "usb cable", "monitor", "printer", "drill", "keyboard", "phone case", "jacket", "tent", "lamp")


@dataclass(frozen=True, slots=True)
class Contention:
    """The results of one search per second beside the batches of another key."""

    kind: str
    batches: Mapping[str, int]
    """The number of batches by the status of their response."""
    searches: Mapping[str, int]
    p50: float
    """The median milliseconds of the searches."""
    most: float


def batch_requests() -> dict[str, tuple[str, dict[str, Any]]]:
    """The path and the body of the largest batches, by kind."""
    texts = [f"{_QUERIES[number % len(_QUERIES)]} {number}" for number in range(50)]
    searches = [{"q": text, "size": 250} for text in texts[:20]]
    queries = [{"indexName": "products", "query": text, "hitsPerPage": 100} for text in texts]
    titles = [{"put": {"id": f"fair-{number}", "title": f"{texts[number % 50]} {number}"}} for number in range(1_000)]
    return {
        "50 searches, 100 hits each (InstantSearch)": ("/1/indexes/*/queries", {"requests": queries}),
        "20 searches, 250 hits each": ("/v1/multi-search", {"searches": searches}),
        "1,000 changes": ("/v1/products/changes", {"operations": titles}),
    }


async def measure_contention(
    address: str, kind: str, keys: tuple[str, str], connections: int, seconds: float
) -> Contention:
    """Sends batches of `kind` over `connections` with the first key, and a search per second with the second one."""
    path, body = batch_requests()[kind]
    batches, searches, spent = Counter[str](), Counter[str](), list[float]()
    until = time.monotonic() + seconds

    async def flood(client: httpx2.AsyncClient, number: int) -> None:
        sent = 0
        while time.monotonic() < until:
            # A change without effect would cost nothing.
            operations = [
                {"put": {**each["put"], "price": number * 1_000 + sent}} for each in body.get("operations", ())
            ]
            sent += 1
            changed = body | {"operations": operations} if operations else body
            batches[await _status(client.post(path, json=changed, headers=_of(keys[0])))] += 1

    async def search(client: httpx2.AsyncClient) -> None:
        while time.monotonic() < until:
            started = time.monotonic()
            given = {"q": _QUERIES[len(spent) % len(_QUERIES)]}
            searches[await _status(client.get("/v1/search", params=given, headers=_of(keys[1])))] += 1
            spent.append((time.monotonic() - started) * 1_000)
            await asyncio.sleep(max(0.0, started + 1.0 - time.monotonic()))

    async with client_of(address) as heavy, client_of(address) as light:
        await asyncio.gather(search(light), *(flood(heavy, number) for number in range(connections)))
    return Contention(kind, dict(batches), dict(searches), float(np.median(spent)), max(spent))


async def _status(request: Awaitable[httpx2.Response]) -> str:
    try:
        return str((await request).status_code)
    except httpx2.HTTPError:
        return "error"


def _of(key: str) -> dict[str, str]:
    return {"X-API-Key": key, "X-Algolia-API-Key": key}


@command("fairness store --connections 8")
def fairness(
    index: Index,
    connections: Annotated[int, typer.Option(help="Number of connections that send batches.", min=1)] = 8,
    seconds: Annotated[float, typer.Option(help="Seconds for each kind of batch.", min=2)] = 30.0,
) -> None:
    """Search once a second with one key while several connections send batches with another."""
    found = []
    with tempfile.TemporaryDirectory() as folder, TerminalProgress() as progress:
        file = KeyFile(Path(folder) / "keys.json")
        made = [new_key(name, (Scope.ADMIN,), now=datetime.now(UTC)) for name in ("heavy", "light")]
        for _, stored in made:
            file.add(stored)
        keys = (made[0][0], made[1][0])
        with serve_index(index, {"SHELFWISE_SERVICE__KEYS": str(file.path)}) as server:
            for kind in batch_requests():
                progress.begin(kind, None, "")
                found.append(asyncio.run(measure_contention(server.address, kind, keys, connections, seconds)))
                progress.end("measured")
    emit(found, show_contention, document=[asdict(each) for each in found])


def show_contention(found: Sequence[Contention]) -> None:
    """The responses to batches and searches, and the time of the searches."""
    table = figure_table(["responses", "searches", "p50 ms", "most ms"], "batches")
    for each in found:
        table.add_row(each.kind, _counts(each.batches), _counts(each.searches), f"{each.p50:.0f}", f"{each.most:,.0f}")
    show_table(table)


def _counts(responses: Mapping[str, int]) -> str:
    return ", ".join(f"{count} × {status}" for status, count in sorted(responses.items()))


if __name__ == "__main__":
    run_study(fairness)
