"""`shelfwise mcp` as a process, called by the client of the MCP SDK over stdio."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.server import Server
from mcp.shared.exceptions import MCPError
from mcp.types import CallToolResult, TextContent

from shelfwise.service.curation.relevance import Relevance
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.mcp import catalog_server
from tests.services import PROGRAM


def with_client(server: Server[Any] | StdioServerParameters, use: Callable[[Client], Awaitable[None]]) -> None:
    async def run() -> None:
        async with Client(server) as client:
            await use(client)

    anyio.run(run)


def message_of(result: CallToolResult) -> str:
    (content,) = result.content
    assert result.is_error
    assert isinstance(content, TextContent)
    return content.text


async def answer_of(client: Client, tool: str, **arguments: object) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert isinstance(result.structured_content, dict)
    return result.structured_content


@pytest.fixture
def server(engine: SearchEngine) -> Server[Any]:
    return catalog_server(engine)


def test_facets_list_the_fields_and_count_their_values(server: Server[Any]) -> None:
    async def use(client: Client) -> None:
        listed = await answer_of(client, "facets")
        kinds = {each["name"]: each["kinds"] for each in listed["fields"]}
        assert kinds["brand"] == ["text"]
        assert kinds["price"] == ["number"]
        assert listed["total"] >= len(kinds)
        counted = await answer_of(client, "facets", fields=["brand", "price"], filters="price < 50", values=2)
        assert len(counted["brand"]["counts"]) == 2
        assert counted["price"]["maximum"] < 50

    with_client(server, use)


WRONG: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("search", {"size": 51}, "size: Input should be less than or equal to 50"),
    ("search", {"q": "drill"}, "there is no field q; the arguments are filters, size, query"),
    ("search", {"filters": "price <"}, "column 8: expected a value"),
    ("search", {"sort": "brand"}, "sort: brand has text"),
    ("search", {"facets": ["brnd"]}, "did you mean brand?"),
    ("product", {}, "id: Field required"),
    ("product", {"id": "no such"}, "no product with the id 'no such'"),
    ("similar", {"id": "no such"}, "no product with the id 'no such'"),
    ("recommend", {"history": [{"product_id": "a", "kind": "stolen"}]}, "history.0.kind: Input should be"),
)


def test_a_wrong_argument_is_named_and_an_unknown_tool_is_an_error(server: Server[Any]) -> None:
    async def use(client: Client) -> None:
        for tool, arguments, message in WRONG:
            assert message in message_of(await client.call_tool(tool, arguments))
        with pytest.raises(MCPError, match="there is no tool 'delete'; the tools are search, facets"):
            await client.call_tool("delete", {})

    with_client(server, use)


def test_products_are_without_hidden_fields(live: SearchEngine) -> None:
    live.relevance.put([Relevance(hidden=("price", "description"))], who="test")

    async def use(client: Client) -> None:
        (hit,) = (await answer_of(client, "search", size=1))["hits"]
        assert hit["price"] is None
        assert (await answer_of(client, "product", id=hit["id"]))["description"] == ""

    with_client(catalog_server(live), use)


def test_lines_that_are_no_messages_are_passed_over(demo_index: Path) -> None:
    ping = b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}'
    lines = (b"junk", b'{"jsonrpc": "2.0", "id": 7}', b"[1]", b"[" * 5_000, ping, b"")
    command = (*PROGRAM, "mcp", str(demo_index))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"\n".join(lines))
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        process.stdin.close()
        assert process.wait(60) == 0
    assert answer["id"] == 1
