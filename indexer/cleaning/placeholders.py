"""Values that only say that there is none."""

from __future__ import annotations

import re

from retrieval.fields import fold

_LONGEST = 32
_WORDS = (
    "n/a|n.a.|n.a|na|#n/a|none|null|nil|nan|undefined|unknown|not known|unspecified|not specified|"
    "not available|not applicable|does not apply|doesn't apply|no brand|nobrand|unbranded|tbd|tba|"
    "to be determined|empty|blank|k.a.|keine angabe|keine angaben|unbekannt|nicht zutreffend|ohne marke|"
    "keine marke|sans marque|inconnu|inconnue|non applicable|non renseigné|sin marca|desconocido|no aplica|"
    "no disponible|sem marca|desconhecido|não se aplica|senza marca|sconosciuto|non disponibile|onbekend|"
    "niet van toepassing|geen merk|nieznany|brak|brak danych|bez marki|okänd|saknas|"
    "无|無|暂无|暫無|无品牌|没有|未知|不适用|不详|なし|該当なし|不明"
)
_LETTER_OR_DIGIT = re.compile("[a-zA-Z0-9]")
_SAYS_NOTHING = frozenset(_WORDS.split("|"))


def is_placeholder(text: str) -> bool:
    """Whether a brand, an identifier, a category or a description says only that it is not there: "N/A", "-", "无"."""
    if len(text) > _LONGEST:
        return False
    if text.isascii():
        return text.lower() in _SAYS_NOTHING or not (text[:1].isalnum() or _LETTER_OR_DIGIT.search(text))
    folded = fold(text)
    return folded in _SAYS_NOTHING or not any(map(str.isalnum, folded))
