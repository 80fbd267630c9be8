"""Files of answer texts: an FAQ or tickets as JSON lines or CSV, and manuals as plain text, Markdown or HTML.

Markup is removed, and e-mail addresses, phone, card and IP numbers are masked. Names of people are masked where the
form of a letter shows them: after a greeting, below a closing, and where writers introduce themselves.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from shelfwise.indexer.cleaning.text import clean_text, join_lines
from shelfwise.retrieval.errors import FaqError
from shelfwise.retrieval.events.privacy import Masker
from shelfwise.retrieval.text.analysis import HAN
from shelfwise.retrieval.updates.validation import decode_json, read_text
from shelfwise.service.answers.facts import sentences_of
from shelfwise.service.answers.faq import MAX_ANSWER, MAX_QUESTION, FaqEntry, FaqStore, entry_id

_LONGEST_LINE = 200_000
_PASSAGE = 1_000
"""Maximum length in characters of a passage of a manual, unless a single sentence is longer."""
FAQ_SUFFIXES = (".jsonl", ".csv", ".txt", ".md", ".html")
_NAMES: Mapping[str, tuple[str, ...]] = {
    "id": ("id",),
    "question": ("question", "title", "subject"),
    "answer": ("answer", "text", "body"),
    "products": ("products", "product_ids", "product_id"),
    "product_type": ("product_type",),
    "source": ("source",),
}
"""Fields of entries, and their possible names in files."""


@dataclass(frozen=True, slots=True)
class RejectedLine:
    """A line or row that cannot be converted to an entry."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class FaqFile:
    """The entries of a file, and its rejected lines."""

    entries: tuple[FaqEntry, ...]
    rejected: tuple[RejectedLine, ...]
    masked: int
    """Number of entries in which personal data other than names was masked."""
    named: int
    """Number of entries in which names of people were masked."""


def read_faq(path: Path, masker: Masker, *, products: Sequence[str] = (), source: str = "") -> FaqFile:
    """Reads the entries of a file; `products` are the products that all of them are about. A row without an id gets one
    from its text. If an id occurs twice, the last row counts.

    Raises FaqError if the file cannot be read, has an unknown format, is too large or contains no entry.
    """
    if path.suffix not in FAQ_SUFFIXES:
        raise FaqError(f"{path} has an unknown format; its name must end in {', '.join(FAQ_SUFFIXES)}", field="file")
    text = read_text(path, partial(FaqError, field="file"))
    entries: dict[str, FaqEntry] = {}
    rejected: list[RejectedLine] = []
    masked = named = 0
    for line, row in _rows(path, text):
        try:
            entry, is_masked, has_names = _entry(row, masker, products, source or path.stem)
        except FaqError as error:
            rejected.append(RejectedLine(line, str(error)))
        else:
            entries[entry.id] = entry
            masked += is_masked
            named += has_names
    if not entries:
        first = f": line {rejected[0].line}: {rejected[0].reason}" if rejected else ""
        raise FaqError(f"{path} has no valid entry{first}", field="file")
    return FaqFile(tuple(entries.values()), tuple(rejected), masked, named)


def _rows(path: Path, text: str) -> Iterator[tuple[int, object]]:
    """The rows of a file with their line numbers, from 1; a row that cannot be read is returned as a FaqError."""
    if path.suffix == ".jsonl":
        for line, each in enumerate(text.split("\n"), 1):
            if each.strip():
                yield line, _json(each)
    elif path.suffix == ".csv":
        yield from _table(text)
    else:
        yield from ((line, {"answer": passage}) for line, passage in _passages(text))


def _json(line: str) -> object:
    if len(line) > _LONGEST_LINE:
        return FaqError(f"has {len(line):,} characters, at most {_LONGEST_LINE:,} are allowed")
    try:
        return decode_json(line)
    except ValueError as error:
        return FaqError(str(error))


def _table(text: str) -> Iterator[tuple[int, object]]:
    reader = csv.DictReader(text.splitlines(keepends=True), strict=True)
    line = 1
    while True:
        try:
            if not set(_NAMES["answer"]) & set(reader.fieldnames or _NAMES["answer"]):
                columns = ", ".join(map(repr, reader.fieldnames or ()))[:200]
                yield 1, FaqError(f"the columns are {columns}; one must be answer, text or body, separated by commas")
                return
            line = reader.line_num + 1
            row = next(reader, None)
        except csv.Error as error:
            yield line, FaqError(f"is not valid CSV ({error}); it and all lines after it are skipped")
            return
        if row is None:
            return
        yield reader.line_num, {name: value for name, value in row.items() if name and value}


def _passages(text: str) -> Iterator[tuple[int, str]]:
    """The paragraphs of a manual with the line on which each begins; long paragraphs are split between sentences."""
    line = 1
    for block in re.split(r"(\n\s*\n)", text):
        part = ""
        for sentence in sentences_of(clean_text(block, set(), lines=True)) if block.strip() else ():
            if part and len(part) + len(sentence) > _PASSAGE:
                yield line, part
                part = ""
            part = f"{part} {sentence}".strip()
        if part:
            yield line, part
        line += block.count("\n")


