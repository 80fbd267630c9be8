"""The commands for versions and live changes: output as text and JSON, changes, refusals."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from shelfwise.retrieval.errors import (
    ChangeError,
    FeedError,
    StoreDamagedError,
    StoreForeignError,
    StoreLockedError,
    UnknownProductError,
)
from shelfwise.retrieval.records import Availability, Product
from shelfwise.retrieval.store.manifest import MANIFEST, VersionChanges
from shelfwise.retrieval.store.products import PRODUCTS_FILE
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.updates.validation import apply_patch
from shelfwise.service.cli.index import parse_values
from shelfwise.service.engine.engine import SearchEngine
from shelfwise.service.engine.versions import list_versions
from tests.catalogs import write_feed
from tests.unit.service.cli.commands import document, run
from tests.versions import VersionSpec, publish_products, reseal

DRILL = Product("1", "cordless drill", brand="Bosch", price=89.0)
HOSE = Product("2", "garden hose", price=20.0)
LAMP = Product("3", "desk lamp")
NAMES = ("v000001", "v000002", "v000003")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of three versions, the second with another encoder."""
    root = tmp_path_factory.mktemp("three")
    publish_products(root, [DRILL, HOSE], VersionSpec(created="2025-01-01T08:00:00+00:00", encoder="encoder-1"))
    publish_products(root, [DRILL, HOSE, LAMP], VersionSpec(created="2025-01-02T08:00:00+00:00", encoder="encoder-2"))
    cheaper = dataclasses.replace(DRILL, price=79.0)
    publish_products(root, [cheaper, LAMP], VersionSpec(created="2025-01-03T08:00:00+00:00", encoder="encoder-1"))
    reseal(
        root, "v000003", lambda manifest: msgspec.structs.replace(manifest, changes=VersionChanges("v000002", 0, 1, 1))
    )
    return root


@pytest.fixture
def root(three: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(three, tmp_path / "index"))


def damage(root: Path, name: str, file: str = PRODUCTS_FILE) -> None:
    path = Store(root).version_folder(name) / file
    path.write_bytes(path.read_bytes()[:-1] + b"?")


class TestVersions:
    def test_list_is_newest_first_and_marks_the_serving_version(self, three: Path) -> None:
        head, *rows, total = run("index", "versions", three).out.splitlines()
        assert head.split() == ["version", "created", "products", "changes", "encoder", "size"]
        cells = [row.split() for row in rows]
        assert cells[0][:9] == ["▶", "v000003", "2025-01-03", "08:00", "2", "+0", "~1", "-1", "Encoder-1"]
        assert cells[1][:5] == ["v000002", "2025-01-02", "08:00", "3", "Encoder-2"]
        assert cells[2][:5] == ["v000001", "2025-01-01", "08:00", "2", "Encoder-1"]
        assert total.startswith("3 versions of ")
        listed = run("index", "versions", three, "--json").document()
        assert [(each["version"], each["serves"]) for each in listed] == list(
            zip(NAMES, (False, False, True), strict=True)
        )

    def test_damaged_version_is_shown_and_the_newest_intact_one_is_marked(self, root: Path) -> None:
        damage(root, "v000003", MANIFEST)
        (Store(root).version_folder("v000002") / PRODUCTS_FILE).unlink()
        done = run("index", "versions", root)
        assert "v000003  damaged" in done.out
        assert f"v000002 is damaged: versions/v000002/{PRODUCTS_FILE} cannot be read" in done.out
        assert [each.version for each in list_versions(Store(root)) if each.serves] == ["v000001"]


class TestRollback:
    def test_default_rolls_back_to_the_previous_version(self, root: Path) -> None:
        done = run("index", "rollback", root)
        assert "v000002 serves: 3 products, made 2025-01-02 08:00." in done.out
        assert f"v000003 is kept; to go back to it: shelfwise index rollback {root} v000003" in done.out
        assert Store(root).serving()[0].version == "v000002"
        assert run("index", "rollback", root, "--json").document() == {
            "previous_version": "v000002",
            "version": "v000001",
            "products": 2,
            "created": "2025-01-01T08:00:00+00:00",
            "passed_over": [],
        }

    def test_rollback_skips_and_reports_a_damaged_version(self, root: Path) -> None:
        damage(root, "v000002")
        done = run("index", "rollback", root)
        assert Store(root).current() == "v000001"
        assert done.err.startswith("warning: version v000002 is damaged")
        with pytest.raises(StoreDamagedError, match="v000002 is damaged"):
            run("index", "rollback", root, "v000002")
        assert Store(root).current() == "v000001"

    def test_rollback_refuses_a_version_with_another_text_analysis(self, root: Path) -> None:
        reseal(root, "v000002", lambda manifest: msgspec.structs.replace(manifest, analyzer="terms-0+none"))
        with pytest.raises(StoreForeignError, match=r"v000002 was made with the text analysis terms-0\+none, this"):
            run("index", "rollback", root, "v000002")
        assert Store(root).current() == "v000003"
        run("index", "rollback", root)
        assert Store(root).current() == "v000001"


