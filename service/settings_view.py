"""Settings as whoever runs a service may look at them: what each is, by whom it was said, and never a secret."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, SecretStr

from service.setting_sources import Source, SourcedSettings
from service.setting_words import DESCRIPTIONS
from service.settings import Settings, listed, setting_names, variable_name

INDEX = "index"
"""The section of the settings that stand in no table of the file."""
_KEYS = frozenset({"service.page_key"})
"""Secrets that are no SecretStr, since the program hands them on."""
_ADDRESSES = frozenset({"elasticsearch.url", "service.cors_origins", "service.trusted_proxies", "service.traces"})
_NEXT_ADDRESS = re.compile(r",(?=\s*\w+://)")
_MASK = "***"

SettingValue = str | float | bool | list[str] | list[float] | None


@dataclass(frozen=True, slots=True)
class ShownSetting:
    """One setting."""

    value: SettingValue
    """Null where it is not set, or a secret. Of an address, names, passwords and what is asked of it are masked."""
    default: SettingValue
    source: Source
    is_secret: bool
    """Whether its value is never told: `source` says whether there is one."""
    variable: str
    """What the environment calls it."""
    description: str


SettingSections = dict[str, dict[str, ShownSetting]]


def shown_settings(sourced: SourcedSettings) -> SettingSections:
    """Every setting, by the name of its table and its own."""
    sections: SettingSections = {}
    for name in setting_names():
        table, _, key = name.rpartition(".")
        sections.setdefault(table or INDEX, {})[key] = _shown(name, sourced)
    return sections


def _shown(name: str, sourced: SourcedSettings) -> ShownSetting:
    value, default = _value(sourced.settings, name), _value(Settings(), name)
    is_secret = isinstance(default, SecretStr) or name in _KEYS
    is_missing = is_secret and value == default
    return ShownSetting(
        None if is_secret else _plain(name, value),
        None if is_secret else _plain(name, default),
        Source.DEFAULT if is_missing else sourced.sources.get(name, Source.DEFAULT),
        is_secret,
        variable_name(name),
        DESCRIPTIONS[name],
    )


def _value(settings: Settings, name: str) -> object:
    table, _, key = name.rpartition(".")
    holder: BaseModel = getattr(settings, table) if table else settings
    return getattr(holder, key)


def _plain(name: str, value: object) -> SettingValue:
    """As JSON can say it."""
    match value:
        case None | bool() | int() | float():
            return value
        case Path():
            return str(value)
        case tuple():
            return [_masked(name, each) if isinstance(each, str) else each for each in value]
        case str():
            default = _value(Settings(), name)
            # Whether several were told as a list or as one text is nobody's business.
            return list(_apart(name, value)) if isinstance(default, tuple) else _masked(name, value) or None
    raise TypeError(f"{name} is {type(value).__name__}, which cannot be shown")


def _apart(name: str, text: str) -> Iterator[str]:
    """Each of several, masked before a comma of a password could part it."""
    for piece in _NEXT_ADDRESS.split(text):
        yield from listed(_masked(name, piece))


def _masked(name: str, text: str) -> str:
    """An address without what may be secret in it: who asks, and what is asked."""
    if name not in _ADDRESSES and "://" not in text:
        return text
    scheme, mark, rest = text.partition("://") if "://" in text else ("", "", text)
    who, at, where = rest.rpartition("@")
    host, *asked = re.split("[?#]", where, maxsplit=1)
    if re.search("[?#]", who):
        # Either may be part of the other.
        return f"{scheme}{mark}{_MASK}"
    return f"{scheme}{mark}{f'{_MASK}@' if at else ''}{host}{f'?{_MASK}' if asked else ''}"
