"""Products named by the texts of other products."""

from __future__ import annotations

import pytest

from shelfwise.retrieval.records import Product, RelationEvidence, RelationKind
from shelfwise.retrieval.text.compatibility import model_keys, named_models, named_things


def named_by(product: Product, other: Product) -> list[tuple[str, str]]:
    """Fields and texts of a product that name the other one, by the longest name."""
    keys = model_keys(other)
    return [(each.field, each.text) for each in named_models(product) if keys.intersection(each.keys)]


@pytest.mark.parametrize(
    ("value", "title"),
    [
        ("DCP-130C, LaserJet P1505n, MFC-5", "HP LaserJet P1505n Printer 600 x 600 DPI A4"),
        ("Designjet 500 series", "HP Designjet 500 large format printer"),
        ("LaserJet Pro 400 color M 451 dn", "HP LaserJet Pro 400 color M451dn"),
        ("- FS10 Flash Memory Camcorder\\n- FS100", "Canon FS100 camcorder"),
        ("iPhone 12/iPhone 13", "Apple iPhone 13 128 GB"),
    ],
)
def test_an_attribute_names_a_model(value: str, title: str) -> None:
    cartridge = Product("c", "Toner", attributes={"compatibility": value})
    assert [field for field, _ in named_by(cartridge, Product("p", title))] == ["compatibility"]


@pytest.mark.parametrize(
    ("value", "title"),
    [
        ("LaserJet Pro 400 M401a", "HP LaserJet Pro 400 color M451dn"),
        ("EF 70-300mm", "Canon EF 70-200mm lens"),
        ("Windows 7, 4 GB", "Memory 4 GB"),
        ("P1505", "Toner for LaserJet P1505"),
        ("T644", "Lexmark T640, T642, T644 Print Cartridge"),
    ],
    ids=["another model", "quantities", "another quantity", "what is for it", "a list of models"],
)
def test_another_model_is_not_named(value: str, title: str) -> None:
    assert named_by(Product("c", "Toner", attributes={"compatibility": value}), Product("p", title)) == []


@pytest.mark.parametrize(
    "text",
    [
        "Case for Galaxy S21 black",
        "compatible with Galaxy S21, S22",
        "手机壳 适用于Galaxy S21",
        "fits: Galaxy S21 (2021)",
    ],
)
def test_a_title_names_a_model(text: str) -> None:
    phone = Product("p", "Samsung Galaxy S21 128GB")
    (found,) = (each for each in named_models(Product("c", text)) if model_keys(phone).intersection(each.keys))
    assert (found.kind, found.evidence, found.field) == (RelationKind.FITS, RelationEvidence.TEXTS, "title")


def test_contents_and_wholes_are_named_by_id_and_code() -> None:
    drill = Product("d000042", "Cordless Drill", identifiers={"mpn": ("KH-4827",)})
    kit = Product("k", "Tool Kit", attributes={"contains": ("d000042", "Hammer"), "part_of": "KH4827"})
    found = [(each.kind, each.field, each.reverse) for each in named_models(kit) if model_keys(drill) & {*each.keys}]
    assert found == [(RelationKind.PART_OF, "contains", True), (RelationKind.PART_OF, "part_of", False)]


def test_other_attributes_name_nothing() -> None:
    texts = {"colour": "KH-4827", "fitness": "KH-4827"}
    values = texts | {"compatible": True, "compatibility_year": 2021.0}
    assert list(named_models(Product("k", "Tool Kit", attributes=values))) == []


def test_titles_name_the_compatible_things() -> None:
    assert named_things("Silicone Case for Wireless Earbuds (Red)") == ["wireless earbuds"]
    assert named_things("保护壳 适用于 无线耳机") == ["无线耳机"]
    assert named_things("Forest Green Jacket") == []


@pytest.mark.parametrize(
    "title",
    [
        "HP 3y Nbd LaserJet M3027MFP HW Supp",
        "HP 3yNbdClrLsrJt CP6015 HW Supp",
        "Lexmark T642 4-Years Total (1+3) Onsite Service Guarantee",
        "LaserJet M3027 MFP Care Pack",
    ],
)
def test_a_service_for_a_device_is_not_named_by_its_model(title: str) -> None:
    assert not {"t642", "m3027mfp", "m3027", "cp6015"} & model_keys(Product("s", title))


def test_a_device_with_a_warranty_keeps_its_model() -> None:
    assert "gsr18v" in model_keys(Product("d", "Bosch GSR18V drill, 2 year warranty"))
