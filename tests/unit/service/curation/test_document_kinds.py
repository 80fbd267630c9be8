"""One suite for all kinds of documents: changes, history, undo and refusals by the routes and by the commands."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from shelfwise.retrieval.errors import InputError, StoreMissingError
from shelfwise.service.curation.document_store import DocumentKind
from shelfwise.service.engine.engine import SearchEngine
from tests.unit.service.cli.commands import document, shown


@dataclass(frozen=True, slots=True)
class Example:
    """A document of a kind, a change of it, and values that make it invalid in the field of that name."""

    id: str
    document: dict[str, Any]
    change: dict[str, Any]
    invalid: dict[str, Any]


EXAMPLES = {
    DocumentKind.RULES: Example(
        "sale", {"id": "sale", "actions": [{"kind": "redirect", "url": "/sale"}]}, {"priority": 5}, {"actions": []}
    ),
    DocumentKind.SYNONYMS: Example(
        "zorb",
        {"id": "zorb", "kind": "one-way", "phrases": ["zorb"], "to": ["drill"], "enabled": True},
        {"enabled": False},
        {"phrases": ["!"]},
    ),
    DocumentKind.RELATIONS: Example(
        "fits d000017 d000018",
        {"id": "fits d000017 d000018", "kind": "fits", "product": "d000017", "other": "d000018", "removed": False},
        {"removed": True},
        {"other": "d000017"},
    ),
    DocumentKind.RELEVANCE: Example("relevance", {"margin": 2.5}, {"cutoff": 0.5}, {"cutoff": 9}),
    DocumentKind.CAMPAIGNS: Example(
        "drills", {"id": "drills", "advertiser": "acme", "products": ["d000017"], "bid": 0.4}, {"bid": 0.5}, {"bid": 0}
    ),
    DocumentKind.EXPERIMENTS: Example(
        "merging",
        {
            "id": "merging",
            "variants": [{"name": "now"}, {"name": "rrf", "options": {"merge": "rrf"}}],
            "enabled": False,
        },
        {"share": 0.5},
        {"share": 2},
    ),
    DocumentKind.ANSWERS: Example(
        "vegan", {"id": "vegan", "answer": "Yes.", "question": "Is it vegan?"}, {"answer": "No."}, {"answer": "<br>"}
    ),
}
kinds = pytest.mark.parametrize("kind", DocumentKind)


@kinds
def test_changes_by_routes_are_logged_and_undone(client: TestClient, kind: DocumentKind) -> None:
    example, path = EXAMPLES[kind], f"/v1/{kind}"

    def put(*documents: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
        return client.put(path, json={"documents": documents})

    def stored() -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = client.get(path).json()["documents"]
        return listed

    before, first = stored(), client.get(path).json()["revision"] + 1
    assert put(example.document).json() == put(example.document).json() == {"revision": first}
    (created,) = stored()
    assert created == {**created, **example.document}
    for refused in (
        put({**example.document, **example.change}, {**example.document, **example.invalid}),
        client.patch(f"{path}/{example.id}", json=example.invalid),
    ):
        error = refused.json()["error"]
        assert (refused.status_code, error["field"]) == (400, *example.invalid)
    assert put({**example.document, "colour": 1}).json()["error"]["field"] == "colour"
    assert stored() == [created]
    assert client.patch(f"{path}/{example.id}", json=example.change).json() == {"revision": first + 1}
    assert stored() == [{**created, **example.change}]
    assert client.post(f"{path}/restore", json={"revision": first}).json() == {"revision": first + 2}
    assert stored() == [created]
    assert client.delete(f"{path}/{example.id}").json() == {"revision": first + 3}
    assert stored() == before
    assert client.delete(f"{path}/{example.id}").status_code == 400
    assert client.post(f"{path}/restore", json={"revision": first + 9}).status_code == 400
    changes = client.get(f"{path}/history", params={"id": example.id}).json()["changes"]
    assert [change["revision"] for change in changes] == [first + 3, first + 2, first + 1, first]
    assert (changes[0]["before"], changes[0]["after"], changes[-1]["before"]) == (created, None, None)


@kinds
def test_commands_store_show_and_restore(root: Path, tmp_path: Path, kind: DocumentKind) -> None:
    example, file = EXAMPLES[kind], tmp_path / "documents.json"
    invalid = tmp_path / "invalid.json"
    file.write_text(json.dumps(example.document))
    invalid.write_text(json.dumps([example.document, {**example.document, **example.invalid}]))
    with pytest.raises(InputError):
        document("curate", "put", kind, root, invalid)
    with pytest.raises(StoreMissingError):
        document("curate", "history", kind, tmp_path / "nowhere")
    assert not (root / f"{kind}.sqlite").exists()
    text = shown("curate", "put", kind, root, file, "--by", "m7")
    assert text.startswith("Revision 1: 1 ")
    assert f"is stored. To undo: shelfwise curate restore {kind} {root} 0" in " ".join(text.split())
    file.write_text(shown("curate", "show", kind, root, example.id))
    assert document("curate", "put", kind, root, file) == {"before": 1, "revision": 1}
    file.write_text(json.dumps({**json.loads(file.read_text()), **example.change}))
    assert "Revision 2: 1 " in shown("curate", "put", kind, root, file)
    (name,) = example.change
    assert f"{name} " in shown("curate", "history", kind, root, example.id, "--limit", "1").splitlines()[1]
    assert f"all {kind} are now as in revision 1" in shown("curate", "restore", kind, root, 1)
    (listed,) = document("curate", "list", kind, root)["documents"]
    assert listed == {**listed, **example.document}
    assert example.id in shown("curate", "list", kind, root) or kind is DocumentKind.RELEVANCE
    assert "deleted." in shown("curate", "delete", kind, root, example.id)
    changes = document("curate", "history", kind, root)
    assert [(each["revision"], each["who"]) for each in changes] == [(4, ""), (3, ""), (2, ""), (1, "m7")]


@kinds
def test_lists_of_ids_are_checked(live: SearchEngine, kind: DocumentKind) -> None:
    editor = getattr(live, kind)
    one = editor.kind.accept(EXAMPLES[kind].document, "it")
    with pytest.raises(editor.kind.error, match="have the same id"):
        editor.put([one, one])
    with pytest.raises(editor.kind.error, match="ids must be a list"):
        editor.delete(EXAMPLES[kind].id)
    assert editor.revision == 0