class TestPrune:
    def test_reported_bytes_are_freed(self, root: Path) -> None:
        def held() -> int:
            # Without the files of the lock.
            folders = (root / "versions", root / "encoders")
            return sum(path.stat().st_size for each in folders for path in each.rglob("*") if path.is_file())

        before = held()
        planned = run("index", "prune", root, "--keep", "1", "--dry-run", "--json").document()
        assert held() == before
        document = run("index", "prune", root, "--keep", "1", "--json").document()
        assert planned == document | {"dry_run": True}
        assert document == {
            "dry_run": False,
            "versions": ["v000001", "v000002"],
            "encoders": ["encoder-2"],
            "bytes": before - held(),
        }
        assert Store(root).versions() == ["v000003"]
        assert run("index", "prune", root, "--keep", "1").out == "Nothing to remove.\n"

    def test_prune_is_refused_if_no_version_is_intact(self, root: Path) -> None:
        for name in NAMES:
            damage(root, name)
        with pytest.raises(StoreDamagedError, match="no intact version is left"):
            run("index", "prune", root, "--keep", "1")
        assert Store(root).versions() == list(NAMES)


class TestVerify:
    def test_intact_version_exits_with_0(self, three: Path) -> None:
        done = run("index", "verify", three)
        assert (done.code, done.out.split()[:2]) == (0, ["v000003", "whole"])
        assert all(f"✓ {phase}" in done.err for phase in ("checksums", "agreement"))
        document = run("index", "verify", three, "--all", "--json").document()
        assert [(each["version"], each["problems"]) for each in document["versions"]] == [(name, []) for name in NAMES]
        assert document["problems"] == []

    def test_problem_exits_with_1_and_names_component_and_remedy(self, root: Path) -> None:
        damage(root, "v000002")
        assert run("index", "verify", root).code == 0
        for arguments in (("--version", "v000002"), ("--all",)):
            done = run("index", "verify", root, *arguments)
            assert done.code == 1
            assert f"versions/v000002/{PRODUCTS_FILE}: has another checksum than when it was published" in done.out
            assert "this version does not serve: do not go back to it" in done.out
            assert "not checked: the agreement of products.jsonl: products.jsonl is damaged" in done.err
        document = run("index", "verify", root, "--version", "v000002", "--json").document()
        assert document["versions"][0]["problems"][0]["part"] == f"versions/v000002/{PRODUCTS_FILE}"


