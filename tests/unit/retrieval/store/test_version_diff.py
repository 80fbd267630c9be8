"""Differences of two versions: products by kind of change and by field, fields, settings, the encoder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.retrieval.errors import UnknownVersionError
from shelfwise.retrieval.index.faiss import VectorIndexKind
from shelfwise.retrieval.records import Availability, Product
from shelfwise.retrieval.store.diff import ProductList, SettingChange, VersionDiff, _product_changes, compare_versions
from shelfwise.retrieval.store.products import ProductStore, product_to_json
from shelfwise.retrieval.store.versions import Store
from tests.catalogs import numbered, products
from tests.versions import VersionSpec, publish_products, write_products

DRILL = Product("b", "cordless drill", brand="Bosch", price=89.0, attributes={"colour": "blue", "weight": 1.5})
HOSE = Product("d", "garden hose", price=20.0, availability=Availability.IN_STOCK, identifiers={"sku": ("H1",)})
LAMP = Product("c", "desk lamp", category=("Light", "Lamps"))


def difference(root: Path, one: list[Product], other: list[Product], after: VersionSpec | None = None) -> VersionDiff:
    publish_products(root, one)
    publish_products(root, other, after)
    return compare_versions(Store(root), "v000001", "v000002")


def test_products_are_counted_by_change_with_examples(tmp_path: Path) -> None:
    new = Product("é", "new lamp")
    found = difference(tmp_path, [DRILL, HOSE, LAMP], [dataclasses.replace(DRILL, price=79.0), LAMP, new]).products
    added, removed, changed = (ProductList(1, (name,)) for name in ("é", "d", "b"))
    assert (found.added, found.removed, found.changed) == (added, removed, changed)
    assert found.fields == {"price": 1}
    assert compare_versions(Store(tmp_path), "v000001", "v000002", examples=0).products.added == ProductList(1)


def test_added_removed_and_retyped_fields_are_reported(tmp_path: Path) -> None:
    before = [DRILL, dataclasses.replace(LAMP, attributes={"watt": 5.0, "shade": "white"})]
    after = [dataclasses.replace(DRILL, brand="", attributes={"watt": "five"}), LAMP, HOSE]
    found = difference(tmp_path, before, after).fields
    assert found.added == ("availability", "identifiers.sku")
    assert found.removed == ("attributes.colour", "attributes.shade", "attributes.weight", "brand")
    assert found.retyped == {"attributes.watt": ("number", "text")}


def test_changed_settings_and_encoder_have_both_values(tmp_path: Path) -> None:
    made = VersionSpec(encoder="encoder-2", synonyms="sofa => couch\nhdd => disk", kind=VectorIndexKind.QUANTISED)
    publish_products(tmp_path, numbered(40), VersionSpec(synonyms="sofa => couch"))
    publish_products(tmp_path, numbered(40), made)
    found = compare_versions(Store(tmp_path), "v000001", "v000002")
    assert found.encoder_changed
    named = {change.name: change for change in found.settings}
    assert set(named) == {"text analysis", "vector index", "encoder", "encoder name", "synonyms"}
    assert named["encoder"] == SettingChange("encoder", "encoder-1", "encoder-2")
    assert named["vector index"] == SettingChange("vector index", "exact", "quantised")
    assert named["synonyms"] == SettingChange("synonyms", "1 rules", "2 rules: 1 new, 0 gone")
    assert not found.is_empty


def test_report_includes_read_and_rejected_rows(tmp_path: Path) -> None:
    publish_products(tmp_path, [DRILL], VersionSpec(report={"read": 3, "rejected": {"no title": 1, "no id": 1}}))
    publish_products(tmp_path, [DRILL], VersionSpec(report={"read": "many", "rejected": 7}))
    found = compare_versions(Store(tmp_path), "v000001", "v000002")
    assert (found.before.rows_read, found.before.rows_rejected, found.before.products) == (3, 2, 1)
    assert (found.after.rows_read, found.after.rows_rejected) == (0, 0)


def test_equal_catalogs_have_no_differences(tmp_path: Path) -> None:
    assert difference(tmp_path, [DRILL, HOSE], [HOSE, DRILL]).is_empty
    assert compare_versions(Store(tmp_path), "v000001", "v000001").is_empty


def test_unknown_version_error_lists_the_versions(tmp_path: Path) -> None:
    publish_products(tmp_path, [DRILL])
    for pair in (("v000001", "v000009"), ("v000009", "v000001")):
        with pytest.raises(UnknownVersionError, match=r"no version 'v000009'; it holds v000001$"):
            compare_versions(Store(tmp_path), *pair)


@given(one=products(), other=products(), shared=st.data())
def test_diff_equals_a_dictionary_comparison(
    tmp_path_factory: pytest.TempPathFactory, one: list[Product], other: list[Product], shared: st.DataObject
) -> None:
    kept = shared.draw(st.lists(st.sampled_from(one), unique_by=lambda product: product.id))
    other = sorted({**{each.id: each for each in other}, **{each.id: each for each in kept}}.values(), key=_order)
    found = _product_changes(_stored(tmp_path_factory, one), _stored(tmp_path_factory, other), most=100)
    before, after = ({each.id: product_to_json(each) for each in side} for side in (one, other))
    changed = [name for name in before if name in after and before[name] != after[name]]
    assert found.added.examples == tuple(name for name in after if name not in before)
    assert found.removed.examples == tuple(name for name in before if name not in after)
    assert found.changed == ProductList(len(changed), tuple(changed))
    assert bool(changed) == bool(found.fields)


def _order(product: Product) -> bytes:
    return product.id.encode()


def _stored(folders: pytest.TempPathFactory, made: list[Product]) -> ProductStore:
    folder = folders.mktemp("side")
    write_products(sorted(made, key=_order), folder)
    return ProductStore(folder)
