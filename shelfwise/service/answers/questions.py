"""Questions of shoppers: whether a text is a question, in English or Chinese, and which words of it matter."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import msgspec

from shelfwise.indexer.cleaning.text import parse_quantity
from shelfwise.retrieval.text.analysis import HAN, chinese_words, contains_chinese, fold, word_term
from shelfwise.retrieval.text.units import QUANTITIES, quantities

MAX_CHARACTERS = 1_000
"""Maximum length of a question."""
_MAX_WORDS = 60

_TOKEN = re.compile(rf"[a-z0-9][a-z0-9.'/-]*|[{HAN}]+")
_GREETINGS = r"(?:hi|hello|hey|please|ok|okay|so|and|but|well|question|quick question)\b[\s,:!.]*"
_GREETING = re.compile(rf"^(?:{_GREETINGS})+")
_LEAD = re.compile(
    rf"^(?:{_GREETINGS}|"
    r"(?:can|could|would) you (?:please )?(?:tell me|say)(?: if| whether)?\s|i(?:'d| would)? (?:want|like) to know"
    r"(?: if| whether)?\s|would you say\s|do you know(?: if| whether)?\s|tell me(?: if| whether)?\s|"
    r"请问(?:一下)?|你好|想问(?:一下|下)?|问一下)+"
)
_THING = r"(?:it|this|that|these|those|they|the|there|one|any|you|we|i|my|a|an|its|anyone|someone)"
_BE = r"(?:is|are|was|were|do|does|did|can|could|will|would|should|has|have|'s|'re)"
_ENGLISH = re.compile(
    rf"""
    what(?:(?:'s|\ is|\ are|\ does|\ do|\ did|\ was|\ can|\ will|\ would|\ should)\b|(?:\ \S+){{1,3}}\ {_BE}\b)
    |which(?:\ \S+){{0,3}}\ {_BE}\b|(?:what|which)(?:\ \S+){{1,3}}\ (?:fits?|works?|goes|comes?|belongs?|uses?)\b
    |who(?:'s|\ (?:is|are|makes|made|manufactures|produces|sells|designed|founded|can|should))\b
    |whose\ \S+\ {_BE}\b|(?:where|when|why)(?:'s|\ {_BE})\b
    |how\ (?:much|many|long|big|wide|tall|heavy|deep|large|often|high|thick|fast|loud|noisy|far|old|hot|cold|strong
       |bright|powerful|small|hard|good|well|soon|thin|narrow|sharp|sturdy|accurate|warm|quiet|expensive|cheap)\b
    |how\ (?:is|are|was)\b|how\ (?:do|does|can|could|should|will|would)\ (?!-)
    |(?:is|are|does)\ (?:\S+\ ){{1,}}\S+
    |do\ (?!(?:it|this|that|a|an|one)\b){_THING}\b|(?:did|can|could|will|would|should|has|have|was|may|must)\ {_THING}\b
    """,
    re.VERBOSE,
)
_YES_NO = re.compile(
    rf"(?:is|are|do|does|did|can|could|will|would|should|has|have|was|may|must)\s|.*\b(?:is|are|does|do)\s{_THING}\b"
)
_WORK = re.compile(
    r"\b(?:dvd|blu-?ray|cd|book|novel|movie|film|soundtrack|album|poster|paperback|hardcover|vinyl|lyrics|game|t-?shirt)s?$"
)
"""Endings of searches for works whose titles read like questions."""
_CHINESE = re.compile(
    r"[吗嘛么?]$|[吗呢]|什么|多少|多大|多重|多长|多高|多宽|多厚|多深|多久|几[个只片寸年岁码天升瓦伏人层档种支根孔块台件次]"
    r"|能不能|能否|是不是|是否|有没有|可不可以|可以.*吗|会不会|可否|怎么样|怎么[用洗装开清保]|如何|哪[个里种款些儿国家年]"
    r"|为什么|为何|是谁|谁[做设制]|何时|(.)不\1|还有没有"
)
_CHINESE_YES_NO = re.compile(
    r"吗|能不能|能否|是不是|是否|有没有|可不可以|会不会|可否|(.)不\1|没有$|[不没]$|(?<![什怎那这])么$"
)
_AT_END = re.compile(
    r"\S+ .*\b(?:how (?:many \S+|heavy|long|tall|wide|deep|thick|big|much)|what (?:size|colou?r))"
    r"(?: (?:is|are|does|do) (?:it|they|this|that)(?: \S+)?)?|[^不]+(?<![绝决可])不"
)
"""A product and then what is asked of it: "steel pan how heavy", 这款防水不."""
_ADVICE = re.compile(
    r"(?!.*\b(?:it|this|that|these)\b|.*[这该])"
    r"(?:.*\bgifts? for\b|what (?:to|should i|can i) (?:get|buy|give)\b|which\b|哪[种款个]"
    r"|.*什么.{0,6}好$|.*[穿玩买送吃]什么$)"
)
"""A question for advice, which hits answer if no text does: "what to get a child", 油皮用什么洗面奶好."""
_FOLLOWS_UP = re.compile(r"(?:and|but|what about|how about|what of)\b.{1,80}")
"""A follow-up to a question that is no question on its own: "and the color"."""
_STORE = "(?:你们|你家|贵店|本店|店里|这里)?店?[还也]?"
_STOCK = "(?:现?货|库存)"
_OFFER = re.compile(
    r"(?:(?:do|does) (?:you|(?:the|this|your) (?:store|shop))(?: guys| still| also)* (?:sell|have|carry|stock|offer)"
    r"|(?:have you )?got any|have you got|(?:are|is) there(?: an?)?|can i buy|where (?:can|do) i (?:buy|find))"
    r"(?: any| some)? (?P<thing>.+?)"
    r"(?: here)?"
    rf"|{_STORE}(?:(?:有没有卖?|卖不卖)(?!{_STOCK})(?P<which>.+?)卖?[吗么嘛呢]?|(?:有卖|有售|出售|卖|有)(?!{_STOCK})(?P<what>.+?)[吗么嘛])"
    rf"|{_STORE}(?P<named>.+?)(?:有没有卖?|有卖|卖不卖|有)[吗么嘛呢]?"
)
_PRONOUN = re.compile(r"\b(?:it|this|that|these|those|they|them|its|this one)\b|它|这个|这款|这件|这台|这种|该")


@dataclass(frozen=True, slots=True)
class Bound:
    """A quantity to compare with: "less than 2 lb"."""

    operator: str
    """"<", ">" or "="."""
    number: float
    """Number in the base unit, or as written if there is no unit."""
    unit: str
    """Base unit, as in `parse_quantity`; empty if there is none."""
    text: str
    currencies: tuple[str, ...] = ()
    """Possible currencies of an amount of money; empty for other quantities."""


@dataclass(frozen=True, slots=True)
class Word:
    """A meaningful word or phrase of a question."""

    text: str
    terms: frozenset[str]
    """Stem and synonyms; a field or sentence matches if it has any of them."""
    is_concept: bool = False
    """Whether it is a usual way to ask for a field ("how heavy")."""
    value_terms: frozenset[str] = frozenset()
    """Stems of a value that it names in addition to the field: "red" names a colour."""


@dataclass(frozen=True, slots=True)
class Superlative:
    """A superlative in a question, such as "cheapest"."""

    word: Word
    """The field by which they are compared."""
    is_most: bool
    """Whether it asks for the highest value, else for the lowest."""


@dataclass(frozen=True, slots=True)
class Question:
    """A parsed question."""

    text: str
    folded: str
    is_whether: bool
    """Whether it asks if something holds ("is it waterproof") instead of for a value or a text ("how heavy is it")."""
    words: tuple[Word, ...]
    bound: Bound | None
    is_chinese: bool
    unit: str
    """Base unit of the quantity that it asks for ("how many volts"); empty if it names none."""
    counted: str
    """The word for what it counts: "volts"; empty if it counts nothing."""
    refers: bool
    """Whether it refers to a product without naming it: "it"."""
    is_offer: bool = False
    """Whether it asks if the store has something: "do you sell drills". Its words then describe that product."""
    comparative: Word | None = None
    """The field that a comparison alone names: "heavier than 5 kg" asks for the weight."""
    superlative: Superlative | None = None


def is_follow_up(text: str) -> bool:
    """Whether a text that comes after a question reads as one more: "and the color?"."""
    folded = _folded(text)
    return folded.endswith("?") or _FOLLOWS_UP.fullmatch(folded) is not None


def _folded(text: str) -> str:
    """A text on one line, folded; some characters become several, which count, too."""
    folded = " ".join(fold(text[:MAX_CHARACTERS])[:MAX_CHARACTERS].split())
    return _CARELESS.sub(lambda found: _SPELLED[found[0]], folded)


_SPELLED = {f"{word}s": f"{word}'s" for word in ("what", "where", "how", "who", "that")}
_SPELLED |= {f"{word}nt": f"{word}n't" for word in ("is", "are", "do", "does", "did", "ca", "wo", "has", "have")}
_SPELLED |= {"u": "you", "r": "are", "ur": "your", "thru": "through", "pls": "please", "plz": "please"}
_CARELESS = re.compile(rf"(?<![\w.'-])(?:{'|'.join(_SPELLED)})(?![\w.'-])")


def is_question(text: str) -> bool:
    """Whether a text reads as a question, not a search; the title of a work that reads like one is a search."""
    folded = _folded(text)
    has_mark = folded.endswith("?")
    folded = folded.rstrip("?!. ")
    bare = _LEAD.sub("", folded)
    is_chinese = contains_chinese(bare)
    if is_chinese and (_CHINESE.search(bare) or _AT_END.fullmatch(bare) or (has_mark and len(bare) > 2)):
        return True
    words = bare.split()
    if len(words) < 2:
        return False
    # "Hello kitty" greets nobody.
    if _GREETING.sub("", folded) != bare:
        return True
    if has_mark:
        return len(words) > 2 or bool(_ENGLISH.match(bare))
    if _WORK.search(bare) or len(words) < 3:
        return False
    if _AT_END.fullmatch(bare):
        return True
    if words[0] in ("do", "can", "will") and words[1] in ("the", "a", "you", "one") and len(words) < 5:
        return False
    return bool(_ENGLISH.match(bare))


def is_advice(text: str) -> bool:
    """Whether a text asks what to buy, without a product in mind: "a gift for cat lovers"."""
    return _ADVICE.match(_folded(text)) is not None


def named_fields(text: str, *, by_value: bool = False) -> frozenset[str]:
    """The stems of the fields that a text names ("weight of the hammer") or of which it has a value ("red pan")."""
    concepts = _read_concepts()
    found = (concepts.terms[number] for number, _ in _concepts(fold(text)) if concepts.are_values[number] == by_value)
    return frozenset[str]().union(*found)


def searched_words(text: str) -> str:
    """The words of a question to search for, without question words."""
    folded = _folded(text)
    bare = _LEAD.sub("", folded.rstrip("?!. ")).strip()
    offer = _OFFER.fullmatch(bare)
    _, bare = _superlative_of(_PRICE_PHRASE.sub(" ", offer[str(offer.lastgroup)] if offer else bare))

    def kept(found: re.Match[str]) -> str:
        return " ".join(word for word in split_words(found[0]) if not _is_stop(word, word_term(word)))

    return " ".join(_TOKEN.sub(kept, bare).split()) or text


_PRICE_PHRASE = re.compile(r"\bcosts?\b|多少钱|[的]?(?:价格|价钱|售价)")


def load_questions() -> None:
    """Loads in advance what the first question needs: units, concepts, the Chinese dictionary."""
    parse_question("is it 1 kg")
    parse_question("它防水吗")
    quantities_in("1 kg")


def parse_question(text: str) -> Question:
    """The words of a question; any text can be parsed as one."""
    folded = _folded(text)
    bare = _with_numbers(_LEAD.sub("", folded.rstrip("?!. ")).strip())
    is_chinese = contains_chinese(bare)
    if is_chinese:
        is_whether = _CHINESE_YES_NO.search(bare) is not None
    else:
        is_open = re.match(
            r"(?:what|which|who|whose|where|when|why|how|for what|from what|at (?:what|which|how))\b", bare
        )
        # "Brushless motor?" asks whether, "battery life" for a value.
        is_whether = not is_open and (_YES_NO.match(bare) is not None or folded.endswith("?"))
    offer = _OFFER.fullmatch(bare)
    bound, rest, comparison = _bound_of(offer[str(offer.lastgroup)] if offer else bare)
    superlative, rest = _superlative_of(rest)
    words = tuple(_words_of(rest))[:_MAX_WORDS]
    comparative = next((each for each in _words_of(comparison) if each.is_concept), None)
    how_many = _HOW_MANY.search(bare)
    counted = how_many[1] or how_many[2] if how_many else ""
    return Question(
        text=text,
        folded=folded,
        is_whether=is_whether,
        words=words,
        bound=bound,
        is_chinese=is_chinese,
        unit=unit_of(counted) if counted else "",
        counted=counted,
        refers=bool(_PRONOUN.search(bare)),
        is_offer=offer is not None,
        comparative=comparative,
        superlative=superlative,
    )


_HALF = re.compile(r"\bhalf (?:an? )?(?=[a-z]+)|\ba half (?=[a-z]+)")
_ONE = re.compile(r"(?<=[nrto] )an? (?=[a-z]+)")
_NUMBER_WORDS = {"one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7"}
_NUMBER_WORDS |= {"eight": "8", "nine": "9", "ten": "10", "twelve": "12"}
_NUMBER_WORD = re.compile(rf"\b({'|'.join(_NUMBER_WORDS)})(?: |-)(?=[a-z]+)")
_LITRES = re.compile(r"(?<=\d)\s?升(?!级)")


def _with_numbers(bare: str) -> str:
    """A question with digits for the numbers of its quantities: "half a liter", "two pounds", "more than a pint"."""
    bare = _LITRES.sub(" l", bare)
    for pattern, number in ((_HALF, "0.5"), (_ONE, "1"), (_NUMBER_WORD, "")):
        for found in reversed(list(pattern.finditer(bare))):
            spelled = number or _NUMBER_WORDS[found[1]]
            unit = re.match("(?:fl |sq )?[a-z]+", bare[found.end() :])
            if unit and parse_quantity(f"{spelled} {unit[0]}"):
                bare = f"{bare[: found.start()]}{spelled} {bare[found.end() :]}"
    return bare


_SUPERLATIVES = (
    (r"cheapest|least expensive|lowest[- ]priced?|最便宜|最低价|价格最低", "price", False),
    (r"most expensive|dearest|最贵", "price", True),
    (r"(?:best|highest|top)[- ]rated|评分最高|评价最好", "rating", True),
    (r"lightest|最轻", "weight", False),
    (r"heaviest|最重", "weight", True),
    (r"longest|最长", "length", True),
    (r"shortest|最短", "length", False),
    (r"tallest|最高(?!价)", "height", True),
    (r"widest|最宽", "width", True),
    (r"most powerful|strongest|功率最大", "power", True),
    (r"brightest|最亮", "brightness", True),
    (r"quietest|最静音|最安静", "noise", False),
    (r"(?:biggest|largest|highest) capacity|容量最大", "capacity", True),
    (r"容量最小", "capacity", False),
)
"""Superlatives: pattern, usual name of the field, and whether it asks for the highest value."""
_SUPERLATIVE = re.compile("|".join(f"(?P<s{at}>{phrases})" for at, (phrases, _, _) in enumerate(_SUPERLATIVES)))


def _superlative_of(text: str) -> tuple[Superlative | None, str]:
    """The superlative of a question, and the question without it."""
    found = _SUPERLATIVE.search(text)
    if found is None:
        return None, text
    _, name, is_most = _SUPERLATIVES[int(str(found.lastgroup)[1:])]
    word = Word(found[0], concept_terms(name), is_concept=True)
    return Superlative(word, is_most), f"{text[: found.start()]} {text[found.end() :]}"


_HOW_MANY = re.compile(r"\bhow many ((?:fl |sq )?[a-z]+)|(?:多少|几)([^的是]{1,3})")


_CHINESE_UNITS = {"克": "g", "瓦": "w", "伏": "v", "升": "l", "米": "m", "寸": "in", "安": "a"}


def unit_of(word: str) -> str:
    """The base unit that a word names; empty if it names none."""
    parsed = parse_quantity(f"1 {_CHINESE_UNITS.get(word, word)}")
    return parsed[0] if parsed else ""


@lru_cache(maxsize=2**13)
def content_terms(text: str) -> tuple[str, ...]:
    """The terms of a text in order, without stop words."""
    return tuple(term for word in split_words(fold(text)) for term in (word_term(word),) if not _is_stop(word, term))


def split_words(folded: str) -> Iterator[str]:
    """The words of a folded text; Chinese is segmented."""
    for found in _TOKEN.findall(folded):
        if contains_chinese(found):
            yield from chinese_words(found)
            continue
        word = found.rstrip(".'/-").removesuffix("'s")
        if re.fullmatch(r"[a-z]+(?:[/-][a-z]+)+", word):
            yield from re.split("[/-]", word)
        elif word:
            yield word


def _is_stop(word: str, term: str) -> bool:
    return term in _read_concepts().stop_words or word in _read_concepts().stop_words


class _Concept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A usual way to ask for a field."""

    words: str
    phrases: tuple[str, ...]
    values: bool = False
    chinese: str = ""
    """The name of the field for Chinese shoppers."""


class _ConceptFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    english_stop: str
    chinese_stop: str
    neutral: str
    same: tuple[tuple[str, ...], ...]
    concepts: tuple[_Concept, ...]


@dataclass(frozen=True, slots=True)
class _Concepts:
    """The concepts of concepts.toml, compiled to one pattern with a group for each."""

    pattern: re.Pattern[str]
    terms: tuple[frozenset[str], ...]
    """Stems of the fields that each concept asks for."""
    are_values: tuple[bool, ...]
    stop_words: frozenset[str]
    """Words and stems that carry no meaning in a question."""
    neutral: frozenset[str]
    same: Mapping[str, frozenset[str]]
    """Stems of all values with the same meaning, by stem."""
    chinese: Mapping[str, str]
    """Names of fields for Chinese shoppers, by the English words of their concepts."""


@lru_cache(maxsize=1)
def _read_concepts() -> _Concepts:
    path = Path(__file__).with_name("concepts.toml")
    file = msgspec.toml.decode(path.read_bytes(), type=_ConceptFile)
    concepts, english = file.concepts, file.english_stop.split()
    same: dict[str, frozenset[str]] = {}
    for group in file.same:
        terms = frozenset(map(word_term, group))
        same |= {term: same.get(term, frozenset()) | terms for term in terms}
    parts = [
        "|".join(each if contains_chinese(each) else rf"(?<![a-z0-9]){each}(?![a-z0-9])" for each in concept.phrases)
        for concept in concepts
    ]
    return _Concepts(
        re.compile("|".join(f"(?P<c{at}>{part})" for at, part in enumerate(parts))),
        tuple(frozenset(map(word_term, concept.words.split())) for concept in concepts),
        tuple(concept.values for concept in concepts),
        frozenset((*english, *map(word_term, english), *file.chinese_stop.split())),
        frozenset(map(word_term, file.neutral.split())),
        same,
        {concept.words: concept.chinese for concept in concepts if concept.chinese},
    )


def neutral_terms() -> frozenset[str]:
    """The stems of words of field names that carry so little meaning that a question may leave them out."""
    return _read_concepts().neutral


def _words_of(bare: str) -> Iterator[Word]:
    """The words of a question: concepts first, then the remaining words without stop words."""
    concepts = _read_concepts()
    seen: set[str] = set()
    rest = bare
    for number, found in _concepts(bare):
        names = concepts.terms[number]
        text = found[0]
        # A phrase around the product ("how much does X hold") keeps the product for parsing.
        inner = re.fullmatch(r"(\S+ \S+ \S+) (.{1,200}?) (\S+)", text)
        inner = inner if inner and content_terms(inner[2]) else None
        rest = rest.replace(text, f" {inner[2]} " if inner else " ; ", 1)
        own = frozenset(content_terms(text)) if not inner else frozenset[str]()
        values = frozenset[str]()
        if concepts.are_values[number]:
            named = content_terms(text.removeprefix("meant ").removeprefix("for "))
            values = with_same(frozenset((*named, *(f"{each}款" for each in _GENDERS if each in text))))
        yield Word(text, names | own | values, is_concept=True, value_terms=values)
        seen |= names | own
    for word in split_words(_ASKING.sub(r" \1 ", rest)):
        term = word_term(word)
        if not _is_stop(word, term) and term not in seen:
            seen.add(term)
            yield Word(word, frozenset({term}))


_ASKING = re.compile(r"(.)不\1|什么|多少|哪[种个款些]|有没有|可以用|能用|[不没]$|吗|呢$")
"""Characters that only ask, which segmentation would join with the words beside them."""
_GENDERS = ("男", "女")


def with_same(terms: frozenset[str]) -> frozenset[str]:
    """The stems of values and of those that say the same: "grey" and 灰色 are "gray"."""
    return terms.union(*(_read_concepts().same.get(term, ()) for term in terms))


@lru_cache(maxsize=2**12)
def concept_terms(text: str) -> frozenset[str]:
    """The stems of the fields that the concepts in a text ask for."""
    terms = _read_concepts().terms
    return frozenset[str]().union(*(terms[number] for number, _ in _concepts(fold(text))))


def chinese_label(label: str) -> str:
    """The usual Chinese name of a field, from its name in English; empty if there is none."""
    wanted = frozenset(content_terms(label))
    found = (name for words, name in chinese_names().items() if wanted <= frozenset(map(word_term, words.split())))
    return next(found, "") if wanted else ""


def chinese_names() -> Mapping[str, str]:
    """The usual Chinese names of fields, by the words in English that name them: 容量 for "capacity volume"."""
    return _read_concepts().chinese


def quantities_in(text: str) -> list[tuple[str, float]]:
    """The base unit and the number of each quantity with a unit in a text."""
    found = (parse_quantity(each[0]) for each in _QUANTITY.finditer(fold(text)))
    return [each for each in found if each]


@lru_cache(maxsize=64)
def measured_places(folded: str) -> frozenset[int]:
    """The places of the characters of quantities with a unit in a folded text."""
    found = (each for each in _QUANTITY.finditer(folded) if any(part.unit for part in quantities(each[0])))
    return frozenset(at for each in found for at in range(*each.span()))


def _concepts(bare: str) -> Iterator[tuple[int, re.Match[str]]]:
    """The concepts in a folded text, each once, with the matched phrase."""
    numbers = set()
    for found in _read_concepts().pattern.finditer(bare):
        number = int(str(found.lastgroup)[1:])
        if number not in numbers:
            numbers.add(number)
            yield number, found


_QUANTITY = re.compile(rf"(?<![a-z0-9.]){QUANTITIES}")
_BELOW = re.compile(
    r"\b(?:less|lighter|shorter|smaller|cheaper|lower|fewer|under|below|up to|at most|no more|max\S*)\b(?: than)?"
    r"[^0-9]{0,12}$|(?:小于|少于|低于|不到|不超过|轻于|短于|最多)\s?$"
)
_HOW_MANY_BEFORE = re.compile(r"how many $|多少$|几$")
_LONGEST_COMPARISON = 60
"""Characters before a quantity that are searched for comparing words: a question may have a thousand
quantities."""
_ABOVE = re.compile(
    r"\b(?:more|heavier|longer|taller|bigger|larger|higher|greater|over|above|at least|min\S*|exceed\S*)\b(?: than)?"
    r"[^0-9]{0,12}$|(?:大于|多于|高于|超过|至少|重于|长于)\s?$"
)


_OF_THAN = re.compile(r"^\s?还?更?(?:(?P<above>[大长重高宽厚深贵多])|(?P<below>[小短轻矮窄薄浅少]|便宜))(?P<rest>.*)")
_COMPARISON = {
    "长": "长度",
    "短": "长度",
    "重": "重量",
    "轻": "重量",
    "高": "高度",
    "矮": "高度",
    "宽": "宽度",
    "窄": "宽度",
}
_COMPARISON |= {"厚": "厚度", "薄": "厚度", "深": "深度", "浅": "深度", "贵": "价格", "便宜": "价格"}


def _bound_of(bare: str) -> tuple[Bound | None, str, str]:
    """The quantity that a question compares with, the last one with a unit or a comparison, the question without
    it, and the comparison."""
    for found in reversed(list(_QUANTITY.finditer(bare))):
        start, after = found.start(), bare[found.end() :]
        span = bare, max(0, start - _LONGEST_COMPARISON), start
        if _HOW_MANY_BEFORE.search(*span):
            continue
        below = _BELOW.search(*span)
        compared = below or _ABOVE.search(*span)
        operator, comparison = "<" if below else ">" if compared else "=", compared[0] if compared else ""
        before, sign = bare[: compared.start() if compared else start], _SIGN.search(*span)
        money = _CHINESE_MONEY.match(after)
        than = bare[:start].rstrip().endswith("比") and _OF_THAN.match(after[money.end() :] if money else after)
        if than:
            operator, comparison = (">", than["above"]) if than["above"] else ("<", than["below"])
            comparison = _COMPARISON.get(comparison, "")
            before, after = bare[:start].rstrip()[:-1], f"{money[0] if money else ''} {than['rest']}"
        parsed = parse_quantity(found[0])
        is_money = money or sign or _CURRENCY.match(after)
        if parsed is None and operator == "=" and not is_money:
            continue
        read = quantities(found[0])
        if parsed is None and len(read) != 1:
            continue
        unit, number = parsed or ("", float(read[0].number.lstrip("m") or 0))
        before = f"{before} {sign[0] if sign and compared else ''}"
        currencies = (
            next((codes for text, codes in _CURRENCIES if re.search(text, is_money[0])), ()) if is_money else ()
        )
        return Bound(operator, number, unit, found[0], currencies), f"{before} {after}", comparison
    return None, bare, ""


_SIGN = re.compile(r"[$€£¥]\s?$")
_CHINESE_MONEY = re.compile(r"\s?(?:元|块钱?)")
_CURRENCIES = (
    (r"\$|dollar|bucks", ("USD", "CAD", "AUD", "NZD", "SGD", "HKD", "TWD", "")),
    ("€|eur", ("EUR", "")),
    ("£|pound|gbp", ("GBP", "")),
    ("[元块]|cny|rmb", ("CNY", "HKD", "TWD", "")),
    ("¥", ("CNY", "JPY", "")),
    ("usd", ("USD", "")),
)
_CURRENCY = re.compile(r"\s?(?:dollars?|euros?|pounds? sterling|bucks|usd|eur|gbp|cny|rmb)\b")
