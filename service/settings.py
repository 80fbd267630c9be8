"""Settings from a file and the environment: what each is, what it does in words, where it came from, all of them
shown."""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from retrieval.elasticsearch.settings import ClusterSettings
from retrieval.errors import SettingError, close_names
from retrieval.events.privacy import REGIONS, is_region

# What each setting does, in the words of docs/settings.md.

DESCRIPTIONS: Mapping[str, str] = {
    "backend": "embedded searches words in the index directory, elasticsearch in a cluster; read by shelfwise rebuild",
    "vectors": "faiss searches vectors in the index directory, elasticsearch in the cluster; read by shelfwise rebuild",
    "elasticsearch.url": (
        "where the cluster is: one address, or several nodes as a list or with commas between them; no name or "
        "password in it"
    ),
    "elasticsearch.alias": (
        "names the index that serves, and begins the name of each version's: shelfwise-v000007; each store needs "
        "its own"
    ),
    "elasticsearch.username": "who asks; needs elasticsearch.password",
    "elasticsearch.password": "goes with the name; better in the environment than in the file",
    "elasticsearch.api_key": "instead of name and password: the encoded key, as Elasticsearch gives it",
    "elasticsearch.ca_certificate": (
        "a file in PEM: the authority that signed the cluster's certificate, where the system does not trust it"
    ),
    "elasticsearch.deadline": (
        "seconds that one request of a search may take, up to 60; then the search goes on by vectors alone"
    ),
    "elasticsearch.connections": "connections to each node that stay open",
    "elasticsearch.shards": "into how many parts an index is cut; read when it is made",
    "elasticsearch.replicas": "how many copies of an index are kept; read when it is made",
    "events.keys": "the file of the keys that make pseudonyms; one for all machines that record events of a store",
    "events.phone_regions": (
        "whose phone numbers are masked in queries (ISO 3166-1); others are found by their country's prefix only"
    ),
    "events.retention_days": (
        "events that are older are removed by shelfwise events refresh and shelfwise events expire"
    ),
    "events.minimum_shoppers": (
        "what fewer shoppers did stays out of popularity, neighbours, query tables and user towers"
    ),
    "ranker.deadline": (
        "seconds that the ranker may take over a search, up to 60; then results keep the merged order, and the "
        "page says so"
    ),
    "ranker.event_weights": (
        "what a click, a cart and a purchase are worth in a ranker's score, as in 1,3,5; see ranking"
    ),
    "ranker.floor": (
        "the probability that the best hit of a search has to fit it by, under 1; below it the page says that "
        "nothing may fit"
    ),
    "recommend.seen": (
        "hide leaves products that a shopper has seen out of recommendations; show is for stores where people buy the "
        "same again. Read by shelfwise train users, too: see recommendations"
    ),
    "service.host": "the address that shelfwise serve listens at; any other than this machine's needs a key",
    "service.port": "the port; 0 takes a free one",
    "service.keys": "the file of API keys, by default keys.json there",
    "service.cors_origins": "the origins whose pages may call it from a browser, as in https://shop.example; * for all",
    "service.trusted_proxies": "the addresses of proxies that are believed when they tell whom they speak for",
    "service.threads": "threads that answer",
    "service.queue": "requests that may wait for one of them; what comes on top is refused with 503",
    "service.deadline": "seconds until a request is answered, or told that it is not",
    "service.feeds": "the folder that a rebuild over HTTP reads feeds from",
    "service.body_bytes": "bytes of a request's body, unpacked",
    "service.body_seconds": "seconds until a request's head is there, and as many until its body is",
    "service.bodies_bytes": "bytes of all bodies that are held at once; a request on top is refused with 503",
    "service.connections": (
        "connections that are answered; what comes on top is told 503, and beyond twice as many closed"
    ),
    "service.connections_per_address": "of one address, unless it is one of the trusted proxies",
    "service.requests_per_minute_key": "requests of one key in this process; a key may have a number of its own",
    "service.requests_per_minute_address": "requests of one address in this process",
    "service.pages": "whether the store page and the admin page are served",
    "service.page_key": (
        "the key that the store page sends where the service has keys: whoever opens the page can read it, so "
        "one with the scopes search and events"
    ),
    "service.traces": "where traces go, as in http://collector:4318/v1/traces",
}


# The settings of a program that uses an index: read from a TOML file and the environment, and checked.
#
# docs/settings.md lists them. The file is `shelfwise.toml` in the working directory, or the one that
# `SHELFWISE_SETTINGS` names; the environment goes before it.

FILE = "shelfwise.toml"
FILE_VARIABLE = "SHELFWISE_SETTINGS"
_PREFIX = "SHELFWISE_"
_DELIMITER = "__"


