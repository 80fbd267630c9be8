"""Every rule of cleaning in one table: the report counts by it, and docs/cleaning.md shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TEXTS = "title, description, brand, category, attributes, options, identifiers"


@dataclass(frozen=True, slots=True)
class CleaningRule:
    """One rule: its name in counts, the fields it works on, what it does, and an example in one of the fields."""

    name: str
    fields: str
    does: str
    field: str
    before: str
    after: str


def _table(*rules: CleaningRule) -> Mapping[str, CleaningRule]:
    return {rule.name: rule for rule in rules}


CLEANING_RULES: Mapping[str, CleaningRule] = _table(
    CleaningRule(
        "mojibake",
        TEXTS,
        "repairs text that was decoded with the wrong encoding, where that is certain",
        "title",
        "CafetiÃ¨re Ã\xa0 piston",
        "Cafetière à piston",
    ),
    CleaningRule(
        "markup",
        TEXTS,
        "takes HTML out; paragraphs, list items and breaks become lines; `a < b` and `<3` stay",
        "description",
        "<p>Oak table</p><ul><li>solid<li>oiled</ul>",
        "Oak table\nsolid\noiled",
    ),
    CleaningRule(
        "entities", TEXTS, "writes HTML's entities as characters", "title", "Salt &amp;amp; pepper", "Salt & pepper"
    ),
    CleaningRule(
        "characters",
        TEXTS,
        "drops control, zero-width and direction characters and soft hyphens",
        "brand",
        "Bo\u200bsch\x07",
        "Bosch",
    ),
    CleaningRule(
        "composition", TEXTS, "composes letters and their accents (Unicode NFC)", "brand", "Nestle\u0301", "Nestlé"
    ),
    CleaningRule(
        "spaces",
        TEXTS,
        "makes runs of white space one space; descriptions, attributes and options keep their lines",
        "title",
        " Oak\u00a0 table ",
        "Oak table",
    ),
    CleaningRule(
        "placeholders",
        "description, brand, category, identifiers",
        "empties a value that only says that there is none (`N/A`, `unknown`, `does not apply`, `-`, `无`)",
        "brand",
        "Does not apply",
        "",
    ),
    CleaningRule(
        "category-levels",
        "category",
        "splits a level that is a path (`>`, `›`, `»`, `|`) into its levels",
        "category",
        "Tools > Drills | Cordless",
        "Tools / Drills / Cordless",
    ),
    CleaningRule(
        "category-root",
        "category",
        "drops a first level that stands for the whole store (`Root`, `All products`, `Default Category`, `首页`)",
        "category",
        "All products / Tools",
        "Tools",
    ),
    CleaningRule(
        "category-repeats",
        "category",
        "drops empty levels and a level that repeats the one before",
        "category",
        "Tools / tools / Drills",
        "Tools / Drills",
    ),
    CleaningRule(
        "identifier-digits",
        "identifiers ean, gtin, upc, isbn, barcode",
        "takes spaces, hyphens, Excel's apostrophe and `.0` out of a code of digits; check digits are not touched",
        "ean",
        "'4-006381 333931",
        "4006381333931",
    ),
    CleaningRule(
        "broken-identifiers",
        "identifiers",
        "drops what a spreadsheet made of a code: its last digits are lost",
        "ean",
        "4.00638E+12",
        "",
    ),
    CleaningRule(
        "measures",
        "attributes",
        "adds a number in one unit for each dimension beside a text that is one quantity; the text stays",
        "weight",
        "1,5 kg",
        "weight_g = 1500",
    ),
    CleaningRule(
        "image-addresses",
        "images",
        "trims addresses, completes `//host/...`, writes blanks as `%20`, drops repeated ones",
        "image",
        " //shop.example/a b.jpg",
        "https://shop.example/a%20b.jpg",
    ),
    CleaningRule(
        "unusable-images",
        "images",
        "drops what is no `http` or `https` address",
        "image",
        "data:image/png;base64,AAAA",
        "",
    ),
    CleaningRule(
        "currency", "currency", "writes an ISO 4217 code in capitals, a symbol as its code", "currency", "eur", "EUR"
    ),
    CleaningRule("language-code", "language", "keeps the ISO 639-1 part of a code", "language", "EN-us", "en"),
    CleaningRule(
        "language-detected",
        "language",
        "finds the language of the title, then of the description, where the feed has none",
        "title",
        "Schreibtischlampe mit Netzteil",
        "language = de",
    ),
    CleaningRule(
        "brand-spelling",
        "brand",
        "writes a brand as most of its products have it; case, accents, punctuation and legal forms do not count",
        "brand",
        "BOSCH GmbH",
        "Bosch",
    ),
    CleaningRule(
        "category-spelling",
        "category",
        "writes a level as most products have it; case, accents and punctuation do not count",
        "category",
        "power tools",
        "Power Tools",
    ),
)
"""By name, in the order in which they apply; the last two need the whole catalog (`indexer.cleaning.spelling`)."""
