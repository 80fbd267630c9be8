"""The content of a release: packages and their data, licences, the changelog; and the checks of `make release`."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOT_INSTALLED = ("shelfwise.benchmarks.studies",)


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", "utf-8")
    return parser


def test_every_package_and_its_data_are_installed(setup: configparser.ConfigParser) -> None:
    inits = (ROOT / "shelfwise").rglob("__init__.py")
    packages = {".".join(path.parent.relative_to(ROOT).parts): path.parent for path in inits}
    named = setup["options"]["packages"].split()
    assert sorted(named) == sorted(set(packages) - set(NOT_INSTALLED))
    patterns = setup["options.package_data"]
    data = {
        file
        for name, folder in packages.items()
        for each in patterns.get(name, "").split()
        for file in folder.glob(each)
    }
    present = {
        file
        for name in named
        for file in packages[name].rglob("*")
        if file.is_file() and file.suffix not in (".py", ".pyc") and file.parent.name != "cases"
    }
    assert sorted(present - data) == []


def test_shipped_weights_and_word_lists_have_a_licence() -> None:
    notice = (ROOT / "NOTICE").read_text("utf-8")
    shipped = [path.relative_to(ROOT).as_posix() for path in (ROOT / "rerank/ranker/shipped").iterdir()]
    lists = ["indexer/cleaning/languages.toml", "retrieval/encoders/token_sample.txt", "service/demo/data"]
    assert [each for each in (*shipped, *lists) if each not in notice] == []


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)  # noqa: S603, S607


def refusal(folder: Path) -> str:
    """The output of `make releasable` for a folder that cannot be released, else empty."""
    run = subprocess.run(["make", "releasable"], cwd=folder, capture_output=True, text=True, check=False)  # noqa: S607
    return run.stdout if run.returncode else ""


@pytest.mark.skipif(not (shutil.which("make") and shutil.which("git")), reason="needs make and git")
def test_only_a_committed_described_and_new_version_is_released(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "setup.cfg").write_text("[metadata]\nversion = 1.2.0\n")
    (tmp_path / "CHANGELOG.md").write_text("## 1.2.0 - unreleased\n")
    git(tmp_path, "init", "--quiet")
    assert "there are changes: commit them first" in refusal(tmp_path)
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "Begin")
    assert 'CHANGELOG.md has no "## 1.2.0 - YYYY-MM-DD"' in refusal(tmp_path)
    (tmp_path / "CHANGELOG.md").write_text("## 1.2.0 - 2026-11-29\n")
    git(tmp_path, "commit", "--quiet", "--all", "--message", "Describe 1.2.0")
    assert refusal(tmp_path) == ""
    git(tmp_path, "tag", "v1.2.0")
    assert "v1.2.0 is tagged already: raise the version" in refusal(tmp_path)


def test_the_changelog_begins_with_this_version(setup: configparser.ConfigParser) -> None:
    sections = [line for line in (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines() if line.startswith("## ")]
    assert sections[0].startswith(f"## {setup['metadata']['version']} - ")
