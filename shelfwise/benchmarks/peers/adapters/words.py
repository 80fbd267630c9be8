"""Libraries that search only words: bm25s and tantivy."""

from __future__ import annotations

import re
import threading
from typing import Any

from shelfwise.benchmarks.peers.protocol import Adapter, Catalog, PriceRange, chinese_words

_SYNTAX = re.compile(r"[^\w\s]|\b(?:AND|OR|NOT|IN)\b")
"""Signs of tantivy's query language, in which a shopper's hyphen would exclude a word."""


class Bm25s(Adapter):
    """bm25s as in its README: English stop words and PyStemmer's stemmer. Mode: words."""

    packages = ("bm25s", "PyStemmer")

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(catalog)
        import bm25s
        import Stemmer

        self._library = bm25s
        self._stemmer = Stemmer.Stemmer("english")
        self._stemming = threading.Lock()

    def build(self) -> None:
        index = self._library.BM25()
        index.index(self._tokens([each.text for each in self.items]), show_progress=False)
        index.save(str(self.catalog.folder))

    def open(self) -> None:
        self._index = self._library.BM25.load(str(self.catalog.folder))

    def _tokens(self, texts: list[str]) -> Any:  # noqa: ANN401 - the library's
        if self.catalog.is_chinese:
            apart = [" ".join(chinese_words(text)) for text in texts]
            return self._library.tokenize(apart, stopwords=[], token_pattern=r"\S+", show_progress=False)  # noqa: S106
        with self._stemming:
            return self._library.tokenize(texts, stopwords="en", stemmer=self._stemmer, show_progress=False)

    def search(self, mode: str, query: str, prices: PriceRange | None, k: int) -> list[str]:  # noqa: ARG002
        if prices:
            raise NotImplementedError
        depth = min(k, len(self.items))
        rows, scores = self._index.retrieve(self._tokens([query]), k=depth, show_progress=False)
        return [self.items[row].id for row, score in zip(rows[0].tolist(), scores[0].tolist(), strict=True) if score]


class Tantivy(Adapter):
    """tantivy with its English tokenizer over title, brand, category and description. Mode: words."""

    packages = ("tantivy",)
    _FIELDS = ("title", "brand", "category", "description")

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(catalog)
        import tantivy

        self._library = tantivy
        builder = tantivy.SchemaBuilder()
        builder.add_text_field("id", stored=True, tokenizer_name="raw")
        for name in self._FIELDS:
            builder.add_text_field(name, tokenizer_name="default" if catalog.is_chinese else "en_stem")
        builder.add_float_field("price", indexed=True, fast=True)
        self._row = {each.id: row for row, each in enumerate(self.items)}
        self._schema = builder.build()
        self._index = tantivy.Index(self._schema, path=str(catalog.folder))
        self._writer: Any = None

    def build(self) -> None:
        writer = self._index.writer()
        for row in range(len(self.items)):
            writer.add_document(self._document(row, self.items[row].price))
        writer.commit()
        writer.wait_merging_threads()

    def open(self) -> None:
        self._index.reload()

    def _document(self, row: int, price: float) -> Any:  # noqa: ANN401 - the library's
        item = self.items[row]
        texts = {name: self._text(getattr(item, name)) for name in self._FIELDS}
        return self._library.Document(id=item.id, price=price, **texts)

    def _text(self, text: str) -> str:
        """A text with separated Chinese words, since tantivy's tokenizers split at spaces."""
        return " ".join(chinese_words(text)) if self.catalog.is_chinese else text

    def search(self, mode: str, query: str, prices: PriceRange | None, k: int) -> list[str]:  # noqa: ARG002
        library = self._library
        parsed, _ = self._index.parse_query_lenient(self._text(_SYNTAX.sub(" ", query)), list(self._FIELDS))
        if prices:
            kind = library.FieldType.Float
            allowed = library.Query.range_query(self._schema, "price", kind, prices.low, prices.high)
            parsed = library.Query.boolean_query([(library.Occur.Must, parsed), (library.Occur.Must, allowed)])
        searcher = self._index.searcher()
        return [searcher.doc(address)["id"][0] for _, address in searcher.search(parsed, k, count=False).hits]

    def change_price(self, product: str, price: float) -> None:
        if self._writer is None:
            self._writer = self._index.writer()
        self._writer.delete_documents("id", product)
        self._writer.add_document(self._document(self._row[product], price))
        self._writer.commit()
        self._index.reload()