class ElasticsearchSettings(BaseModel):
    """How an Elasticsearch cluster is reached."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | tuple[str, ...] = ()
    alias: str = "shelfwise"
    username: str = ""
    password: SecretStr = SecretStr("")
    api_key: SecretStr = SecretStr("")
    ca_certificate: Path | None = None
    deadline: float = Field(default=1.0, gt=0, le=60)
    connections: int = Field(default=16, ge=1, le=1_000)
    shards: int = Field(default=1, ge=1, le=100)
    replicas: int | None = Field(default=None, ge=0, le=10)


class EventsSettings(BaseModel):
    """How what shoppers did is kept, and what may be made of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: Path | None = None
    phone_regions: str | tuple[str, ...] = REGIONS
    retention_days: int | None = Field(default=None, ge=1, le=36_500)
    minimum_shoppers: int = Field(default=5, ge=1, le=1_000_000)

    @property
    def regions(self) -> tuple[str, ...]:
        """Whose phone numbers are masked; raises SettingError for a region that there is not."""
        regions = tuple(map(str.upper, split_list(self.phone_regions)))
        for region in regions:
            if not is_region(region):
                raise SettingError(f"events.phone_regions: {region} is no region; they are named as in US, GB, DE, CN")
        return regions


def _event_weights(given: object) -> object:
    """What a click, a cart and a purchase are worth, adding up to 1; raises ValueError for what cannot be."""
    if given is None:
        return None
    parts = given.split(",") if isinstance(given, str) else given
    try:
        click, cart, purchase = (float(each) for each in parts)  # type: ignore[attr-defined]  # else a TypeError
    except (TypeError, ValueError):
        raise ValueError("a click, a cart and a purchase weigh three numbers, as in 1,3,5") from None
    total = click + cart + purchase
    if min(click, cart, purchase) < 0 or not 0 < total < math.inf:
        raise ValueError("weights of events are not negative, and one of the three is above 0")
    return click / total, cart / total, purchase / total


class RankerSettings(BaseModel):
    """How a trained ranker serves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    deadline: float = Field(default=0.1, gt=0, le=60)
    event_weights: Annotated[tuple[float, float, float] | None, BeforeValidator(_event_weights)] = None
    floor: float = Field(default=0.0, ge=0, lt=1)


class RecommendSettings(BaseModel):
    """What is recommended."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seen: Literal["hide", "show"] = "hide"


class ServiceSettings(BaseModel):
    """How the HTTP service answers, and whom."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535)
    keys: Path | None = None
    cors_origins: str | tuple[str, ...] = ()
    trusted_proxies: str | tuple[str, ...] = ()
    threads: int | None = Field(default=None, ge=1, le=1_000)
    queue: int = Field(default=32, ge=0, le=100_000)
    deadline: float = Field(default=10.0, gt=0, le=600)
    feeds: Path | None = None
    body_bytes: int = Field(default=4_000_000, ge=1_000, le=1_000_000_000)
    body_seconds: float = Field(default=10.0, gt=0, le=600)
    bodies_bytes: int = Field(default=256_000_000, ge=1_000)
    connections: int = Field(default=1_000, ge=1, le=100_000)
    connections_per_address: int = Field(default=500, ge=1, le=100_000)
    requests_per_minute_key: int = Field(default=60_000, ge=1)
    requests_per_minute_address: int = Field(default=6_000, ge=1)
    pages: bool = True
    page_key: str = ""
    traces: str = Field(default="", pattern="^(https?://.+)?$")

    @property
    def origins(self) -> tuple[str, ...]:
        """The pages that may call it from a browser."""
        return split_list(self.cors_origins)

    @property
    def proxies(self) -> tuple[str, ...]:
        """The addresses that are believed when they tell whom they speak for."""
        return split_list(self.trusted_proxies)

    @property
    def worker_threads(self) -> int:
        """The threads that answer."""
        return self.threads or len(os.sched_getaffinity(0))


def split_list(given: str | tuple[str, ...]) -> tuple[str, ...]:
    """Several values of one setting, which may be told as one text with commas."""
    named = given.split(",") if isinstance(given, str) else given
    return tuple(each.strip() for each in named if each.strip())


class Settings(BaseSettings):
    """Every setting; what `load_settings` returns."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_nested_delimiter=_DELIMITER,
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    backend: Literal["embedded", "elasticsearch"] | None = None
    vectors: Literal["faiss", "elasticsearch"] | None = None
    elasticsearch: ElasticsearchSettings = ElasticsearchSettings()
    events: EventsSettings = EventsSettings()
    ranker: RankerSettings = RankerSettings()
    recommend: RecommendSettings = RecommendSettings()
    service: ServiceSettings = ServiceSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is handed over: `load_settings` reads the environment; code that makes settings means them."""
        return (init_settings,)

    @property
    def cluster(self) -> ClusterSettings:
        """The cluster that is named; raises SettingError where none is, or what is said of it cannot be."""
        given = self.elasticsearch
        return ClusterSettings(
            urls=split_list(given.url),
            alias=given.alias,
            username=given.username,
            password=given.password.get_secret_value(),
            api_key=given.api_key.get_secret_value(),
            ca_certificate=given.ca_certificate,
            deadline=given.deadline,
            connections=given.connections,
            shards=given.shards,
            replicas=given.replicas,
        )


def load_settings(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of a file and the environment; raises SettingError, which names the setting.

    Without a path the file is the one of `SHELFWISE_SETTINGS`, or `shelfwise.toml` if there is one; without an
    environment it is that of this process.
    """
    return validate_settings(read_settings(path, environment))


