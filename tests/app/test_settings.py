"""Settings from flags and environment."""

from datetime import timedelta
from pathlib import Path

import pytest

from scaler.app.settings import InCluster, load_settings
from scaler.errors import SettingsError


def test_a_flag_beats_the_environment_and_the_environment_beats_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().turn == timedelta(seconds=15)
    monkeypatch.setenv("HEADSTART_TURN", "30s")
    assert load_settings().turn == timedelta(seconds=30)
    assert load_settings(turn="1m", http=None).turn == timedelta(minutes=1)


def test_an_empty_variable_was_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_HTTP", "")
    assert load_settings().http == ("127.0.0.1", 8080)


def test_addresses_headers_and_paths_are_read_from_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_PROMETHEUS_HEADERS", "X-Scope-OrgID=team-a, X-Other=1")
    monkeypatch.setenv("HEADSTART_HTTP", "[::1]:9000")
    settings = load_settings(policies="somewhere", pools="a100=64, h100=16")
    assert settings.pools == {"a100": 64, "h100": 16}
    assert settings.prometheus_headers == {"X-Scope-OrgID": "team-a", "X-Other": "1"}
    assert settings.http == ("::1", 9000)
    assert settings.policies == Path("somewhere")


@pytest.mark.parametrize(
    ("value", "policies"),
    [
        ("cluster", InCluster()),
        ("cluster:prod", InCluster("prod")),
        ("./cluster", Path("cluster")),
        ("clusters", Path("clusters")),
    ],
)
def test_policies_stand_in_the_cluster_or_in_files(
    monkeypatch: pytest.MonkeyPatch, value: str, policies: Path | InCluster
) -> None:
    monkeypatch.setenv("HEADSTART_POLICIES", value)
    assert load_settings().policies == policies
    assert load_settings(policies=value).policies == policies


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("policies", "cluster:", ["--policies", "'cluster:'", "cluster:NAMESPACE"]),
        ("turn", "soon", ["--turn", "'soon'", "30s, 5m, 2h"]),
        ("turn", "0s", ["--turn", "'0s'", "greater than 0s"]),
        ("keep", "1m", ["--keep", "'1m'", "at least 1h"]),
        ("pools", "a100", ["--pools", "'a100'", "POOL=GPUS"]),
        ("pools", ",", ["--pools", "','", "POOL=GPUS"]),
        ("pools", "a100=many", ["--pools", "POOL=GPUS"]),
        ("pools", "a100=\N{SUPERSCRIPT TWO}", ["--pools", "POOL=GPUS"]),
        ("pools", "a100=1,a100=2", ["--pools", "each pool once"]),
        ("http", "8080", ["--http", "'8080'", "HOST:PORT"]),
        ("keda", "8081", ["--keda", "'8081'", "HOST:PORT"]),
        ("http", "localhost:99999", ["--http", "HOST:PORT"]),
        ("time_scale", "-2", ["--time-scale", "'-2'"]),
        ("log_level", "loud", ["--log-level", "'loud'", "'debug', 'info', 'warning' or 'error'"]),
        ("prometheus_headers", "novalue", ["--prometheus-headers", "NAME=VALUE"]),
    ],
)
def test_a_value_that_cannot_be_used_names_flag_value_and_what_is_allowed(
    name: str, value: str, words: list[str]
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(**{name: value})
    for word in words:
        assert word in str(caught.value)


def test_a_bad_variable_is_named_as_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_KEEP", "for ever")
    with pytest.raises(SettingsError, match=r"^HEADSTART_KEEP: found 'for ever'"):
        load_settings()


def test_service_time_runs_faster_than_the_wall_in_a_rehearsal() -> None:
    settings = load_settings(time_scale=60)
    assert settings.wall_turn_seconds == 0.25
    assert settings.wall_seconds(timedelta(hours=1)) == 60


def test_a_password_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_PROMETHEUS_PASSWORD", "hunter2")
    settings = load_settings()
    assert "hunter2" not in repr(settings)
    assert settings.prometheus_password.get_secret_value() == "hunter2"
