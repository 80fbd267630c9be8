"""The form in which two spellings of one brand, or of one category level, are equal."""

from __future__ import annotations

import re

from retrieval.textfold import fold

_LEGAL_FORMS = (
    "gmbh|mbh|ag|kg|kgaa|ohg|ug|ev|inc|incorporated|ltd|limited|llc|llp|plc|co|corp|corporation|company|sa|sas|sarl|srl"
    "|spa|sl|slu|bv|nv|ab|oy|oyj|as|aps|pty|pte|kk|sp zoo|sp z oo|zoo|sro|sdn bhd|lda|ltda|eood|ood|doo"
)
_LEGAL = re.compile(rf"(?<=\S)(?: and)? (?:{_LEGAL_FORMS})(?: and)?$")
_CHINESE_LEGAL = re.compile("(?<=.)(?:股份有限公司|有限责任公司|有限公司|公司|株式会社)$|^株式会社(?=.)")
_AND = re.compile(r"\s*[&+]\s*")
_JOINED = re.compile(r"[.'’]|(?<=\ba)/(?=s\b)")
_APART = re.compile(r"[\s,_\-/:;!()\[\]\"]+")


def brand_key(brand: str) -> str:
    """A brand without case, accents, punctuation, blanks and legal forms: "Bosch GmbH" and "BOSCH" are "bosch".

    "&" and "+" are "and", other signs stay ("C#"). A brand that is all punctuation or legal form is its own key.
    """
    words = _words(brand)
    while (shorter := _LEGAL.sub("", words)) != words:
        words = shorter
    joined = words.replace(" ", "")
    return _CHINESE_LEGAL.sub("", joined) or joined or brand


def level_key(level: str) -> str:
    """A category level without case, accents, punctuation and blanks: "Power Tools" and "power-tools" are one."""
    return _words(level).replace(" ", "") or level


def _words(text: str) -> str:
    return _APART.sub(" ", _JOINED.sub("", _AND.sub(" and ", fold(text)))).strip()