@dataclass(frozen=True, slots=True, repr=False)
class RawSettings:
    """What a file and the environment say, each as tables, not checked yet. Passwords are in it: it has no repr."""

    path: str
    """The file."""
    file: Mapping[str, Any]
    environment: Mapping[str, Any]


def read_settings(path: Path | None = None, environment: Mapping[str, str] | None = None) -> RawSettings:
    """What is said where `load_settings` looks; raises SettingError for what cannot be read."""
    environment = os.environ if environment is None else environment
    _check_variables(environment)
    named = environment.get(FILE_VARIABLE, "")
    path = path or (Path(named) if named else None)
    read = _read(path) if path else _read(Path(FILE)) if Path(FILE).is_file() else {}
    try:
        source = EnvSettingsSource(Settings)
        source.env_vars = {name.lower(): value for name, value in environment.items()}
        return RawSettings(str(path or FILE), read, source())
    except SettingsError as error:
        raise SettingError(f"a variable that begins with SHELFWISE_ cannot be read: {error}") from None


def validate_settings(raw: RawSettings) -> Settings:
    """The settings that were told; raises SettingError, which names the setting."""
    try:
        return Settings(**_merge(raw.file, raw.environment))
    except ValidationError as error:
        faults = "; ".join(_describe_fault(raw.path, each["loc"], each["msg"], each["type"]) for each in error.errors())
        raise SettingError(faults) from None  # pydantic's own text would show values, a password among them


def _check_variables(environment: Mapping[str, str]) -> None:
    """Raises SettingError for a variable that is nearly a setting's: it would be passed over in silence."""
    known = {variable_name(name): name for name in setting_names()}
    tables = tuple(f"{_PREFIX}{table.upper()}" for table in _TABLES)
    inside = tuple(f"{table}{_DELIMITER}" for table in tables)
    for name in map(str.upper, environment):
        is_read = name in known or name.startswith(inside) or name in (FILE_VARIABLE, *tables)
        close = () if is_read or not name.startswith(_PREFIX) else close_names(name, known, _typed_part)
        if close:
            raise SettingError(f"{name} in the environment is no setting; did you mean {' or '.join(close)}?")


def _typed_part(variable: str) -> str:
    return variable.removeprefix(_PREFIX)


