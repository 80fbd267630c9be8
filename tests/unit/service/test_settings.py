"""Settings of the file and the environment: precedence, errors that name the setting, and hidden secrets."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from shelfwise.retrieval.elasticsearch.client import Cluster
from shelfwise.retrieval.errors import SettingError
from shelfwise.service.settings import (
    ElasticsearchSettings,
    Settings,
    adjacent_settings,
    load_settings,
    setting_names,
    variable_name,
)
from tests.unit.service.cli import commands

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"
SECRET = "hush-hush"
URLS = ("http://one.example:9200", "http://two.example:9200")

EXAMPLES: dict[str, tuple[str, str, object, str, str | None]] = {
    "backend": ('"elasticsearch"', "elasticsearch", "elasticsearch", '"solr"', "solr"),
    "elasticsearch.url": ('"http://one.example:9200"', "http://one.example:9200", URLS[:1], "5", None),
    "events.phone_regions": ('"de"', "de", ("DE",), '["XX"]', "XX"),
    "elasticsearch.ca_certificate": ('"ca.pem"', "ca.pem", Path("ca.pem"), "5", None),
    "elasticsearch.deadline": ("2.5", "2.5", 2.5, "0", "soon"),
    "service.requests_per_minute_key": ("7", "7", 7, "0", "7" * 400),
    "service.cors_origins": ('"https://a.example"', "https://a.example", ("https://a.example",), "5", None),
    "service.pages": ("false", "no", False, "2", "perhaps"),
    "service.shopify_secret": (f'"{SECRET}"', SECRET, SecretStr(SECRET), "5", None),
    "store.colour": ('"#2b5c8a"', "#2b5c8a", "#2b5c8a", '"blue"', "#2b5c8a; x"),
}
"""A setting of each type in the file, in the environment, and its value; then an invalid value for each of the two."""


def in_file(name: str, value: str) -> str:
    table, _, key = name.rpartition(".")
    return f"[{table}]\n{key} = {value}\n" if table else f"{key} = {value}\n"


def value_of(settings: Settings, name: str) -> object:
    found: Any = settings
    for part in name.split("."):
        found = getattr(found, part)
    return found


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working directory without a settings file, and an environment without our variables."""
    monkeypatch.chdir(tmp_path)
    for name in (*map(variable_name, setting_names()), "SHELFWISE_SETTINGS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


def test_service_reads_the_file_beside_the_index_if_there_is_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "demo-store"
    folder.mkdir()
    assert adjacent_settings(folder / "index") is None
    beside = folder / "shelfwise.toml"
    beside.touch()
    assert adjacent_settings(folder / "index") == beside
    monkeypatch.chdir(folder)
    assert adjacent_settings(Path("index")) is None, "it is read anyway"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHELFWISE_SETTINGS", "other.toml")
    assert adjacent_settings(folder / "index") is None


def refusal(path: Path | None, environment: dict[str, str]) -> str:
    with pytest.raises(SettingError) as caught:
        load_settings(path, environment)
    assert SECRET not in str(caught.value)
    return str(caught.value)


def test_defaults_without_variables_of_settings() -> None:
    assert load_settings(None, {"SHELFWISE_LOG_LEVEL": "x", "BACKEND": "solr"}) == Settings()
    with pytest.raises(SettingError, match=r"elasticsearch\.url is not set"):
        _ = Settings().cluster


@pytest.mark.parametrize("name", EXAMPLES)
class TestSettings:
    def test_environment_overrides_the_file(self, name: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        in_table, in_environment, value, other, _ = EXAMPLES[name]
        file.write_text(in_file(name, in_table))
        assert value_of(load_settings(file, {}), name) == value
        file.write_text(in_file(name, other))
        for path in (file, None):
            assert value_of(load_settings(path, {variable_name(name): in_environment}), name) == value
        monkeypatch.setenv(variable_name(name), in_environment)
        assert value_of(load_settings(), name) == value
        assert value_of(load_settings(environment={}), name) == value_of(Settings(), name)

    def test_invalid_value_error_names_the_setting(self, name: str, file: Path) -> None:
        *_, in_table, in_environment = EXAMPLES[name]
        file.write_text(in_file(name, in_table))
        assert f"the setting {name} (in {file}, or the environment): " in refusal(file, {})
        if in_environment is not None:
            assert f"the setting {name} (in " in refusal(None, {variable_name(name): in_environment})


def test_file_and_environment_fill_one_table_together(file: Path) -> None:
    file.write_text(f'[elasticsearch]\npassword = "{SECRET}"\nurl = "http://one.example:9200"\nalias = "shop"\n')
    environment = {"SHELFWISE_ELASTICSEARCH__ALIAS": "other", "SHELFWISE_ELASTICSEARCH__USERNAME": "me"}
    cluster = load_settings(file, environment).cluster
    assert (cluster.urls, cluster.alias, cluster.username, cluster.password) == (URLS[:1], "other", "me", SECRET)


class TestUrls:
    def test_several_urls_are_accepted(self, file: Path) -> None:
        for value in (f'["{URLS[0]}", "{URLS[1]}"]', f'"{", ".join(URLS)}"'):
            file.write_text(in_file("elasticsearch.url", value))
            assert load_settings(file, {}).cluster.urls == URLS
        for value in (",".join(URLS), f" {URLS[0]} ,, {URLS[1]},", f'["{URLS[0]}", "{URLS[1]}"]'):
            assert load_settings(None, {"SHELFWISE_ELASTICSEARCH__URL": value}).cluster.urls == URLS

    @pytest.mark.parametrize(
        ("url", "params"),
        [
            ("http://one.example", "http://one.example:9200"),
            ("https://one.example", "https://one.example:443"),
            ("https://one.example/search/", "https://one.example:443/search"),
            ("http://one.example:9201/search", "http://one.example:9201/search"),
            ("http://[::1]", "http://[::1]:9200"),
        ],
    )
    def test_default_port_is_used(self, url: str, params: str) -> None:
        settings = Settings(elasticsearch=ElasticsearchSettings(url=(url,))).cluster
        assert settings.urls == (url,)
        with closing(Cluster(settings)) as cluster:
            assert [node.base_url for node in cluster._client.transport.node_pool.all()] == [params]

    @pytest.mark.parametrize(
        "url",
        [
            f"http://me:{SECRET}@one.example:9200",
            f"http://me:{SECRET}/{SECRET}@one.example:9200",
            f"http://me:9/{SECRET}@one.example:9200",
            f"me:{SECRET}@one.example:9200",
            f"me@{SECRET}@one.example:9200",
            f"http://me:a,{SECRET}@one.example",
            f"http://one.example/?key={SECRET}",
            f"http://one.example/#{SECRET}",
        ],
    )
    def test_url_with_a_password_is_refused_and_not_shown(self, url: str) -> None:
        message = refusal(None, {"SHELFWISE_ELASTICSEARCH__URL": f"{URLS[0]},{url}"})
        assert message.endswith("an address may have no user name, password or query string")


class TestFile:
    def test_file_is_found_by_argument_environment_and_working_directory(self, elsewhere: Path, file: Path) -> None:
        (elsewhere / "shelfwise.toml").write_text('backend = "embedded"')
        file.write_text('backend = "elasticsearch"')
        assert load_settings(environment={}).backend == "embedded"
        assert load_settings(environment={"SHELFWISE_SETTINGS": str(file)}).backend == "elasticsearch"
        assert load_settings(file, {"SHELFWISE_SETTINGS": "shelfwise.toml"}).backend == "elasticsearch"

    def test_named_file_must_exist(self, file: Path) -> None:
        assert f"the settings {file} cannot be read (No such file" in refusal(file, {})
        assert "nowhere.toml cannot be read" in refusal(None, {"SHELFWISE_SETTINGS": "nowhere.toml"})

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (f'password = "{SECRET}'.encode(), "valid TOML"),
            (f'[elasticsearch]\npassword: "{SECRET}"'.encode(), "valid TOML"),
            (b"\xff\xfe", "valid UTF-8"),
        ],
    )
    def test_invalid_toml_file_is_named(self, file: Path, content: bytes, problem: str) -> None:
        file.write_bytes(content)
        assert f"the settings file {file} is not {problem}" in refusal(file, {})

    @pytest.mark.parametrize("digits", [20, 400, 5_000])
    def test_integer_of_more_than_64_bits_is_refused(self, file: Path, digits: int) -> None:
        file.write_text(f"[service]\nrequests_per_minute_key = {'7' * digits}")
        assert f"the settings file {file} has an integer of more than 64 bits" in refusal(file, {})


