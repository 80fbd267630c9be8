"""Verification of a version: every damage is found and reported for the right part, without false reports."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from shelfwise.retrieval.filters.schema import FieldCatalog, FieldInfo
from shelfwise.retrieval.index.faiss import ROWS_FILE, VectorIndexKind
from shelfwise.retrieval.index.keyword_documents import LINES_FILE, LineWriter, read_lines
from shelfwise.retrieval.index.tantivy import TantivyBuilder
from shelfwise.retrieval.index.vectors import VECTORS_FILE
from shelfwise.retrieval.progress import NullProgress
from shelfwise.retrieval.records import Product
from shelfwise.retrieval.store.files import SEAL_FILE, load_json, seal_folder
from shelfwise.retrieval.store.manifest import (
    CURRENT,
    FIELDS_FILE,
    KEYWORD_FOLDER,
    MANIFEST,
    SYNONYMS_FILE,
    TEXT_KEYS_FILE,
    VECTORS_FOLDER,
    Manifest,
    write_fields,
)
from shelfwise.retrieval.store.products import IDS_FILE, OFFSETS_FILE, PRODUCTS_FILE, RECIPE, keyword_document
from shelfwise.retrieval.store.versions import Store
from shelfwise.retrieval.text.analysis import Analyzer
from shelfwise.retrieval.updates.changes import Delete
from shelfwise.retrieval.updates.journal import Journal
from shelfwise.retrieval.updates.journal_files import COPY, JOURNAL
from shelfwise.service.cli.verify import Problem, Verification, store_problems, verify_version
from tests.progress import StoppedProgress
from tests.versions import DIMENSION, VersionSpec, publish_products, reseal, write_products
from tests.whole_index import write_whole_index

NAME = "v000001"
CATALOG = [
    Product(
        f"p{place:03d}",
        f"{('cordless drill', 'garden hose', 'desk lamp', '无线电钻')[place % 4]} no {place // 2}",
        brand=("Bosch", "Gardena", "")[place % 3],
        category=("Tools", "Drills")[: place % 3],
        price=10.0 + place,
        identifiers={"sku": (f"AB-{place}",)},
        attributes={"colour": ("red", "blue")[place % 2], "volt": 18.0, "tags": ("a", "b")},
    )
    for place in range(60)
]
CATALOG.append(replace(CATALOG[4], id="p060", price=1.0))
"""A product with the text of another one, so that their vectors are equal."""
SIZE = len(CATALOG)
LINES = f"{KEYWORD_FOLDER}/{LINES_FILE}"
STORED = f"{VECTORS_FOLDER}/{VECTORS_FILE}"
ROWS = f"{VECTORS_FOLDER}/{ROWS_FILE}"
Array = NDArray[Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    publish_products(root, CATALOG, VersionSpec(synonyms="sofa => couch", kind=VectorIndexKind.QUANTISED))
    return root


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "index"))


def folder_of(root: Path) -> Path:
    return Store(root).version_folder(NAME)


def verified(root: Path) -> Verification:
    return verify_version(Store(root), NAME, NullProgress())


def found(root: Path) -> list[tuple[str, str]]:
    return [(problem.part, problem.what) for problem in verified(root).problems]


def sealed_files(root: Path) -> list[str]:
    """The files of the version and of its encoder, except the manifest and the seals."""
    folders = Store(root).folders(Store(root).manifest(NAME))
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return sorted(path.relative_to(root).as_posix() for path in paths if path.name not in (MANIFEST, SEAL_FILE))


class TestIntactVersion:
    def test_intact_version_is_verified_completely(self, whole: Path) -> None:
        before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
        progress = StoppedProgress()
        result = verify_version(Store(whole), NAME, progress)
        files = [*sealed_files(whole), f"versions/{NAME}/{MANIFEST}"]
        size = sum((whole / name).stat().st_size for name in files)
        assert result == Verification(NAME, SIZE, len(files), size, (), ())
        assert progress.phases == ["checksums", "agreement"]
        assert progress.done == sum(total or 0 for total in progress.totals)
        assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before  # unchanged


def index_again(folder: Path, products: list[Product]) -> None:
    shutil.rmtree(folder / KEYWORD_FOLDER)
    catalog = load_json(folder / FIELDS_FILE, FieldCatalog)
    builder = TantivyBuilder(folder / KEYWORD_FOLDER, catalog)
    builder.add(keyword_document(row, product, Analyzer(), catalog) for row, product in enumerate(products))
    builder.finish()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


class TestChecksums:
    def test_all_damaged_files_are_named(self, root: Path) -> None:
        names = sealed_files(root)
        for relative in names:
            (root / relative).unlink()
        result = verified(root)
        assert sorted(problem.part for problem in result.problems) == names
        assert all(problem.what == "cannot be read (No such file or directory)" for problem in result.problems)
        for problem in result.problems:
            command = "shelfwise rebuild" if problem.part.startswith("encoders/") else "shelfwise index rollback"
            assert command in problem.advice
        assert len(result.skipped) == 9

    @pytest.mark.parametrize("name", [MANIFEST, SEAL_FILE])
    def test_damaged_manifest_stops_the_verification(self, root: Path, name: str) -> None:
        flip(folder_of(root) / name)
        result = verified(root)
        assert [problem.part for problem in result.problems] == [MANIFEST]
        assert (result.products, result.skipped) == (0, ("everything else: its manifest is damaged",))

    def test_unlisted_file_is_reported(self, root: Path) -> None:
        (folder_of(root) / "notes.txt").write_text("mine")
        (problem,) = verified(root).problems
        assert problem == Problem(f"versions/{NAME}/notes.txt", "is not in the seal", "remove it: nothing reads it")


SWAPPED = [*CATALOG[:4], CATALOG[8], *CATALOG[5:8], CATALOG[4], *CATALOG[9:]]


def swap_records(folder: Path) -> None:
    """Two products exchange everything but their ids; the file keeps its length."""
    ids = [product.id for product in CATALOG]
    write_products((replace(each, id=own) for own, each in zip(ids, SWAPPED, strict=True)), folder)


def spoil_record(folder: Path) -> None:
    path = folder / PRODUCTS_FILE
    path.write_bytes(path.read_bytes().replace(b'{"id":"p004"', b'["id":"p004"'))


def edit_array(folder: Path, name: str, edit: Callable[[Array], Array]) -> None:
    np.save(folder / name, edit(np.load(folder / name)))


def lengthen_vectors(vectors: Array) -> Array:
    vectors[5] *= 2
    vectors[7, 0] = np.nan
    return vectors


def repeat_row(rows: Array) -> Array:
    rows[4] = rows[8]
    return rows


def rewrite_lines(folder: Path, edit: Callable[[list[bytes]], list[bytes]]) -> None:
    lines = edit(list(read_lines(folder / KEYWORD_FOLDER)))
    with LineWriter(folder / KEYWORD_FOLDER) as writer:
        for line in lines:
            writer.write(line)


def lose_terms(folder: Path) -> None:
    """The keyword index lacks a product that its lines have."""
    index_again(folder, CATALOG[:-1])
    lines = folder / LINES
    kept = lines.with_suffix(".kept")
    kept.write_bytes(lines.read_bytes())
    kept.replace(lines)


def cut_off(folder: Path) -> None:
    content = (folder / LINES).read_bytes()
    (folder / LINES).write_bytes(content[: len(content) // 2])


def edit_fields(folder: Path, **changes: FieldInfo) -> None:
    catalog = load_json(folder / FIELDS_FILE, FieldCatalog)
    write_fields(replace(catalog, fields={**catalog.fields, **changes}), folder / FIELDS_FILE)


def edit_manifest(folder: Path, **changes: object) -> None:
    reseal(folder.parents[1], NAME, lambda manifest: msgspec.structs.replace(manifest, **changes))


def share_place(folder: Path) -> None:
    fields = load_json(folder / FIELDS_FILE, FieldCatalog).fields
    # Two numeric fields without values, so that no line can show the difference.
    edit_fields(folder, rating=replace(fields["rating"], slot=fields["rating_count"].slot))


OTHER_TERMS = "terms or values differ from those of the product: 2 products"
OTHER_TEXT = "text differs from the encoded one: 2 products"
DISAGREEMENTS: list[tuple[Callable[[Path], object], dict[str, str]]] = [
    (swap_records, {LINES: f"{OTHER_TERMS} (p004, p008)", TEXT_KEYS_FILE: f"{OTHER_TEXT} (p004, p008)"}),
    (partial(write_products, SWAPPED), {PRODUCTS_FILE: "not in the order of ids: 2 products (p005, p004)"}),
    (spoil_record, {PRODUCTS_FILE: "cannot be read: 1 product (p004)"}),
    (
        partial(edit_array, name=STORED, edit=lambda vectors: vectors[:-1]),
        {VECTORS_FOLDER: "61 vectors in the index, 60 stored; rebuild the index"},
    ),
    (
        partial(edit_array, name=STORED, edit=lengthen_vectors),
        {VECTORS_FOLDER: "vector is not of length 1: 2 products (p005, p007)"},
    ),
    (partial(edit_array, name=ROWS, edit=repeat_row), {VECTORS_FOLDER: "does not contain each row once"}),
    (
        lambda folder: edit_manifest(folder, dimension=8, vectors="exact"),
        {VECTORS_FOLDER: f"it is quantised of dimension {DIMENSION}, the manifest has exact of dimension 8"},
    ),
    (
        lambda folder: (folder / SYNONYMS_FILE).write_text("sofa => settee\n"),
        {SYNONYMS_FILE: "the text analysis of this program is"},
    ),
    (
        partial(index_again, products=SWAPPED),
        {
            LINES: f"{OTHER_TERMS} (p004, p008)",
            KEYWORD_FOLDER: "not found by its id at its row: 2 products (p004, p008)",
        },
    ),
    (lose_terms, {KEYWORD_FOLDER: "it holds 60 products, the manifest has 61", LINES: "missing: 1 product (p060)"}),
    (cut_off, {LINES: "cannot be read (it is truncated); rebuild the index"}),
    (share_place, {FIELDS_FILE: "two fields share a slot of the keyword index"}),
    (
        lambda folder: rewrite_lines(folder, lambda lines: [*lines, lines[0]]),
        {LINES: "it continues after the last product"},
    ),
]


class TestConsistency:
    """Each damaged version is resealed: checksums are valid, but its parts are inconsistent."""

    @pytest.mark.parametrize(("damage", "disagreements"), DISAGREEMENTS)
    def test_inconsistent_component_is_named_with_the_products(
        self, root: Path, damage: Callable[[Path], object], disagreements: dict[str, str]
    ) -> None:
        damage(folder_of(root))
        reseal(root, NAME)
        problems = found(root)
        for part, what in disagreements.items():
            assert any(each == part and what in message for each, message in problems), problems

    def test_vector_index_with_wrong_rows_is_reported(self, tmp_path: Path) -> None:
        lamps = [Product(f"p{place:04d}", f"desk lamp no {place}") for place in range(1_000)]
        publish_products(tmp_path, lamps, VersionSpec(kind=VectorIndexKind.QUANTISED))
        edit_array(folder_of(tmp_path), ROWS, np.flip)
        reseal(tmp_path, NAME)
        [(part, message)] = found(tmp_path)
        assert part == VECTORS_FOLDER
        assert message.startswith("not found by its own vector: ")

    def test_version_of_another_recipe_skips_term_checks_and_says_so(self, root: Path) -> None:
        rewrite_lines(folder_of(root), lambda lines: lines[::-1])
        edit_manifest(folder_of(root), recipe="0")
        result = verified(root)
        assert (len(result.skipped), result.problems) == (2, ())
        assert f"the agreement of {LINES}: built by recipe '0', this program has '{RECIPE}'" in result.skipped

    @pytest.mark.parametrize("name", [IDS_FILE, OFFSETS_FILE, STORED, TEXT_KEYS_FILE, FIELDS_FILE, LINES])
    @pytest.mark.parametrize("content", [b"", b"\xff" * 50])
    def test_invalid_content_with_valid_checksum_is_a_problem(self, root: Path, name: str, content: bytes) -> None:
        (folder_of(root) / name).write_bytes(content)
        reseal(root, NAME)
        problems = verified(root).problems
        assert problems
        assert all(problem.advice for problem in problems)


def test_pointer_to_a_missing_version_is_a_problem(root: Path) -> None:
    (root / CURRENT).write_text("v000009\n")
    (problem,) = store_problems(Store(root))
    assert (problem.part, problem.what) == (CURRENT, "it names v000009, which does not exist")


@pytest.fixture
def with_changes(tmp_path: Path) -> Store:
    """A version that contains the first of three live changes."""
    with_changes = Store(tmp_path)
    with with_changes.lock():
        manifest = Manifest(1, with_changes.next_version(), "", 1, "", "", "encoder-1", "", 1, "", last_merged_change=1)
        with_changes.publish(with_changes.create_build_folder(), manifest)
    with Journal(tmp_path) as journal:
        for name in ("first", "second", "third"):
            journal.append([Delete(name)])
    return with_changes


def damage_files(with_changes: Store, what: bytes, *names: str) -> None:
    for name in names:
        path = with_changes.root / name
        path.write_bytes(path.read_bytes().replace(what, what[::-1]))


@pytest.mark.parametrize("name", [JOURNAL, COPY])
def test_damaged_journal_copy_is_named_without_loss(with_changes: Store, name: str) -> None:
    damage_files(with_changes, b"second", name)
    (problem,) = store_problems(with_changes)
    assert problem.what.startswith(f"{with_changes.root / name} is damaged: change 2 has another checksum")
    assert problem.advice.startswith("nothing is lost")
    with Journal(with_changes.root) as journal:
        journal.append([Delete("fourth")])
    assert store_problems(with_changes) == []


def test_change_damaged_in_both_copies_is_lost_unless_published(with_changes: Store) -> None:
    damage_files(with_changes, b"first", JOURNAL, COPY)
    assert store_problems(with_changes) == []
    damage_files(with_changes, b"second", JOURNAL, COPY)
    (problem,) = store_problems(with_changes)
    assert "journal of live changes" in problem.what
    assert problem.advice.startswith(f"restore {JOURNAL} and {COPY} from a backup")


OPTIONAL = re.compile(r"(.*\.sqlite|admin\.token|keys\.json|rankers/CURRENT|training/towers-1/seal\.json)")
"""Files that an intact index may lack."""
OTHERS = re.compile(r"(versions|encoders)/|(.*/)?(lock|lock\.json|.*\.lock|identity)|.*-(wal|shm)")
"""Files of versions, and files whose content is made again."""


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index directory with every kind of file."""
    root = tmp_path_factory.mktemp("full")
    write_whole_index(root)
    for name in ("model.safetensors", "adapter/adapter.safetensors"):
        path = root / "training/towers-1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(range(200)))
    seal_folder(root / "training/towers-1", {})
    return root


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove_content(path: Path) -> None:
    path.write_bytes(b"")


