"""Cleaning of one text: markup, mojibake, entities, invisible characters, composition and white space. The only file
that imports selectolax.

Quantities in attributes are read as numbers: the text "1,5 kg" stays, and 1500 is stored beside it as `weight_g`.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

from shelfwise.retrieval.filters.schema import fold_value
from shelfwise.retrieval.text.analysis import fold
from shelfwise.retrieval.text.units import QUANTITIES, quantities

_NAME_LIST = """
a abbr acronym address article aside audio b blockquote body br button caption center cite code col colgroup dd del dfn
div dl dt em embed fieldset figcaption figure font footer form h1 h2 h3 h4 h5 h6 head header hr html i iframe img input
ins kbd label legend li link main map mark meta nav noscript object ol optgroup option p param picture pre q s samp
section select small source span strike strong sub sup svg table tbody td tfoot th thead time tr tt u ul var video wbr
o:p
"""
_BLOCK_LIST = "address article blockquote br center dd div dl dt h1 h2 h3 h4 h5 h6 hr li ol p pre section table tr ul"
_NAMES = frozenset(_NAME_LIST.split())
_BLOCKS = frozenset(_BLOCK_LIST.split())
_CELLS = frozenset({"td", "th"})
_ATTRIBUTE = r"""\s++[a-z_:@][\w:.-]*+(?>(?:\s*+=\s*+(?:"[^"<]*+"|'[^'<]*+'|[^\s"'<>]++))?)"""
# A single "<" matches too, so that one pass sees all of them.
_OPENING = re.compile(rf"<(?>(?:/?([a-z][a-z0-9]*+(?>(?::p)?))((?>(?:{_ATTRIBUTE})*))\s*+/?>)?)", re.IGNORECASE)
_CUT_OFF = re.compile(r"<(?:/|/?([a-z][a-z0-9]*+)(?>(?:\s[^<>=]*+=[^<>]*+)?))", re.IGNORECASE)
_SCRIPT = re.compile(r"<(script|style|template)(?:\s[^<>]*+)?>", re.IGNORECASE)
_END_OF = {name: re.compile(rf"</{name}\s*+>", re.IGNORECASE) for name in ("script", "style", "template")}
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});", re.IGNORECASE)
_AMPERSANDS = re.compile(r"&(?>(?:(?:amp|#0{0,5}38|#x0{0,4}26);)+)", re.IGNORECASE)


def strip_markup(text: str) -> str:
    """A text without HTML: blocks and breaks become lines, scripts and comments are removed, entities stay as they are.

    Only tags of HTML count: "<3", "a < b" and "<new>" are text.
    """
    if "<" not in text:
        return text
    text = _without(text, "<!--", "-->")
    text = _without_scripts(text.replace("<![CDATA[", "").replace("]]>", "") if "<![CDATA[" in text else text)
    return _parsed(text) if any(map(_is_tag, _OPENING.finditer(text))) else text


def decode_entities(text: str) -> str:
    """A text with HTML's entities as characters, including those escaped several times.

    Only entities that end with a semicolon count: "AT&T" and "R&D" are text.
    """
    if "&" not in text or ";" not in text:
        return text
    return _ENTITY.sub(lambda match: html.unescape(match[0]), _AMPERSANDS.sub("&", text))


def _parsed(text: str) -> str:
    from selectolax.lexbor import LexborHTMLParser

    text = _without_cut_off(text)
    if any(match[1] and match[1].lower() in _BLOCKS for match in _OPENING.finditer(text)):
        text = text.replace("\n", " ")
    # The parser must leave each entity as it is.
    guarded = _OPENING.sub(_guarded, text.replace("&", "&amp;").replace("\x00", ""))
    body = LexborHTMLParser(f"<body>{guarded}").body
    return body.text() if body is not None else ""


def _is_tag(match: re.Match[str]) -> bool:
    """Whether a match is a tag of HTML. Tags of one letter need real attributes: "a <b and c> d" is not markup."""
    name, attributes = match[1], match[2]
    return name is not None and name.lower() in _NAMES and (len(name) > 1 or not attributes or "=" in attributes)


def _guarded(match: re.Match[str]) -> str:
    """A tag, preceded by the line or blank that it stands for; any other "<" escaped so that it stays."""
    if not _is_tag(match):
        return f"&lt;{match[0][1:]}"
    name = match[1].lower()
    return f"\n{match[0]}" if name in _BLOCKS else f" {match[0]}" if name in _CELLS else match[0]