class TestUnknownNames:
    @pytest.mark.parametrize(
        ("content", "name", "correction"),
        [
            ('bakend = "embedded"', "bakend", "backend"),
            ('[elasticsearch]\nurls = "x"', "elasticsearch.urls", "elasticsearch.url"),
            (f'[elasticsearch]\npasswort = "{SECRET}"', "elasticsearch.passwort", "elasticsearch.password"),
        ],
    )
    def test_unknown_name_in_the_file_is_refused(self, file: Path, content: str, name: str, correction: str) -> None:
        file.write_text(content)
        message = refusal(file, {})
        assert f"there is no setting {name} (in {file}, or the environment); did you mean {correction}" in message

    @pytest.mark.parametrize(
        ("name", "correction"),
        [
            ("SHELFWISE_BAKEND", "SHELFWISE_BACKEND"),
            ("SHELFWISE_ELASTICSEARCH_URL", "SHELFWISE_ELASTICSEARCH__URL"),
            ("SHELFWISE_ELASTICSEARCH_PASSWORD", "SHELFWISE_ELASTICSEARCH__PASSWORD"),
        ],
    )
    def test_unknown_name_in_the_environment_is_refused(self, name: str, correction: str) -> None:
        message = refusal(None, {name: SECRET})
        assert message.startswith(f"{name} in the environment is not a setting; did you mean {correction}")

    def test_all_errors_are_reported_together(self, file: Path) -> None:
        file.write_text('backend = "solr"\nzzz = 1\n[elasticsearch]\nshards = 0\n')
        message = refusal(file, {})
        assert all(name in message for name in ("backend", "elasticsearch.shards"))
        assert f"there is no setting zzz (in {file}, or the environment)" in message.split("; ")  # no name is similar


