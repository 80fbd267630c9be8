"""The commands for live changes: what they do to an index, print, and refuse."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from retrieval.errors import ChangeError, FeedError, UnknownProductError
from retrieval.records import Availability, Product
from retrieval.updates.validation import apply_patch
from service.cli.index import parse_values
from service.cli.main import app
from service.engine.engine import SearchEngine
from tests.catalogs import write_feed

Command = Callable[..., Result]

KETTLE = Product("kettle-1", "enamel whistling kettle", brand="Torvald", price=49.0, attributes={"capacity": 2.5})


@pytest.fixture
def index(demo_index: Path, tmp_path: Path) -> Path:
    """A copy of the demo index that a test may change."""
    return Path(shutil.copytree(demo_index, tmp_path / "index"))


@pytest.fixture(scope="module")
def command() -> Command:
    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["index", *map(str, arguments)])

    return run


def document(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return msgspec.json.decode(result.stdout, type=dict[str, Any])


def held(index: Path, product_id: str) -> Product:
    with SearchEngine.open(index) as engine:
        return engine.product(product_id)


def some_product(index: Path) -> Product:
    with SearchEngine.open(index) as engine:
        return engine.snapshot.products[7]


def test_upsert_takes_a_feed_and_tells_the_rows_that_it_cannot_use(
    command: Command, index: Path, tmp_path: Path
) -> None:
    feed = write_feed(tmp_path / "feed.jsonl", [KETTLE])
    with feed.open("ab") as file:
        file.write(b'{"id":"no-title"}\n')
    result = command("upsert", index, feed, "--json")
    assert document(result) == {"sequence": 1, "products": 1, "rejected": {"no title": 1}}
    assert f"{feed} line 2: no title" in result.stderr
    assert held(index, KETTLE.id).price == KETTLE.price


def test_upsert_cleans_as_a_rebuild_does(command: Command, index: Path, tmp_path: Path) -> None:
    feed = write_feed(tmp_path / "feed.jsonl", [Product("k", "enamel &amp; steel  kettle")])
    command("upsert", index, feed)
    assert held(index, "k").title == "enamel & steel kettle"


def test_upsert_of_a_feed_without_a_row_that_can_be_used_is_refused(
    command: Command, index: Path, tmp_path: Path
) -> None:
    feed = tmp_path / "feed.jsonl"
    feed.write_bytes(b'{"id":"no-title"}\n')
    error = command("upsert", index, feed).exception
    assert isinstance(error, FeedError)
    assert str(error) == f"no row can be used, so nothing is changed; {feed} line 1: no title"


def test_patch_changes_the_named_fields(command: Command, index: Path) -> None:
    before = some_product(index)
    values = ("price=12345.5", "availability=backorder", "attributes.colour=red", "brand=")
    assert document(command("patch", index, before.id, *values, "--json")) == {"sequence": 1, "products": 1}
    after = held(index, before.id)
    assert (after.price, after.availability, after.brand) == (12345.5, Availability.BACKORDER, "")
    assert after.attributes == {**before.attributes, "colour": "red"}


@pytest.mark.parametrize("values", [["pric=1"], ["price=abc"], ["price"]])
def test_patch_refuses_what_no_field_can_hold(command: Command, index: Path, values: list[str]) -> None:
    before = some_product(index)
    assert isinstance(command("patch", index, before.id, *values).exception, ChangeError)
    assert held(index, before.id) == before


def test_patch_of_an_unknown_product_is_refused(command: Command, index: Path) -> None:
    assert isinstance(command("patch", index, "no-such-product", "price=1").exception, UnknownProductError)


def test_delete_counts_those_that_were_there(command: Command, index: Path) -> None:
    product = some_product(index)
    result = command("delete", index, product.id, "no-such-product")
    assert (result.exit_code, result.stdout) == (0, "1 product deleted.\n")
    with pytest.raises(UnknownProductError):
        held(index, product.id)


@pytest.mark.parametrize("arguments", [("patch", "store"), ("patch", "store", "1"), ("delete", "store"), ("upsert",)])
def test_misuse_ends_with_2(command: Command, arguments: tuple[str, ...]) -> None:
    assert command(*arguments).exit_code == 2


DRILL = Product("a1", "Drill", price=99.5, attributes={"colour": "blue"})


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        (["price=9.99"], {"price": 9.99}),
        (["price=9,99"], {"price": "9,99"}),
        (["expires="], {"expires": None}),
        (["title=a = b"], {"title": "a = b"}),
        (["title=18"], {"title": "18"}),
        (["category=Tools > Drills"], {"category": ["Tools", "Drills"]}),
        (["images=a.jpg"], {"images": ["a.jpg"]}),
        (["images=a.jpg", "images=b.jpg"], {"images": ["a.jpg", "b.jpg"]}),
        (["identifiers.ean=0012"], {"identifiers.ean": ["0012"]}),
        (["attributes.colour=red"], {"attributes.colour": "red"}),
        (["attributes.volts=18"], {"attributes.volts": 18}),
        (["attributes.new=true"], {"attributes.new": True}),
        (['attributes.size="5"'], {"attributes.size": "5"}),
        (["attributes.code=0012"], {"attributes.code": "0012"}),
        (["attributes.size=S", "attributes.size=M"], {"attributes.size": ["S", "M"]}),
        (['attributes={"size": "M"}'], {"attributes": {"size": "M"}}),
        (["price=5", " brand =B"], {"price": 5.0, "brand": "B"}),
    ],
)
def test_values_by_the_type_of_their_field(typed: list[str], values: dict[str, object]) -> None:
    assert parse_values("a1", typed) == values


@pytest.mark.parametrize("typed", ["price", "=5", ""])
def test_what_is_no_field_and_value_is_refused(typed: str) -> None:
    with pytest.raises(ChangeError, match=r"is no FIELD=VALUE, such as price=9\.99"):
        parse_values("a1", [typed])


def test_a_second_value_where_there_is_one_is_refused() -> None:
    with pytest.raises(ChangeError, match="price is given 2 values"):
        parse_values("a1", ["price=5", "price=6"])


def test_what_is_typed_can_be_taken() -> None:
    typed = ["price=5", "availability=out_of_stock", "attributes.colour=", "attributes.volts=18", "rating_count=3"]
    assert apply_patch(DRILL, parse_values("a1", typed)) == Product(
        "a1", "Drill", price=5.0, availability=Availability.OUT_OF_STOCK, attributes={"volts": 18.0}, rating_count=3
    )


@pytest.mark.parametrize("typed", ["price=abc", "price=nan", "attributes=x", "variants=[1]", "availability=gone"])
def test_what_is_typed_wrong_is_refused_by_its_field(typed: str) -> None:
    with pytest.raises(ChangeError, match="it must be"):
        apply_patch(DRILL, parse_values("a1", [typed]))