def _entry(row: object, masker: Masker, products: Sequence[str], source: str) -> tuple[FaqEntry, bool, bool]:
    """The entry of a row, whether personal data was masked in it, and whether names of people were."""
    if isinstance(row, FaqError):
        raise row
    if not isinstance(row, Mapping):
        raise FaqError(f"is {type(row).__name__}, it must be an object with question and answer")
    values = {field: next((row[name] for name in names if row.get(name)), "") for field, names in _NAMES.items()}
    if not isinstance(values["id"], str | int):
        raise FaqError(f"id is {type(values['id']).__name__}, it must be text or a number", field="id")
    for name in ("question", "answer", "product_type", "source"):
        if not isinstance(values[name], str):
            raise FaqError(f"{name} is {type(values[name]).__name__}, it must be text", field=name)
    by_lines = [clean_text(values[name], set(), lines=True) for name in ("question", "answer")]
    nameless = list(map(mask_names, by_lines))
    question, answer = map(join_lines, nameless)
    for name, text, most in (("question", question, MAX_QUESTION), ("answer", answer, MAX_ANSWER)):
        if len(text) > most:
            raise FaqError(f"{name} has {len(text):,} characters, at most {most:,} are allowed", field=name)
    if not answer:
        raise FaqError("answer is missing or empty", field="answer")
    hidden_question, hidden_answer = masker.mask(question), masker.mask(answer)
    own_id = str(values["id"]) or entry_id(question, answer)
    entry = FaqEntry(
        own_id,
        hidden_answer,
        hidden_question,
        tuple(products) or _names(values["products"]),
        clean_text(values["product_type"], set()),
        values["source"] or source,
    )
    return FaqStore.kind.validate(entry), (hidden_question, hidden_answer) != (question, answer), nameless != by_lines


# Names are recognised by their position in a letter: a list of names would also contain brands and words.
_CAPITAL = "A-Z\u00c0-\u00d6\u00d8-\u00de\u0100-\u017f\u0386-\u03ab\u0410-\u042f"
_LETTERS = r"[^\W\d_]"
_PROPER = rf"(?-i:[{_CAPITAL}])(?:{_LETTERS}|['’-])*\.?"
_PERSON = rf"(?:(?:mr|mrs|ms|miss|dr|prof|herrn?|frau)\b\.?[ ]+)*{_PROPER}(?:[ ]{_PROPER}){{0,3}}"
_NOBODY = (
    r"(?:there|all|both|again|everyone|everybody|team|folks|guys|friends?|sir|madam|customers?|support|shoppers?|staff"
    r"|service|question|damen|herren|kunden?|kundin|world)\b"
)
_SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗高郑梁谢宋唐许韩冯邓曹彭曾肖田董潘袁蔡蒋余于杜叶程魏苏吕丁任卢姚沈钟姜崔谭陆范汪廖"
    "石金韦贾夏付方邹熊白孟秦邱侯江尹薛闫段雷龙黎史陶贺毛郝顾龚邵万覃武钱戴严莫孔向常汤"
)
_NAMES_OF_PEOPLE = re.compile(
    rf"""
    ^(?P<greeting>(?:hi|hello|hey|dear|good\ (?:morning|afternoon|evening|day)|hallo|liebe[rs]?|sehr\ geehrte[rs]?)[ ])
        (?!{_NOBODY})(?:{_PERSON}|{_LETTERS}+)(?=[ ]*(?:[,!:;.\n–—-]|$))
    |(?P<closing>(?:\b(?:regards|wishes|sincerely|truly|faithfully|cordially|grüßen|grüsse|grüße)[,.!]?\s+
        |(?:^|(?<=[.!?]\s))(?:many\ )?(?:thanks|thank\ you|thx|cheers|love)(?:[ ](?:again|in\ advance))?[,.!]?
        \s*[,\n]\s*))
        (?!{_NOBODY}){_PERSON}(?=[ ]*(?:[,.|\n(–—-]|$))
    |(?P<naming>\bmy\ name\ is[ ]|\bich\ heiße[ ]){_PERSON}
    |(?P<hailing>(?:您好|你好|尊敬的|亲爱的|嗨)[\s,，:：!！、]*)(?:(?<=[好的嗨])[{_SURNAMES}][{HAN}]{{0,2}}?|[{_SURNAMES}])
        (?=先生|女士|小姐|太太|老师|经理)
    |(?P<dear>尊敬的|亲爱的)(?!客户|顾客|用户|朋友|会员|买家|亲|各位)[{HAN}]{{2,4}}(?=[，,：:！!\n])
    |(?P<calling>我叫|客服(?:专员|人员)?[:：]?\s?(?=小))[{HAN}]{{2,3}}(?=[，,。！!；;\s]|$)
    |(?P<below>(?:祝好|此致\s*敬礼|顺颂商祺)[!！。，,]?\s+)[{HAN}]{{2,4}}(?=\s|$)
    """,
    re.VERBOSE | re.MULTILINE | re.IGNORECASE,
)


def mask_names(text: str) -> str:
    """Replaces with [name] the names that the form of a letter shows: "Hi Anna,", "Best regards, John Smith", "my name
    is Ann Lee", "您好张先生", "我叫李雷". Other names stay."""
    return _NAMES_OF_PEOPLE.sub(lambda found: f"{found[str(found.lastgroup)]}[name]", text)


def _names(value: object) -> tuple[str, ...]:
    """Product ids: a list, or text with semicolons or commas between."""
    parts = value if isinstance(value, list) else re.split("[;,]", value) if isinstance(value, str) else [value]
    if wrong := [each for each in parts if not isinstance(each, str | int)]:
        raise FaqError(f"products has {type(wrong[0]).__name__}, it must contain texts or numbers", field="products")
    return tuple(dict.fromkeys(each for part in parts if (each := str(part).strip())))