class TestSecrets:
    @pytest.mark.parametrize(
        "content",
        [
            f'elasticsearch = "{SECRET}"',
            f'[elasticsearch]\npassword = ["{SECRET}"]',
            f'[elasticsearch.password]\nvalue = "{SECRET}"',
            f'[elasticsearch]\nurl = {{ password = "{SECRET}" }}',
            f'[elasticsearch]\napi_key = "{SECRET}"\nshards = 0',
        ],
    )
    def test_errors_contain_no_secret(self, file: Path, content: str) -> None:
        file.write_text(content)
        refusal(file, {})

    def test_representation_contains_no_secret(self) -> None:
        environment = {"SHELFWISE_ELASTICSEARCH__PASSWORD": SECRET, "SHELFWISE_ELASTICSEARCH__API_KEY": SECRET}
        settings = load_settings(None, environment)
        assert SECRET not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"


class TestPage:
    def test_the_command_lists_them(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "shelfwise.toml").write_text("[service]\nport = 8081\n")
        assert "service.port = 8081 (file)" in commands.shown("settings")
        assert len(re.findall(r"^[a-z_.]+ = .*\(\w+\)$", commands.shown("settings"), re.MULTILINE)) == len(
            setting_names()
        )

    def test_example_file_is_valid(self, file: Path, tmp_path: Path) -> None:
        (example,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
        (tmp_path / "ca.pem").touch()
        file.write_text(example.replace("/etc/shelfwise/ca.pem", str(tmp_path / "ca.pem")))
        settings = load_settings(file, {"SHELFWISE_ELASTICSEARCH__PASSWORD": SECRET})
        assert settings.backend == "elasticsearch"
        assert len(settings.cluster.urls) == 2

    def test_environment_names_in_the_docs_are_correct(self) -> None:
        named = set(re.findall(r"export (\w+)=", PAGE.read_text("utf-8")))
        assert named <= set(map(variable_name, setting_names()))
        assert named
