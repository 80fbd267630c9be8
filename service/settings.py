"""The settings of a program that uses an index: read from a TOML file and the environment, and checked.

docs/settings.md lists them. The file is `shelfwise.toml` in the working directory, or the one that `SHELFWISE_SETTINGS`
names; the environment goes before it.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
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

from retrieval.close_names import close_names
from retrieval.cluster_settings import ClusterSettings
from retrieval.errors import SettingError
from retrieval.events.masking import REGIONS, is_region

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
        regions = tuple(map(str.upper, listed(self.phone_regions)))
        for region in regions:
            if not is_region(region):
                raise SettingError(f"events.phone_regions: {region} is no region; they are named as in US, GB, DE, CN")
        return regions


def _event_weights(given: object) -> object:
    """What a click, a cart and a purchase are worth, adding up to 1; raises ValueError for what cannot be."""
    if given is None:
        return None
    told = given.split(",") if isinstance(given, str) else given
    try:
        click, cart, purchase = (float(each) for each in told)  # type: ignore[attr-defined]  # else a TypeError
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
        return listed(self.cors_origins)

    @property
    def proxies(self) -> tuple[str, ...]:
        """The addresses that are believed when they tell whom they speak for."""
        return listed(self.trusted_proxies)

    @property
    def worker_threads(self) -> int:
        """The threads that answer."""
        return self.threads or len(os.sched_getaffinity(0))


def listed(given: str | tuple[str, ...]) -> tuple[str, ...]:
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
            urls=listed(given.url),
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
    return settings_of(told_settings(path, environment))


@dataclass(frozen=True, slots=True, repr=False)
class Told:
    """What a file and the environment say, each as tables, not checked yet. Passwords are in it: it has no repr."""

    where: str
    """The file."""
    file: Mapping[str, Any]
    environment: Mapping[str, Any]


def told_settings(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Told:
    """What is said where `load_settings` looks; raises SettingError for what cannot be read."""
    environment = os.environ if environment is None else environment
    _check_variables(environment)
    named = environment.get(FILE_VARIABLE, "")
    path = path or (Path(named) if named else None)
    read = _read(path) if path else _read(Path(FILE)) if Path(FILE).is_file() else {}
    try:
        source = EnvSettingsSource(Settings)
        source.env_vars = {name.lower(): value for name, value in environment.items()}
        return Told(str(path or FILE), read, source())
    except SettingsError as error:
        raise SettingError(f"a variable that begins with SHELFWISE_ cannot be read: {error}") from None


def settings_of(told: Told) -> Settings:
    """The settings that were told; raises SettingError, which names the setting."""
    try:
        return Settings(**_merged(told.file, told.environment))
    except ValidationError as error:
        faults = "; ".join(_fault(told.where, each["loc"], each["msg"], each["type"]) for each in error.errors())
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


def _merged(table: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    inner = {
        key: _merged(table[key], value)
        for key, value in above.items()
        if isinstance(value, dict) and isinstance(table.get(key), dict)
    }
    return {**table, **above, **inner}


def _fault(where: str, place: tuple[int | str, ...], what: str, kind: str) -> str:
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
