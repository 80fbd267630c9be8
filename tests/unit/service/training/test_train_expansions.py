"""`shelfwise train expansions --judgments`: trained, judged, served, followed and switched off."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from shelfwise.rerank.expansions import expansion_store, serving_expansions
from shelfwise.retrieval.errors import TrainingError
from shelfwise.service.engine.engine import SearchEngine
from tests.unit.service.cli import commands

INVENTED = ("florbel", "quandrix", "zelmuth", "brixolam", "vontrake", "ulmequist", "jaspwick", "krendolu")
"""Words that shoppers use and no product has, each for one word of titles."""


@pytest.fixture(scope="module")
def root(demo_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(demo_index, tmp_path_factory.mktemp("expanded") / "index"))


@pytest.fixture(scope="module")
def judgments(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Queries of an invented word and another word, and the products whose titles have the other word and the one that
    the invented word replaces."""
    products: defaultdict[str, dict[str, list[str]]] = defaultdict(dict)
    with SearchEngine.open(root, follow=False) as engine:
        for row in range(len(engine.snapshot.products)):
            product = engine.snapshot.products[row]
            words = {word.lower() for word in product.title.split() if word.isascii() and word.isalpha()}
            for word in words:
                for other in words - {word}:
                    products[word].setdefault(other, []).append(product.id)
    known = sorted(filter(lambda word: len(word) > 4, products), key=lambda word: (-len(products[word]), word))[
        : len(INVENTED)
    ]
    lines = [
        f"{invented} {other}\t{product}\t2"
        for invented, word in zip(INVENTED, known, strict=True)
        for other, found in sorted(products[word].items())[:60]
        for product in found
    ]
    path = tmp_path_factory.mktemp("judged") / "judgments.tsv"
    path.write_text("\n".join(["query\tproduct_id\tgrade", *lines]), "utf-8")
    return path


@pytest.fixture(scope="module")
def trained(root: Path, judgments: Path) -> Any:  # noqa: ANN401 - JSON
    """The JSON document of a training; an engine that was open before loads its result."""
    with SearchEngine.open(root) as engine:
        assert engine.search(INVENTED[0], stage="bm25").total == 0
        document = commands.document("train", "expansions", root, "--judgments", judgments)
        engine.reload_if_changed()
        assert engine.search(INVENTED[0], stage="bm25").total > 0
    return document


class TestJudgments:
    def test_expansions_are_trained_and_serve_where_searches_are_better(self, trained: Any, root: Path) -> None:  # noqa: ANN401 - JSON
        report = trained["report"]
        assert trained["serves"] and report["rejection_reasons"] == []
        assert report["measures"]["nDCG@10"] > report["measures"]["nDCG@10 without"] + 0.02
        with SearchEngine.open(root) as engine:
            page = engine.search(INVENTED[0], stage="bm25")
            learned = [each.term for each in engine.snapshot.analyzer.expansions[INVENTED[0]]]
            assert page.total > 0 and not page.suggestion
            assert set(engine.snapshot.analyzer.terms(page.hits[0].product.title)) & set(learned)
            commands.shown("models", "off", root, "--expansions")
            engine.reload_if_changed()
            assert engine.search(INVENTED[0], stage="bm25").total == 0
            commands.shown("models", "rollback", root, "expansion-0001")
            engine.reload_if_changed()
            assert engine.search(INVENTED[0], stage="bm25").total == page.total

    @pytest.mark.usefixtures("trained")
    def test_they_are_listed_and_shown(self, root: Path) -> None:
        shown = commands.shown("models", "list", root)
        assert "expansion-0001" in shown
        (listed,) = commands.document("models", "list", root)["expansions"]["expansions"]
        assert listed["serves"] and listed["spec"]["trained_on"]["source"] == "judgments"
        shown = commands.shown("models", "show", root, "expansion-0001")
        assert "decision: published" in shown and "nDCG@10 without" in shown
        assert commands.document("models", "show", root, "expansion-0001")["serves"]

    @pytest.mark.usefixtures("trained")
    def test_too_few_queries_are_refused(self, root: Path, judgments: Path, tmp_path: Path) -> None:
        few = tmp_path / "few.tsv"
        few.write_text("\n".join(judgments.read_text("utf-8").split("\n")[:100]), "utf-8")
        with pytest.raises(TrainingError, match="queries with a relevant product can be tested on; 50 are"):
            commands.document("train", "expansions", root, "--judgments", few)
        assert expansion_store(root).names() == ["expansion-0001"]

    def test_an_index_without_any_says_how_to_train_them(self, demo_index: Path) -> None:
        assert serving_expansions(demo_index) == ({}, ())
        shown = commands.shown("models", "list", demo_index)
        assert "No expansion yet. To train one: shelfwise train expansions" in shown
