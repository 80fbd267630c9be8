"""Every command, setting, error code and route has its place in the documents."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from fastapi import FastAPI
from fastapi.testclient import TestClient
from typer.main import get_command

from shelfwise.service.cli.main import app
from shelfwise.service.http import errors
from shelfwise.service.settings import INDEX, SourcedSettings, describe_settings

ROOT = Path(__file__).parents[3]
TEXTS = {path.name: path.read_text("utf-8") for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]}
TEXT = "\n".join(TEXTS.values())
SOURCE = "\n".join(path.read_text("utf-8") for path in (ROOT / "shelfwise/service").rglob("*.py"))


def commands(command: object, name: str = "shelfwise") -> Iterator[str]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name
    for each, one in (inner or {}).items():
        yield from commands(one, f"{name} {each}")


def test_every_command_is_documented() -> None:
    assert [each for each in commands(get_command(app)) if each not in TEXT] == []


def test_every_setting_is_described_and_its_table_documented() -> None:
    tables = describe_settings(SourcedSettings.read())
    assert [name for table in tables.values() for name, each in table.items() if not each.description] == []
    assert [table for table in tables if table != INDEX and f"`{table}." not in TEXTS["settings.md"]] == []


def test_every_setting_in_a_document_exists() -> None:
    tables = describe_settings(SourcedSettings.read())
    blocks = [tomllib.loads(block) for block in re.findall(r"^```toml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)]
    in_blocks = [(table, block[table]) for block in blocks for table in tables.keys() & block.keys()]
    named = {(table, name) for table, values in in_blocks if isinstance(values, dict) for name in values}
    named |= {
        (table, name) for table in tables for name in re.findall(rf"`{table}\.(?!(?:sqlite|json|py)\b)(\w+)[`= ]", TEXT)
    }
    assert len(named) > 20
    assert sorted(f"{table}.{name}" for table, name in named if name not in tables[table]) == []


def test_every_error_code_is_documented() -> None:
    codes = {code for _, code in errors._STATUS.values()} | set(errors._CODES.values())
    codes |= set(re.findall(r'\bcode="(\w+)"', SOURCE))
    families = ("ranker", "user_tower", "expansion")
    named = {code.format(family=family) for code in codes for family in families}
    assert sorted(code for code in named if f"`{code}`" not in TEXTS["http.md"]) == []


def test_every_route_is_documented(client: TestClient) -> None:
    placeholders = re.compile(r"\{\w+(:\w+)?\}|\b[A-Z]{2,}\b")
    known = placeholders.sub("*", TEXT)
    paths = {placeholders.sub("*", path) for path in cast(FastAPI, client.app).openapi()["paths"]}
    missing = {path for path in paths if path.removeprefix("/1/indexes/*/") not in known}
    assert sorted(missing) == []
