"""Connection settings of an Elasticsearch cluster, validated. Importing it loads no client."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from shelfwise.retrieval.errors import SettingError

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,199}", re.ASCII)
_LONGEST_DEADLINE = 60.0


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Connection settings; its repr does not contain secrets."""

    urls: tuple[str, ...]
    alias: str = "shelfwise"
    """The alias of the serving index; the index of a version is named `ALIAS-VERSION`."""
    username: str = ""
    password: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)
    ca_certificate: Path | None = None
    deadline: float = 1.0
    """The time limit of one request of a search, in seconds."""
    shards: int = 1
    replicas: int | None = None
    """The number of replicas; None means one if there are two or more nodes."""

    @property
    def copies(self) -> dict[str, object]:
        """The index setting for the number of replicas."""
        if self.replicas is None:
            return {"auto_expand_replicas": "0-1"}
        return {"number_of_replicas": self.replicas}

    def __post_init__(self) -> None:
        """Raises SettingError for invalid settings."""
        if not self.urls:
            raise SettingError("elasticsearch.url is not set; name the cluster, such as http://localhost:9200")
        for url in self.urls:
            _check_url(url)
        if not _NAME.fullmatch(self.alias):
            raise SettingError(
                f"elasticsearch.alias is {self.alias!r}; it may have lower-case letters, digits, '.', '_' and '-', and "
                f"must begin with a letter or a digit"
            )
        if self.api_key and self.password:
            raise SettingError("elasticsearch.api_key and elasticsearch.password are both set; leave one of them out")
        if bool(self.username) != bool(self.password):
            raise SettingError("elasticsearch.username and elasticsearch.password go together; one of them is not set")
        if self.ca_certificate and not self.ca_certificate.is_file():
            raise SettingError(f"elasticsearch.ca_certificate is {self.ca_certificate}, which does not exist")
        if not 0 < self.deadline <= _LONGEST_DEADLINE:
            raise SettingError(
                f"elasticsearch.deadline is {self.deadline}; it can be up to {_LONGEST_DEADLINE:g} seconds"
            )


def _check_url(url: str) -> None:
    if "@" in url:  # never shown: the part before it may be a password
        raise SettingError(
            "elasticsearch.url has a name or a password; set elasticsearch.username and elasticsearch.password"
        )
    if not re.fullmatch(r"https?://(\[[0-9a-fA-F:.]+\]|[^/:\s]+)(:\d+)?(/\S*)?", url):
        raise SettingError(f"elasticsearch.url is {url!r}; it must be like https://search.example:9200")