def _without_cut_off(text: str) -> str:
    """A text without a tag at its end that the feed's length limit cut in two."""
    start = text.rfind("<")
    match = _CUT_OFF.fullmatch(text, start) if start >= 0 else None
    if match is None or (match[1] and match[1].lower() not in _NAMES):
        return text
    return text[:start]


def _without(text: str, begin: str, end: str) -> str:
    """A text without the parts between the two marks; a part without an end mark is kept."""
    parts, position = [], 0
    while (start := text.find(begin, position)) >= 0 and (stop := text.find(end, start + len(begin))) >= 0:
        parts.append(text[position:start])
        position = stop + len(end)
    return "".join((*parts, text[position:])) if position else text


def _without_scripts(text: str) -> str:
    parts, position = [], 0
    while opening := _SCRIPT.search(text, position):
        closing = _END_OF[opening[1].lower()].search(text, opening.end())
        if closing is None:
            break
        parts.append(text[position : opening.start()])
        position = closing.end()
    return "".join((*parts, text[position:])) if position else text


# A first byte of UTF-8 and a following one, both read as Windows-1252 or Latin-1; or a control character that results
# only from reading Windows-1252's quotes and dashes as Latin-1.
_SUSPECT = re.compile("[\u00c2-\u00f4][\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|[\u0080-\u009f]")


def is_suspect(text: str) -> bool:
    """Whether a text has traces of decoding with the wrong encoding."""
    return _SUSPECT.search(text) is not None


def fix_mojibake(text: str) -> str:
    """A text as it was before it was decoded with the wrong encoding: "CafÃ©" is "Café".

    Changes only texts that ftfy is certain about: implausible before the change and plausible after it.
    """
    if text.isascii() or not is_suspect(text):
        return text
    from ftfy import fix_encoding
    from ftfy.fixes import fix_c1_controls

    return str(fix_c1_controls(fix_encoding(text)))


_MAX_ROUNDS = 10
# Control characters other than white space, soft hyphen, zero-width and direction marks, lone surrogates.
_INVISIBLE = (
    "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff"
)
# Joiners are used in Persian, Indic and emoji; next to an ASCII letter they are leftovers.
_MAY_DROP = re.compile(f"[{_INVISIBLE}\u200c\u200d]")
_DROPPED = re.compile(f"[{_INVISIBLE}]|(?:(?<=[\x20-\x7e])|^)[\u200c\u200d]+|[\u200c\u200d]+(?=[\x20-\x7e]|$)")
_MARKS = re.compile("[<>&]+")
Steps = tuple[tuple[str, Callable[[str], str]], ...]


def drop_invisible(text: str) -> str:
    """A text without control, zero-width and direction characters, soft hyphens and lone surrogates."""
    return _DROPPED.sub("", text) if _MAY_DROP.search(text) else text


def compose(text: str) -> str:
    """A text in Unicode's composed form: a letter and its accent are one character."""
    return unicodedata.normalize("NFC", text)


def join_lines(text: str) -> str:
    """A text with each run of white space as one space, none at its ends."""
    return " ".join(text.split())


def tidy_lines(text: str) -> str:
    """A text whose lines have no needless white space; blank lines are removed."""
    return "\n".join(filter(None, map(join_lines, text.splitlines())))


def _steps(spaces: Callable[[str], str]) -> Steps:
    return (
        ("mojibake", fix_mojibake),
        ("markup", strip_markup),
        ("entities", decode_entities),
        ("characters", drop_invisible),
        ("composition", compose),
        ("spaces", spaces),
    )


_ONE_LINE, _LINES = _steps(join_lines), _steps(tidy_lines)


def is_plain(text: str, *, lines: bool = False) -> bool:
    """Whether no rule would change a text, which may have several lines only with `lines`: a fast check.

    True is certain; False requires a closer look. An empty text is not plain.
    """
    return all(map(_is_plain_line, text.split("\n"))) if lines else _is_plain_line(text)


def _is_plain_line(line: str) -> bool:
    """Whether one line needs no change.

    Python's non-printable characters include all that a rule drops or treats as white space, and a few more.
    """
    # A blank or nothing at an edge of the line makes two blanks.
    padded = f" {line} "
    if "  " in padded or "<" in padded or not padded.isprintable():
        return False
    if "&" in padded and ";" in padded:
        return False
    return padded.isascii() or (unicodedata.is_normalized("NFC", padded) and not is_suspect(padded))


