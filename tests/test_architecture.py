"""The map of the code names only what is there, and the README only commands and files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))))
_CODE_PATH = re.compile(r"\b((?:retrieval|rerank|indexer|service|benchmarks|tests|docs)/[\w./-]*\w)")
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)\)")


def named_paths(page: str) -> set[str]:
    text = (ROOT / page).read_text("utf-8")
    links = {(Path(page).parent / link).as_posix() for link in _LINK.findall(text)}
    return links | set(_CODE_PATH.findall(text))


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_a_page_names_exists(page: str) -> None:
    missing = sorted(path for path in named_paths(page) if not (ROOT / path).exists())
    assert not missing


def test_the_diagram_shows_files_of_every_package_that_serves() -> None:
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    diagram = text.partition("```mermaid")[2].partition("```")[0]
    packages = {path.split("/")[0] for path in _CODE_PATH.findall(diagram)}
    assert packages == {"retrieval", "indexer", "service"}


def test_every_decision_is_named_by_its_number() -> None:
    names = sorted(path.name for path in (ROOT / "docs/decisions").iterdir())
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))


def test_no_two_files_of_tests_have_one_name() -> None:
    """pytest imports each by its bare name, where its folder is no package: the second one of a name is not run."""
    files = (path for path in (ROOT / "tests").rglob("test_*.py") if not (path.parent / "__init__.py").exists())
    names = [path.name for path in files]
    assert sorted(names) == sorted(set(names))
