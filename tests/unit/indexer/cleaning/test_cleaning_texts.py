"""Cleaning of one text: each rule alone, and all of them until the text no longer changes."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shelfwise.indexer.cleaning.text import (
    clean_text,
    decode_entities,
    drop_invisible,
    fix_mojibake,
    is_plain,
    join_lines,
    strip_markup,
    tidy_lines,
)

_PIECE_LIST = (
    "<b>|</b>|<br>|<p|>|<|&|amp;|lt;|&lt;|&#60;|&nbsp;|a| |\n|<!--|-->|<script>|</script>|\u200b|\u200d|é|Ã©|Ã|©|\x85|"
    "\u3000|“|e\u0301|中|=\"|'|/"
)
PIECES = st.sampled_from(_PIECE_LIST.split("|"))
texts = st.one_of(st.lists(PIECES, max_size=14).map("".join), st.text(max_size=30))


@pytest.mark.parametrize(
    "text", ["I <3 you", "a < b", "5 <6", "a <b and c> d", "use <new> here", "<>", "AT&T", "R&D; more", "x <y@z.org>"]
)
def test_text_similar_to_markup_is_kept(text: str) -> None:
    assert decode_entities(strip_markup(text)) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one<br>two<br/>three", "one\ntwo\nthree"),
        ("<ul>\n  <li>one</li>\n  <li>two</li>\n</ul>", "one\ntwo"),
        ('<a href="http://x.example/?a=1&b=2" title="a > b">link</a>!', "link!"),
        ("a<style>p {color: red}</style>b<script>if (a < b) {}</script>c", "abc"),
        ("a<!-- <b> -->b", "ab"),
        ("<![CDATA[<p>inside</p>]]>", "inside"),
        ("<td>1</td><td>2</td>", "1 2"),
        ("<p>width < 5 and <new></p>", "width < 5 and <new>"),
        ("<p>cut off</p> in a <a href='http", "cut off\nin a"),
        ("<p>Tom &amp; Jerry</p>", "Tom & Jerry"),
        ("&lt;p&gt;twice&lt;/p&gt;", "twice"),
        ("<o:p></o:p>Word", "Word"),
        ("How to use <script> well", "How to use <script> well"),
        ("an open <!-- comment", "an open <!-- comment"),
    ],
)
def test_markup_is_removed_and_line_breaks_are_kept(text: str, expected: str) -> None:
    assert clean_text(text, set(), lines=True) == expected


@pytest.mark.parametrize(
    ("rule", "text", "expected"),
    [
        (decode_entities, "5 &#8364; &#x20AC;", "5 € €"),
        (decode_entities, "&amp;amp;amp;lt;", "<"),
        (decode_entities, "A&regular", "A&regular"),
        (decode_entities, "&unknown;", "&unknown;"),
        (fix_mojibake, "MÃ¼ller GroÃŸ", "Müller Groß"),
        (fix_mojibake, "schÃ¶n â€“ gut", "schön – gut"),
        (fix_mojibake, "ä¸\xadå›½", "中国"),
        (fix_mojibake, "\x93quoted\x94", "“quoted”"),
        (drop_invisible, "a\u200bb\x00c\ufeff\u200ed\u00ade\ud800", "abcde"),
        (drop_invisible, "می\u200cخواهم", "می\u200cخواهم"),
        (drop_invisible, "x\u200cy", "xy"),
        (join_lines, " a\u00a0 b\n\tc\u3000", "a b c"),
        (tidy_lines, " a  b \r\n\r\n c\u2028d\v", "a b\nc\nd"),
    ],
)
def test_each_rule_separately(rule: Callable[[str], str], text: str, expected: str) -> None:
    assert rule(text) == expected


@pytest.mark.parametrize(
    "text", ["LANCÔME® “x”", "CAFÉ™", "Ã", "Škoda®", "naïve façade", "20°C", "São Paulo", "Ångström…"]
)
def test_intended_text_is_not_repaired(text: str) -> None:
    assert fix_mojibake(text) == text


@given(text=texts)
def test_a_clean_text_is_composed_tidy_and_writable(text: str) -> None:
    cleaned = clean_text(text, set())
    assert cleaned == unicodedata.normalize("NFC", cleaned) == " ".join(cleaned.split())
    cleaned.encode()


@given(text=texts, lines=st.booleans())
def test_plain_text_is_changed_by_no_rule(text: str, lines: bool) -> None:
    if is_plain(text, lines=lines):
        assert clean_text(text, set(), lines=lines) == text


def test_multiline_text_is_plain_where_lines_are_allowed() -> None:
    assert is_plain("one\ntwo", lines=True)
    assert not is_plain("one\ntwo")
    assert not is_plain("one\n\ntwo", lines=True)
    assert not is_plain("", lines=True)


def test_deeply_nested_markup_is_removed() -> None:
    nested = "<" * 40 + "<b></b>" + "b></b>" * 40
    cleaned = clean_text(nested, set())
    assert "<" not in cleaned
    assert clean_text(cleaned, set()) == cleaned


HOSTILE = '<a |<a "|<!--|<script>|&amp;|&#|<a href=|</|<b></b>|<br|\u200d|Ã©|<p a=b | | \n'


@pytest.mark.parametrize("piece", HOSTILE.split("|"))
def test_long_hostile_text_is_cleaned(piece: str) -> None:
    cleaned = clean_text(piece * (200_000 // len(piece)), set(), lines=True)
    assert clean_text(cleaned, set(), lines=True) == cleaned