def clean_text(text: str, changed: set[str], *, lines: bool = False) -> str:
    """The text after all rules, repeated until none changes it; adds the names of the rules that did to `changed`.

    With `lines` it may have several lines, else it becomes one.
    """
    steps = _LINES if lines else _ONE_LINE
    for _ in range(_MAX_ROUNDS):
        before = text
        for name, step in steps:
            after = step(text)
            if after != text:
                changed.add(name)
                text = after
        if text == before or is_plain(text, lines=lines):
            return text
    # Deeply nested markup is not a description, so its marks are removed instead of being parsed forever.
    return clean_text(_MARKS.sub(" ", text), changed, lines=lines)


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
    """Whether a brand, identifier, category or description only says that it is missing: "N/A", "-", "无"."""
    if len(text) > _LONGEST:
        return False
    if text.isascii():
        return text.lower() in _SAYS_NOTHING or not (text[:1].isalnum() or _LETTER_OR_DIGIT.search(text))
    folded = fold_value(text)
    return folded in _SAYS_NOTHING or not any(map(str.isalnum, folded))


# The unit in the attribute's name, and the units converted to it, named as in shelfwise.retrieval.text.units, each with
# its factor (NIST Handbook 44, appendix C; US customary volumes). Horsepower (metric or mechanical), gauges and packs
# have no single factor.
_FACTORS = {
    "mm": {"in": 25.4, "ft": 304.8, "yd": 914.4, "mm": 1.0, "cm": 10.0, "m": 1e3, "km": 1e6},
    "m2": {"sqft": 0.09290304, "sqin": 0.00064516, "sqm": 1.0},
    "ml": {
        "gal": 3785.411784,
        "qt": 946.352946,
        "pt": 473.176473,
        "floz": 29.5735295625,
        "l": 1e3,
        "ml": 1.0,
        "cl": 10.0,
        "cuft": 28316.846592,
        "cuin": 16.387064,
    },
    "g": {"oz": 28.349523125, "lb": 453.59237, "kg": 1e3, "g": 1.0, "mg": 1e-3},
    "v": {"v": 1.0, "kv": 1e3},
    "w": {"w": 1.0, "kw": 1e3},
    "wh": {"wh": 1.0, "kwh": 1e3},
    "mah": {"mah": 1.0, "ah": 1e3},
    "a": {"a": 1.0, "ma": 1e-3},
    "hz": {"hz": 1.0, "khz": 1e3, "mhz": 1e6, "ghz": 1e9},
    "gb": {"kb": 1e-6, "mb": 1e-3, "gb": 1.0, "tb": 1e3},
    **{unit: {unit: 1.0} for unit in ("psi", "rpm", "lm", "db", "mp")},
}
_BASES = {unit: (base, factor) for base, factors in _FACTORS.items() for unit, factor in factors.items()}
"""The unit to which each unit is converted, and the factor."""
_QUANTITY = re.compile(QUANTITIES)
_SHAPE = re.compile(
    r"(?P<number>[0-9]+(?:[.,][0-9]+)?|[0-9 -]*[0-9]+/[0-9]+)(?P<unit>\s?[^\W\d_].{0,24}|\s?[\"'′″]{1,2})"
)
# "1.500 kg" is one and a half in one country and one and a half thousand in another.
_AMBIGUOUS = re.compile(r"[1-9][0-9]{0,2}[.,][0-9]{3}")
# "5 G" and "5g" are networks and "100 Mb" counts bits.
_OTHER_UNIT = re.compile(r"\s?(?:[GM]|[KMGTkmgt]b)\.?")
_NETWORK = re.compile("[2-6]g")
_LONGEST_QUANTITY = 40


@lru_cache(maxsize=1 << 16)
def parse_quantity(text: str) -> tuple[str, float] | None:
    """The unit and the number of a text that is one quantity ("16 GB": gb, 16); None for any other.

    It never guesses: ranges, dimensions, ambiguous units and numbers that can be read in two ways are None.
    """
    shape = _SHAPE.fullmatch(text) if len(text) <= _LONGEST_QUANTITY else None
    if shape is None or _AMBIGUOUS.fullmatch(shape["number"]):
        return None
    if _OTHER_UNIT.fullmatch(shape["unit"]) or _NETWORK.fullmatch(text):
        return None
    spelled = fold(shape["number"].replace(",", ".") + shape["unit"])
    if not _QUANTITY.fullmatch(spelled):
        return None
    amounts = quantities(spelled)
    base = _BASES.get(amounts[0].unit) if len(amounts) == 1 else None
    if base is None:
        return None
    unit, factor = base
    return unit, float(f"{float(amounts[0].number) * factor:.12g}")
