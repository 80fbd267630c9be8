"""The pages' words: each that is used is there, in both languages."""

from __future__ import annotations

import re

from service.http.routes.pages import page_files

_ENTRY = re.compile(r'^  "([^"]+)": "((?:[^"\\]|\\.)*)",$', re.MULTILINE)
_USED = re.compile(r"""\bt\("([^"]+)"|data-(?:word|label|hint)="([^"]+)\"""")


def words(language: str) -> dict[str, str]:
    return dict(_ENTRY.findall(page_files()[f"words-{language}.js"].content.decode()))


def test_both_languages_have_the_same_words() -> None:
    english, chinese = words("en"), words("zh")
    needed = {name for name in english if not name.startswith("field.") and not name.endswith(".one")}
    assert needed <= set(chinese)
    assert {name for name in chinese if not name.startswith("field.")} <= set(english)


def test_what_stands_in_the_words_is_the_same_in_both() -> None:
    english, chinese = words("en"), words("zh")
    for name, text in chinese.items():
        if name in english:
            assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", english[name])), name


def test_every_word_that_the_store_page_uses_is_there() -> None:
    english = words("en")
    scripts = {name: file.content.decode() for name, file in page_files().items() if not name.startswith("admin")}
    used = {one or other for text in scripts.values() for one, other in _USED.findall(text)}
    assert len(used) > 50
    assert used <= set(english)
