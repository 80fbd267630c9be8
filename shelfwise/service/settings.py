"""Settings of the program, from a TOML file and the environment.

Each setting is declared once: its name, type, default and description. docs/settings.md lists them. The file is
`shelfwise.toml` in the working directory, or the one that `SHELFWISE_SETTINGS` names; the environment overrides it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from shelfwise.retrieval.elasticsearch.settings import ClusterSettings
from shelfwise.retrieval.errors import SettingError, close_names
from shelfwise.retrieval.events.privacy import REGIONS, is_region
from shelfwise.retrieval.updates.validation import decode_json, decode_toml

FILE = "shelfwise.toml"
FILE_VARIABLE = "SHELFWISE_SETTINGS"
_PREFIX = "SHELFWISE_"
_DELIMITER = "__"


class SettingsTable(BaseModel):
    """A table of the settings file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _split(given: object) -> object:
    """The values of one text, which separates them by commas or is a JSON list."""
    if not isinstance(given, str):
        return given
    if given.startswith("["):
        return decode_json(given)
    return [each.strip() for each in given.split(",") if each.strip()]


def _without_credentials(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Raises ValueError for an address with a part that may be secret: settings are shown to administrators."""
    if not {"@", "?", "#"}.isdisjoint("".join(addresses)):
        raise ValueError("an address may have no user name, password or query string")
    return addresses


def _known_regions(given: tuple[str, ...]) -> tuple[str, ...]:
    """The regions in upper case; raises ValueError for an unknown one."""
    regions = tuple(map(str.upper, given))
    for region in regions:
        if not is_region(region):
            raise ValueError(f"{region} is not a region; use codes such as US, GB, DE, CN")
    return regions


Addresses = Annotated[tuple[str, ...], BeforeValidator(_split), AfterValidator(_without_credentials)]
"""Addresses as a list, or as one text with commas."""
Regions = Annotated[tuple[str, ...], BeforeValidator(_split), AfterValidator(_known_regions)]
"""Regions (ISO 3166-1) as a list, or as one text with commas."""


class ElasticsearchSettings(SettingsTable):
    """Connection to an Elasticsearch cluster."""

    url: Addresses = ()
    """addresses of the cluster's nodes, as a list or separated by commas; without user name or password"""
    alias: str = "shelfwise"
    """alias of the index that serves, and prefix of each version's index, as in shelfwise-v000007; each store needs
    its own"""
    username: str = ""
    """user name; needs elasticsearch.password"""
    password: SecretStr = SecretStr("")
    """password; better in the environment than in the file"""
    api_key: SecretStr = SecretStr("")
    """encoded API key, instead of user name and password"""
    ca_certificate: Path | None = None
    """PEM file of the cluster's certificate authority, if the system does not trust it"""
    deadline: float = Field(default=1.0, gt=0, le=60)
    """time limit of a search request in seconds; after it, only vectors are searched"""
    shards: int = Field(default=1, ge=1, le=100)
    """shards of an index; read when it is created"""
    replicas: int | None = Field(default=None, ge=0, le=10)
    """replicas of an index; read when it is created"""


class EventsSettings(SettingsTable):
    """Storage of shoppers' events, and the privacy of tables made from them."""

    keys: Path | None = None
    """file of the pseudonymization keys; the same on all machines that record events of a store"""
    phone_regions: Regions = REGIONS
    """regions (ISO 3166-1) whose phone numbers are masked in queries without a country's prefix"""
    retention_days: int | None = Field(default=None, ge=1, le=36_500)
    """days after which shelfwise events refresh removes events"""
    minimum_shoppers: int = Field(default=5, ge=1, le=1_000_000)
    """shoppers that an entry needs to appear in popularity, neighbours, query tables and user towers"""


class RankerSettings(SettingsTable):
    """Reranking of search results."""

    deadline: float = Field(default=0.1, gt=0, le=60)
    """time limit of the ranker in seconds; after it, results keep the merged order"""
    exploration: float = Field(default=0.0, ge=0, le=0.2)
    """share of searches, up to 0.2, that show a product that few shoppers were shown at one of ranks 2 to 10; see
    ranking"""


class RecommendSettings(SettingsTable):
    """Recommendations."""

    seen: Literal["hide", "show"] = "hide"
    """hide excludes products that a shopper has seen from recommendations; show suits stores where shoppers buy the
    same products again. Also read by shelfwise train users: see recommendations"""


class SponsoredSettings(SettingsTable):
    """Sponsored placement."""

    places: int = Field(default=1, ge=1, le=4)
    """maximum number of sponsored hits of a page"""
    reserve: float = Field(default=0.05, ge=0, le=10_000)
    """minimum price of a click, in the store's currency"""
    floor: float = Field(default=1.0, ge=-10, le=20)
    """minimum relevance of an advertised product: its similarity to the query in standard deviations above that of
    unrelated products"""


class PictureSource(StrEnum):
    """The pictures that the service itself sends."""

    HTTP = "http"
    ALL = "all"
    DIRECT = "direct"


class StoreSettings(SettingsTable):
    """Name, look and texts of the store page."""

    name: str = Field(default="", max_length=80)
    """name of the store in the header and the title; by default Store"""
    name_zh: str = Field(default="", max_length=80)
    """the name on the page in Chinese, if it differs"""
    logo: Path | None = None
    """picture of the logo: a file of at most 1 MB, as SVG, PNG, JPEG, WebP, AVIF or GIF"""
    colour: str = Field(default="", pattern="^(#[0-9a-fA-F]{6})?$")
    """colour of links and buttons, as in #2b5c8a; the page makes it darker or lighter if it would be hard to read"""
    language: Literal["en", "zh"] | None = None
    """language of the page, en or zh; by default the visitor's, who can then change it"""
    footer: str = Field(default="", max_length=500)
    """footer of every page, such as the name and address of the company"""
    footer_zh: str = Field(default="", max_length=500)
    """footer of the page in Chinese"""
    reasons: bool = False
    """whether a line under each hit says why it has its rank"""
    pictures: PictureSource = PictureSource.HTTP
    """pictures of other servers that the service fetches, scales down and sends: http for those at http, all, or direct
    for none"""


class PicturesSettings(SettingsTable):
    """Search by pictures, and for what texts do not say."""

    folder: Path | None = None
    """folder of the picture files that a feed may name; by default no file is read"""


class ServiceSettings(SettingsTable):
    """The HTTP service."""

    host: str = "127.0.0.1"
    """address to listen on; without keys, everyone who can reach it may search"""
    port: int = Field(default=8080, ge=0, le=65_535)
    """the port; 0 selects a free one"""
    keys: Path | None = None
    """file of API keys, by default keys.json in the index directory, or in the directory of several"""
    default_index: str = Field(default="", max_length=200)
    """in a directory of indexes, the index for requests that name none"""
    indexes: int = Field(default=100, ge=0, le=10_000)
    """in a directory of indexes, the number of indexes up to which a write of the InstantSearch protocol to an unknown
    name creates one; 0 for never"""
    cors_origins: Addresses = ()
    """origins whose pages may call the API from a browser, as in https://shop.example; * for all"""
    trusted_proxies: Addresses = ()
    """addresses of proxies whose X-Forwarded-For and X-Forwarded-Proto headers are trusted"""
    workers: int = Field(default=1, ge=1, le=256)
    """worker processes of shelfwise serve; each uses little more than one core"""
    threads: int | None = Field(default=None, ge=1, le=1_000)
    """worker threads of each worker process"""
    deadline: float = Field(default=10.0, gt=0, le=600)
    """time limit of a request in seconds; after it, the response is a 504"""
    feeds: Path | None = None
    """folder for feeds that are uploaded, or that a rebuild over HTTP reads; by default feeds in the index directory,
    if switched on on the admin page"""
    body_bytes: int = Field(default=4_000_000, ge=1_000, le=1_000_000_000)
    """largest request body in bytes, after decompression"""
    requests_per_minute_key: int = Field(default=60_000, ge=1, le=1_000_000_000)
    """rate limit of one key, a large search counting as several; a key may have its own limit"""
    requests_per_minute_address: int = Field(default=6_000, ge=1, le=1_000_000_000)
    """rate limit of one address, a large search counting as several"""
    pages: bool = True
    """whether the store page and the admin page are served"""
    page_key: str = Field(default="", json_schema_extra={"is_secret": True})
    """key that the store page sends instead of its own if the service has keys; every visitor can read it, so it may
    have only the scopes search and events"""
    shopify_secret: SecretStr = SecretStr("")
    """secret that Shopify signs webhooks with"""
    woocommerce_secret: SecretStr = SecretStr("")
    """secret that WooCommerce signs webhooks with"""

    @property
    def worker_threads(self) -> int:
        """`threads`, by default the cores that each worker process has."""
        return self.threads or self.cores_per_worker

    @property
    def cores_per_worker(self) -> int:
        """The cores of this process, divided by the worker processes."""
        return max(1, len(os.sched_getaffinity(0)) // self.workers)


def cache_folder() -> Path:
    """Folder of exported models: $XDG_CACHE_HOME/shelfwise, or ~/.cache/shelfwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shelfwise"


class Settings(SettingsTable):
    """Every setting; returned by `load_settings`."""

    backend: Literal["embedded", "elasticsearch"] | None = None
    """keyword index: embedded in the index directory, or elasticsearch; read by shelfwise rebuild"""
    elasticsearch: ElasticsearchSettings = ElasticsearchSettings()
    events: EventsSettings = EventsSettings()
    pictures: PicturesSettings = PicturesSettings()
    ranker: RankerSettings = RankerSettings()
    recommend: RecommendSettings = RecommendSettings()
    service: ServiceSettings = ServiceSettings()
    sponsored: SponsoredSettings = SponsoredSettings()
    store: StoreSettings = StoreSettings()

    @property
    def cluster(self) -> ClusterSettings:
        """The settings of the Elasticsearch client; raises SettingError without a URL, or for invalid values."""
        given = self.elasticsearch
        secrets = {"password": given.password.get_secret_value(), "api_key": given.api_key.get_secret_value()}
        fields = {name: getattr(given, name) for name in ElasticsearchSettings.model_fields if name != "url"}
        return ClusterSettings(urls=given.url, **{**fields, **secrets})


_TABLES = {
    name: type(info.default) for name, info in Settings.model_fields.items() if isinstance(info.default, SettingsTable)
}


def setting_names() -> tuple[str, ...]:
    """The name of every setting, in the order of docs/settings.md."""
    inner = (f"{table}.{name}" for table, model in _TABLES.items() for name in model.model_fields)
    return (*(name for name in Settings.model_fields if name not in _TABLES), *inner)


def variable_name(name: str) -> str:
    """The environment variable of a setting."""
    return f"{_PREFIX}{name.replace('.', _DELIMITER).upper()}"


# Reading and validation


def load_settings(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Reads the file and the environment; raises SettingError, which names the setting.

    Without a path the file is the one of `SHELFWISE_SETTINGS`, or `shelfwise.toml` if it exists; without an
    environment it is that of this process.
    """
    return SourcedSettings.read(path, environment).settings


def adjacent_settings(index: Path) -> Path | None:
    """The settings file next to an index directory, if neither the environment nor the working directory has one."""
    adjacent = index.resolve().parent / FILE
    has_another = bool(os.environ.get(FILE_VARIABLE)) or Path(FILE).is_file()
    return adjacent if adjacent.is_file() and not has_another else None


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """The tables of the environment; raises SettingError for a misspelled variable, which would otherwise be
    ignored."""
    known = {variable_name(name): name for name in setting_names()}
    tables: dict[str, Any] = {}
    for variable, value in environment.items():
        name = variable.upper()
        table, _, key = name.removeprefix(_PREFIX).lower().partition(_DELIMITER)
        if not name.startswith(_PREFIX) or name == FILE_VARIABLE:
            continue
        if key and table in _TABLES:
            tables.setdefault(table, {})[key] = value
        elif name in known:
            tables[table] = value
        elif close := close_names(variable, known, lambda other: other.removeprefix(_PREFIX)):
            raise SettingError(f"{variable} in the environment is not a setting; did you mean {' or '.join(close)}?")
    return tables


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return decode_toml(path.read_bytes())
    except OSError as error:
        raise SettingError(f"the settings {path} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise SettingError(f"the settings file {path} {error}") from error


def _merge(table: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    inner = {
        key: _merge(table[key], value)
        for key, value in override.items()
        if isinstance(value, dict) and isinstance(table.get(key), dict)
    }
    return {**table, **override, **inner}


def _describe_fault(path: str, location: tuple[int | str, ...], message: str, kind: str) -> str:
    name = ".".join(map(str, location))
    if kind != "extra_forbidden":
        return f"the setting {name} (in {path}, or the environment): {message}"
    close = close_names(name, setting_names())
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"there is no setting {name} (in {path}, or the environment){hint}"


class SettingSource(StrEnum):
    """Origin of a setting's value."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"
    OPTION = "option"
    """An option of the command, or an argument of a program that uses the library."""


@dataclass(frozen=True, slots=True)
class SourcedSettings:
    """The settings of a process with the source of each value."""

    settings: Settings
    sources: Mapping[str, SettingSource] = field(default_factory=dict)
    """Source by setting name; settings at their defaults are absent."""

    @classmethod
    def read(cls, path: Path | None = None, environment: Mapping[str, str] | None = None) -> SourcedSettings:
        """Like `load_settings`, with the sources; raises SettingError, which names each invalid setting."""
        environment = os.environ if environment is None else environment
        overrides = _read_environment(environment)
        named = environment.get(FILE_VARIABLE, "")
        path = path or (Path(named) if named else None)
        file = _read_file(path) if path else _read_file(Path(FILE)) if Path(FILE).is_file() else {}
        sources: dict[str, SettingSource] = {}
        for tables, source in ((file, SettingSource.FILE), (overrides, SettingSource.ENVIRONMENT)):
            for name, value in tables.items():
                names = [f"{name}.{inner}" for inner in value] if isinstance(value, dict) else [name]
                sources |= dict.fromkeys(names, source)
        try:
            return cls(Settings(**_merge(file, overrides)), sources)
        except ValidationError as error:
            faults = (
                _describe_fault(str(path or FILE), each["loc"], each["msg"], each["type"]) for each in error.errors()
            )
            raise SettingError(
                "; ".join(faults)
            ) from None  # pydantic's own text would show values, a password among them

    @classmethod
    def of_service(cls, service: ServiceSettings) -> SourcedSettings:
        """The settings of a service that only got the table `service`."""
        return cls(Settings()).with_service(service.model_dump(include=service.model_fields_set))

    def with_service(self, options: Mapping[str, Any]) -> SourcedSettings:
        """The same settings, with those of the table `service` overridden by options."""
        service = self.settings.service.model_copy(update=options)
        sources = {f"service.{name}": SettingSource.OPTION for name in options}
        return SourcedSettings(self.settings.model_copy(update={"service": service}), {**self.sources, **sources})


# Descriptions for operators, without secrets

INDEX = "index"
"""The section of the settings outside any table."""

SettingValue = str | float | bool | list[str] | list[float] | None


@dataclass(frozen=True, slots=True)
class SettingDescription:
    """One setting, described for operators."""

    value: SettingValue
    """Value; null if it is unset or a secret."""
    default: SettingValue
    source: SettingSource
    is_secret: bool
    """Whether the value is hidden; `source` shows whether it is set."""
    variable: str
    """Name of the environment variable."""
    description: str


SettingSections = dict[str, dict[str, SettingDescription]]


def describe_settings(sourced: SourcedSettings) -> SettingSections:
    """Every setting, by its table and its name in it."""
    sections: SettingSections = {}
    for name in setting_names():
        table, _, key = name.rpartition(".")
        holder: BaseModel = getattr(sourced.settings, table) if table else sourced.settings
        info = type(holder).model_fields[key]
        value, default = getattr(holder, key), info.default
        is_secret = isinstance(default, SecretStr) or info.json_schema_extra is not None
        is_unset = is_secret and value == default
        sections.setdefault(table or INDEX, {})[key] = SettingDescription(
            None if is_secret else _to_json(value),
            None if is_secret else _to_json(default),
            SettingSource.DEFAULT if is_unset else sourced.sources.get(name, SettingSource.DEFAULT),
            is_secret,
            variable_name(name),
            " ".join((info.description or "").split()),
        )
    return sections


def _to_json(value: object) -> SettingValue:
    match value:
        case None | bool() | int() | float():
            return value
        case Path():
            return str(value)
        case tuple():
            return list(value)
        case str():
            return value or None
    raise TypeError(f"{type(value).__name__} has no JSON form")