def variable_name(name: str) -> str:
    """The environment's name of a setting."""
    return f"{_PREFIX}{name.replace('.', _DELIMITER).upper()}"


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise SettingError(f"the settings {path} cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"the settings {path} are no TOML: {error}") from error


def _merge(table: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    inner = {
        key: _merge(table[key], value)
        for key, value in above.items()
        if isinstance(value, dict) and isinstance(table.get(key), dict)
    }
    return {**table, **above, **inner}


def _describe_fault(where: str, place: tuple[int | str, ...], what: str, kind: str) -> str:
    name = ".".join(str(part) for part in place if part not in ("str", "tuple[str, ...]"))
    if kind != "extra_forbidden":
        return f"the setting {name} (in {where}, or the environment): {what}"
    close = close_names(name, setting_names())
    meant = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"there is no setting {name} (in {where}, or the environment){meant}"


def setting_names() -> tuple[str, ...]:
    """The name of every setting, as docs/settings.md lists them."""
    inner = (f"{table}.{name}" for table, model in _TABLES.items() for name in model.model_fields)
    return (*(name for name in Settings.model_fields if name not in _TABLES), *inner)


_TABLES: Mapping[str, type[BaseModel]] = {
    "elasticsearch": ElasticsearchSettings,
    "events": EventsSettings,
    "ranker": RankerSettings,
    "recommend": RecommendSettings,
    "service": ServiceSettings,
}


# Where each setting comes from: the environment, the file, an option, or nobody, so that it has its default.


class SettingSource(StrEnum):
    """Who says what a setting is."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"
    OPTION = "option"
    """Of the command, or of whatever other program made the settings."""


@dataclass(frozen=True, slots=True)
class SourcedSettings:
    """The settings that a process goes by."""

    settings: Settings
    sources: Mapping[str, SettingSource] = field(default_factory=dict)
    """By a setting's name, of all that are not at their default."""

    @classmethod
    def read(cls, path: Path | None = None) -> SourcedSettings:
        """As `load_settings` reads them; raises as it does."""
        told = read_settings(path)
        sources = dict.fromkeys(_names(told.file), SettingSource.FILE)
        return cls(
            validate_settings(told), sources | dict.fromkeys(_names(told.environment), SettingSource.ENVIRONMENT)
        )

    @classmethod
    def of_service(cls, service: ServiceSettings) -> SourcedSettings:
        """Those of a service that was given no other ones."""
        return cls(Settings()).with_service(service.model_dump(include=service.model_fields_set))

    def with_service(self, given: Mapping[str, Any]) -> SourcedSettings:
        """The same with some of the table `service` said by options."""
        service = self.settings.service.model_copy(update=given)
        said = {f"service.{name}": SettingSource.OPTION for name in given}
        return SourcedSettings(self.settings.model_copy(update={"service": service}), {**self.sources, **said})


def _names(tables: Mapping[str, Any]) -> Iterator[str]:
    for name, value in tables.items():
        if isinstance(value, dict):
            yield from (f"{name}.{inner}" for inner in value)
        else:
            yield name


# Settings as whoever runs a service may look at them: what each is, by whom it was said, and never a secret.

INDEX = "index"
"""The section of the settings that stand in no table of the file."""
_KEYS = frozenset({"service.page_key"})
"""Secrets that are no SecretStr, since the program hands them on."""
_ADDRESSES = frozenset({"elasticsearch.url", "service.cors_origins", "service.trusted_proxies", "service.traces"})
_NEXT_ADDRESS = re.compile(r",(?=\s*\w+://)")
_MASK = "***"

SettingValue = str | float | bool | list[str] | list[float] | None


@dataclass(frozen=True, slots=True)
class SettingDescription:
    """One setting."""

    value: SettingValue
    """Null where it is not set, or a secret. Of an address, names, passwords and what is asked of it are masked."""
    default: SettingValue
    source: SettingSource
    is_secret: bool
    """Whether its value is never told: `source` says whether there is one."""
    variable: str
    """What the environment calls it."""
    description: str


SettingSections = dict[str, dict[str, SettingDescription]]


def describe_settings(sourced: SourcedSettings) -> SettingSections:
    """Every setting, by the name of its table and its own."""
    sections: SettingSections = {}
    for name in setting_names():
        table, _, key = name.rpartition(".")
        sections.setdefault(table or INDEX, {})[key] = _describe(name, sourced)
    return sections


def _describe(name: str, sourced: SourcedSettings) -> SettingDescription:
    value, default = _value(sourced.settings, name), _value(Settings(), name)
    is_secret = isinstance(default, SecretStr) or name in _KEYS
    is_missing = is_secret and value == default
    return SettingDescription(
        None if is_secret else _to_json(name, value),
        None if is_secret else _to_json(name, default),
        SettingSource.DEFAULT if is_missing else sourced.sources.get(name, SettingSource.DEFAULT),
        is_secret,
        variable_name(name),
        DESCRIPTIONS[name],
    )


def _value(settings: Settings, name: str) -> object:
    table, _, key = name.rpartition(".")
    holder: BaseModel = getattr(settings, table) if table else settings
    return getattr(holder, key)


def _to_json(name: str, value: object) -> SettingValue:
    """As JSON can say it."""
    match value:
        case None | bool() | int() | float():
            return value
        case Path():
            return str(value)
        case tuple():
            return [_mask_address(name, each) if isinstance(each, str) else each for each in value]
        case str():
            default = _value(Settings(), name)
            # Whether several were told as a list or as one text is nobody's business.
            return (
                list(_mask_addresses(name, value)) if isinstance(default, tuple) else _mask_address(name, value) or None
            )
    raise TypeError(f"{name} is {type(value).__name__}, which cannot be shown")


def _mask_addresses(name: str, text: str) -> Iterator[str]:
    """Each of several, masked before a comma of a password could part it."""
    for piece in _NEXT_ADDRESS.split(text):
        yield from split_list(_mask_address(name, piece))


def _mask_address(name: str, text: str) -> str:
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
