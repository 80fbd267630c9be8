"""The fields of a catalog: counted in parts, the same as one by one."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

import retrieval.filters.schema
from retrieval.filters.schema import CORE_KINDS, FieldCounter, field_values, fold_value
from retrieval.records import Product
from tests import catalogs


def counted(products: list[Product]) -> FieldCounter:
    counter = FieldCounter()
    for product in products:
        counter.add(product)
    return counter


@given(products=catalogs.products(maximum=20), cut=st.integers(0, 20), most=st.integers(1, 4))
def test_a_catalog_has_the_fields_of_its_products_however_it_is_counted(
    products: list[Product], cut: int, most: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval.filters.schema, "_MOST_SHAPES", most)
        parts = counted(products[:cut])
        parts.merge(pickle.loads(pickle.dumps(counted(products[cut:]))))
    catalog = parts.catalog()
    assert catalog == counted(products).catalog()
    kinds = {name: {kind} for name, kind in CORE_KINDS.items()}
    having: dict[str, set[str]] = {name: set() for name in CORE_KINDS}
    for product in products:
        for name, kind, _ in field_values(product):
            kinds.setdefault(name, set()).add(kind)
            having.setdefault(name, set()).add(product.id)
    assert {name: info.kinds for name, info in catalog.fields.items()} == kinds
    assert {name: info.products for name, info in catalog.fields.items()} == {
        name: len(ids) for name, ids in having.items()
    }
    assert catalog.category_roots == {fold_value(each.category[0]) for each in products if each.category}


@given(before=catalogs.products(), after=catalogs.products())
def test_a_field_that_stays_keeps_its_place(before: list[Product], after: list[Product]) -> None:
    earlier = counted(before).catalog()
    later = counted(after).catalog(earlier)
    both = earlier.fields.keys() & later.fields.keys()
    assert all(later.fields[name].slot == earlier.fields[name].slot for name in both)
    places = [info.slot for info in later.fields.values()]
    assert len(set(places)) == len(places)
