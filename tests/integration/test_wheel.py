"""The wheel, installed into a new environment with the locked versions, runs outside the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services import serving

ROOT = Path(__file__).parents[2]
UV = Path(sys.prefix, "bin", "uv")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not UV.exists(), reason="make installs uv into the environment")]


class Installation:
    """An environment with the installed wheel, and a folder to run it in."""

    def __init__(self, folder: Path, wheel: Path, extras: str = "[demo,elasticsearch,mcp]") -> None:
        self.folder, self._environment = folder, folder / "environment"
        self.program = self._environment / "bin" / "shelfwise"
        _run(UV, "venv", "--quiet", "--python", sys.executable, self._environment)
        self.pip("install", "--constraints", ROOT / "requirements.lock", f"{wheel}{extras}")

    def pip(self, *arguments: str | Path) -> None:
        _run(UV, "pip", "--quiet", *arguments, VIRTUAL_ENV=str(self._environment))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        given = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        given |= {"XDG_CACHE_HOME": str(self.folder / "cache"), "HF_HUB_OFFLINE": "1"}
        command = [str(self.program), *arguments]
        return subprocess.run(command, cwd=self.folder, env=given, capture_output=True, text=True, check=False)  # noqa: S603

    def done(self, *arguments: str) -> str:
        run = self.run(*arguments)
        assert run.returncode == 0, run.stderr
        return run.stdout

    def first_title_beside_own_packages(self, index: str, query: str) -> str:
        """The title of the first hit in a program that has packages of common names."""
        for name in ("service", "retrieval", "benchmarks"):
            package = self.folder / "program" / name
            package.mkdir(parents=True, exist_ok=True)
            (package / "__init__.py").write_text(f"OWN = {name!r}\n")
        (self.folder / "program" / "shop.py").write_text(
            "import sys\nimport benchmarks, retrieval, service, shelfwise\n"
            "assert [each.OWN for each in (benchmarks, retrieval, service)] == ['benchmarks', 'retrieval', 'service']\n"
            "with shelfwise.SearchEngine.open(sys.argv[1]) as engine:\n"
            "    print(engine.search(sys.argv[2]).hits[0].product.title)\n"
        )
        command = [str(self.program.with_name("python")), "program/shop.py", index, query]
        return subprocess.check_output(command, cwd=self.folder, text=True).strip()  # noqa: S603


def _run(*command: str | Path, **environment: str) -> None:
    subprocess.run(list(map(str, command)), check=True, env={**os.environ, **environment})  # noqa: S603


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    _run(UV, "build", "--quiet", "--out-dir", folder, ROOT)
    assert list(folder.glob("shelfwise-*.tar.gz"))
    (built,) = folder.glob("shelfwise-*.whl")
    return built


@pytest.fixture(scope="module")
def installation(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    yield Installation(tmp_path_factory.mktemp("outside"), wheel)


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """An environment without any extra."""
    return Installation(tmp_path_factory.mktemp("bare"), wheel, extras="")


def test_the_wheel_has_every_file_of_its_packages(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    listed = subprocess.check_output(["git", "ls-files", "shelfwise"], cwd=ROOT, text=True).split()  # noqa: S607
    development = ("shelfwise/benchmarks/studies", "shelfwise/benchmarks/cases")
    assert not [each for each in listed if each not in packed and not each.startswith(development)]


def test_without_extras_it_builds_serves_and_changes_a_store(installation: Installation, bare: Installation) -> None:
    """With the shipped table, and with the encoder of an index that another environment built."""
    (bare.folder / "products.csv").write_text(
        "id,title,price\n1,Cordless drill,99\n2,Steel kettle,20\n3,Garden hose,30\n"
    )
    store = str(bare.folder / "store")
    own = str(bare.folder / "own")
    bare.done("rebuild", own, str(bare.folder / "products.csv"))
    assert json.loads(bare.done("search", own, "pot for tea", "--json"))["hits"][0]["product"]["id"] == "2"
    installation.done("rebuild", store, str(bare.folder / "products.csv"))
    bare.done("index", "patch", store, "2", "price=9.99")
    (bare.folder / "products.csv").write_text(
        "id,title,price\n1,Cordless drill,89\n2,Steel kettle,20\n4,Hiking boots,30\n"
    )
    bare.done("rebuild", store, str(bare.folder / "products.csv"), "--force")
    click = {"kind": "click", "product_id": "1", "query_id": "q", "session": "s", "time": "2026-01-01T00:00:00Z"}
    (bare.folder / "events.jsonl").write_text(json.dumps(click))
    bare.done("events", "import", store, str(bare.folder / "events.jsonl"))
    bare.done("events", "refresh", store)
    hits = json.loads(bare.done("search", store, "kettle", "--json"))["hits"]
    assert (hits[0]["product"]["id"], hits[0]["product"]["price"]) == ("2", 9.99)
    with serving([str(bare.program)], bare.folder / "log", store) as running:
        assert running.get("/v1/search?q=hiking+boots").json()["hits"]
    for command, extra in (("learn store", "train"), ("mcp store", "mcp"), ("demo", "demo")):
        refused = bare.run(*command.split())
        assert refused.returncode == 1
        assert f"pip install 'shelfwise[{extra}]'" in refused.stderr


def test_it_makes_a_store_searches_and_serves_it_also_without_torch(installation: Installation) -> None:
    printed = installation.done("demo", "--products", "200", "--sessions", "50")
    assert "The demo store is in demo-store" in printed
    assert "environment/bin/shelfwise serve demo-store/index" in printed
    installation.done("rebuild", "store", "demo-store/products.jsonl.gz")
    hits = json.loads(installation.done("search", "store", "cordless drill", "--json"))["hits"]
    assert "drill" in hits[0]["product"]["title"].lower()
    installation.pip("uninstall", "torch")
    assert json.loads(installation.done("search", "store", "cordless drill", "--json"))["hits"] == hits
    assert installation.first_title_beside_own_packages("store", "cordless drill") == hits[0]["product"]["title"]
    installation.done("rebuild", "again", "demo-store/products.jsonl.gz")
    refused = installation.run("rebuild", "exact", "demo-store/products.jsonl.gz", "--runtime", "onnx-fp32")
    assert refused.returncode == 1
    assert "error: this needs torch, which is not installed" in refused.stderr
    program = [str(installation.program)]
    with serving(program, installation.folder / "log", str(installation.folder / "store")) as running:
        assert running.get("/v1/search?q=cordless+drill").json()["hits"]
        assert all(running.get(path).status_code == 200 for path in ("/", "/admin", "/assets/store.css"))
