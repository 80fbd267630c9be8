"""Limits of the code's structure, and paths in documents: the README and docs name only existing files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.architecture import banned_words, figures

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))),
)
_CODE_PATH = re.compile(r"\b((?:retrieval|rerank|indexer|service|benchmarks|tests|docs)/[\w./-]*\w)")
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)\)")


def test_the_structure_stays_within_its_limits() -> None:
    """Checks all figures in one test, so that only one process parses all modules."""
    assert not [(each.name, each.value, each.limit, each.places) for each in figures() if each.value > each.limit]


def named_paths(page: str) -> set[str]:
    text = (ROOT / page).read_text("utf-8")
    links = {(Path(page).parent / link).as_posix() for link in _LINK.findall(text)}
    return links | set(_CODE_PATH.findall(text))


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_a_page_names_exists(page: str) -> None:
    missing = sorted(path for path in named_paths(page) if not (ROOT / path).exists())
    assert not missing


def test_the_map_is_one_page() -> None:
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    diagram = text.partition("```mermaid")[2].partition("```")[0]
    boxes = set(re.findall(r"(\w+)\[", diagram))
    stops = [len(re.findall(r"^\d+\. ", walk, re.MULTILINE)) for walk in re.split(r":\n\n(?=1\. )", text)[1:]]
    assert len(text.splitlines()) <= 130
    assert len(boxes) <= 12
    assert len(stops) == 3
    assert max(stops) <= 12


def test_every_place_that_the_glossary_names_exists() -> None:
    text = (ROOT / "docs/glossary.md").read_text("utf-8")
    places = re.findall(r"\| `([\w./]+)` \|$", text, re.MULTILINE)
    assert len(places) >= 60
    assert not [place for place in places if not (ROOT / place).exists()]
    assert len(banned_words()) <= 40


def test_every_decision_is_named_by_its_number() -> None:
    names = sorted(path.name for path in (ROOT / "docs/decisions").iterdir())
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))


def test_no_two_files_of_tests_have_one_name() -> None:
    """Tests without a package are imported by their bare file names; of two equal ones, pytest runs one."""
    files = (path for path in (ROOT / "tests").rglob("test_*.py") if not (path.parent / "__init__.py").exists())
    names = [path.name for path in files]
    assert sorted(names) == sorted(set(names))