class TestLock:
    @pytest.mark.parametrize("command", [("rollback",), ("prune", "--keep", "1")])
    def test_write_to_a_locked_index_is_refused_with_the_holder(self, root: Path, command: tuple[str, ...]) -> None:
        program = (
            "import sys, pathlib; from shelfwise.retrieval.store.versions import Store\n"
            "with Store(pathlib.Path(sys.argv[1])).lock(): print('held', flush=True); sys.stdin.read()"
        )
        holder = subprocess.Popen(
            [sys.executable, "-c", program, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(StoreLockedError, match=rf"a rebuild is running in .*, process {holder.pid} of "):
                run("index", command[0], root, *command[1:])
            assert Store(root).versions() == list(NAMES)
            readers = ("versions",), ("verify",), ("prune", "--keep", "1", "--dry-run")
            assert [run("index", name, root, *options).code for name, *options in readers] == [0, 0, 0]
            holder.kill()


KETTLE = Product("kettle-1", "enamel &amp; steel  kettle", brand="Torvald", price=49.0, attributes={"capacity": 2.5})


def held(index: Path, product_id: str) -> Product:
    with SearchEngine.open(index) as engine:
        return engine.product(product_id)


def some_product(index: Path) -> Product:
    with SearchEngine.open(index) as engine:
        return engine.snapshot.products[7]


def test_upsert_cleans_a_feed_as_a_rebuild_does_and_names_unusable_rows(index: Path, tmp_path: Path) -> None:
    feed = write_feed(tmp_path / "feed.jsonl", [KETTLE])
    with feed.open("ab") as file:
        file.write(b'{"id":"no-title"}\n')
    result = run("index", "upsert", index, feed, "--json")
    assert result.document() == {"sequence": 1, "products": 1, "rejected": {"no title": 1}}
    assert f"{feed} line 2: no title" in result.err
    assert (held(index, KETTLE.id).title, held(index, KETTLE.id).price) == ("enamel & steel kettle", KETTLE.price)


def test_update_changes_only_the_fields_of_a_table_and_names_unknown_ids(index: Path, tmp_path: Path) -> None:
    before = some_product(index)
    table = tmp_path / "prices.csv"
    table.write_text(f"id;Preis;in_stock;brand;colour\n{before.id};1.299,50 €;0;;red\nno-such-product;5;1;;\n")
    result = run("index", "update", index, table, "--map", "price=Preis", "--json")
    assert result.document() == {"sequence": 1, "products": 1, "rejected": {"unknown id": 1}}
    assert "no product with the id 'no-such-product'" in result.err
    attributes = {**before.attributes, "colour": "red"}
    changed = dataclasses.replace(before, price=1299.5, currency="EUR", availability=Availability.OUT_OF_STOCK)
    assert held(index, before.id) == dataclasses.replace(changed, attributes=attributes)
    table.write_text("id,price\nno-such-product,5\n")
    with pytest.raises(FeedError, match="no row is valid; nothing was changed; there is no product"):
        run("index", "update", index, table)


def test_patch_changes_the_named_fields(index: Path) -> None:
    before = some_product(index)
    values = ("price=12345.5", "availability=backorder", "attributes.colour=red", "brand=")
    assert document("index", "patch", index, before.id, *values) == {"sequence": 1, "products": 1}
    after = held(index, before.id)
    assert (after.price, after.availability, after.brand) == (12345.5, Availability.BACKORDER, "")
    assert after.attributes == {**before.attributes, "colour": "red"}


def test_patch_of_a_price_loads_no_encoder_and_no_table_library(index: Path) -> None:
    program = (
        "import sys\nfrom shelfwise.service.cli.main import app\ntry: app(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print([name for name in ('onnxruntime', 'tokenizers', 'rjieba', 'polars', 'scipy') if name in sys.modules])"
    )
    run(
        "index", "patch", index, "d000001", "title=Bamboo cutting board"
    )  # a text that each engine encodes for searches
    command = [sys.executable, "-c", program, "index", "patch", str(index), "d000000", "price=1.25"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["1 product changed.", "[]"]


def test_delete_counts_existing_products(index: Path) -> None:
    product = some_product(index)
    result = run("index", "delete", index, product.id, "no-such-product")
    assert (result.code, result.out) == (0, "1 product deleted.\n")
    with pytest.raises(UnknownProductError):
        held(index, product.id)


TYPED = Product("a1", "Drill", price=99.5, attributes={"colour": "blue"})


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        (["price=9.99"], {"price": 9.99}),
        (["expires="], {"expires": None}),
        (["title=a = b"], {"title": "a = b"}),
        (["category=Tools > Drills"], {"category": ["Tools", "Drills"]}),
        (["images=a.jpg", "images=b.jpg"], {"images": ["a.jpg", "b.jpg"]}),
        (["identifiers.ean=0012"], {"identifiers.ean": ["0012"]}),
        (["attributes.volts=18"], {"attributes.volts": 18}),
        (['attributes.size="5"'], {"attributes.size": "5"}),
        (["attributes.code=0012"], {"attributes.code": "0012"}),
        (['attributes={"size": "M"}'], {"attributes": {"size": "M"}}),
        (["price=5", " brand =B"], {"price": 5.0, "brand": "B"}),
    ],
)
def test_patch_values_are_parsed_by_field_type(typed: list[str], values: dict[str, object]) -> None:
    assert parse_values("a1", typed) == values


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        *((text, r"is not FIELD=VALUE, such as price=9\.99") for text in ("price", "=5", "")),
        ("price=5 price=6", "price can have one value, 2 were given"),
        *((text, "it must be") for text in ("price=abc", "price=nan", "attributes=x", "variants=[1]")),
        ("availability=gone", "it must be"),
    ],
)
def test_invalid_patch_argument_is_refused(typed: str, message: str) -> None:
    with pytest.raises(ChangeError, match=message):
        apply_patch(TYPED, parse_values("a1", typed.split() or [""]))
