"""Where each setting comes from: the environment, the file, an option, or nobody, so that it has its default."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from service.settings import ServiceSettings, Settings, settings_of, told_settings


class Source(StrEnum):
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
    sources: Mapping[str, Source] = field(default_factory=dict)
    """By a setting's name, of all that are not at their default."""

    @classmethod
    def read(cls, path: Path | None = None) -> SourcedSettings:
        """As `load_settings` reads them; raises as it does."""
        told = told_settings(path)
        sources = dict.fromkeys(_names(told.file), Source.FILE)
        return cls(settings_of(told), sources | dict.fromkeys(_names(told.environment), Source.ENVIRONMENT))

    @classmethod
    def of_service(cls, service: ServiceSettings) -> SourcedSettings:
        """Those of a service that was given no other ones."""
        return cls(Settings()).with_service(service.model_dump(include=service.model_fields_set))

    def with_service(self, given: Mapping[str, Any]) -> SourcedSettings:
        """The same with some of the table `service` said by options."""
        service = self.settings.service.model_copy(update=given)
        said = {f"service.{name}": Source.OPTION for name in given}
        return SourcedSettings(self.settings.model_copy(update={"service": service}), {**self.sources, **said})


def _names(tables: Mapping[str, Any]) -> Iterator[str]:
    for name, value in tables.items():
        if isinstance(value, dict):
            yield from (f"{name}.{inner}" for inner in value)
        else:
            yield name