def flip_in_page(path: Path) -> None:
    """Flips a bit of a page's header in SQLite, else of the middle of the file."""
    content = bytearray(path.read_bytes())
    content[4_096 if path.suffix == ".sqlite" else len(content) // 2] ^= 0x10
    path.write_bytes(content)


def test_intact_directory_has_no_problems(full: Path) -> None:
    assert store_problems(Store(full)) == []


@pytest.mark.parametrize("damage", [truncate, remove_content, flip_in_page, Path.unlink])
def test_verification_names_each_damaged_file(full: Path, damage: Callable[[Path], None]) -> None:
    names = sorted(path.relative_to(full).as_posix() for path in full.rglob("*") if path.is_file())
    for name in (each for each in names if not OTHERS.match(each)):
        path = full / name
        whole = path.read_bytes()
        damage(path)
        found = store_problems(Store(full))
        path.write_bytes(whole)
        if damage is Path.unlink and OPTIONAL.fullmatch(name):
            assert not found
        else:
            assert any(path.name in f"{problem.part} {problem.what}" for problem in found), name
            assert all(problem.advice for problem in found)


def problems_after(root: Path, file: str, statement: str) -> list[Problem]:
    """The problems of an index directory after a statement in one of its files, which is undone."""
    path = root / file
    whole = path.read_bytes()
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(statement)
        return store_problems(Store(root))
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE events SET kind = 'clic+' WHERE key = (SELECT min(key) FROM events)", "has changed"),
        ("UPDATE events SET checksum = checksum + 1 WHERE key = (SELECT min(key) FROM events)", "has changed"),
        ("DELETE FROM events WHERE key = (SELECT min(key) FROM events)", "as many events as were stored"),
        ("DELETE FROM days", "as many events as were stored"),
    ],
)
def test_verification_finds_a_changed_event(full: Path, statement: str, what: str) -> None:
    (problem,) = problems_after(full, "events/events.sqlite", statement)
    assert problem.part == "events/events.sqlite"
    assert what in problem.what


@pytest.mark.parametrize(("table", "column"), [("rules", "rule"), ("changes", "after")])
def test_verification_finds_a_changed_letter_in_a_document(full: Path, table: str, column: str) -> None:
    statement = f"UPDATE {table} SET {column} = replace({column}, 'drill', 'drull')"  # noqa: S608
    sum_of_rows, problem = problems_after(full, "rules.sqlite", statement)
    assert "a value has changed" in sum_of_rows.what
    assert "the rule 'drills' does not agree with its history" in problem.what
    assert problem.advice == "restore it from a backup"
