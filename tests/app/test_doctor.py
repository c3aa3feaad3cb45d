"""What doctor finds: each thing is looked at, whatever became of the others."""

import json
from pathlib import Path

import pytest

from scaler.adapters.addresses import without_password
from scaler.adapters.clock import SystemClock
from scaler.adapters.store.store import SqlStore
from scaler.app.cli.options import show, table
from scaler.app.doctor import Finding, examine
from scaler.app.settings import load_settings
from scaler.errors import SettingsError
from tests.adapters.scripted import ScriptedServer

HEAD = "apiVersion: headstart.dev/v1alpha1\nkind: InferenceScalingPolicy\nmetadata: {name: NAME, namespace: prod}\n"
NOTHING_SEEN = b'{"status": "success", "data": {"resultType": "matrix", "result": []}}'


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "chat.yaml").write_text(HEAD.replace("NAME", "chat"))
    return folder


def found(tmp_path: Path, policies: Path, url: str) -> dict[str, Finding]:
    """By what was looked at; there is no kubeconfig, so the cluster cannot be reached."""
    settings = load_settings(
        policies=policies, store=f"sqlite:///{tmp_path}/a.db", prometheus_url=url, kubeconfig=tmp_path / "nowhere"
    )
    return {one.what: one for one in examine(settings)}


def test_a_broken_policy_file_is_told_beside_the_good_ones(tmp_path: Path, policies: Path) -> None:
    (policies / "image.yaml").write_text(HEAD.replace("NAME", "image") + "spec: {replicas: {max: none}}\n")
    seen = found(tmp_path, policies, "http://127.0.0.1:1")
    assert (seen["policies"].fine, seen["policies"].found[:4]) == (True, "1 in")
    assert not seen["policy"].fine
    assert "image.yaml line 4: spec.replicas.max: found none" in seen["policy"].found


def test_without_a_cluster_policies_and_metrics_are_looked_at_all_the_same(tmp_path: Path, policies: Path) -> None:
    with ScriptedServer() as server:
        server.always(NOTHING_SEEN)
        seen = found(tmp_path, policies, server.url)
        assert {what: one.fine for what, one in seen.items()} == {
            "store": True,
            "policies": True,
            f"metrics {server.url}": True,
            "demand prod/chat": False,
            "cluster": False,
        }
    assert "cannot connect to a cluster with" in seen["cluster"].found


@pytest.mark.parametrize(
    ("pools", "fine", "said"),
    [
        ("a100=8", True, "8 GPUs for 1 policies"),
        ("a100=1", False, "1 GPUs, and the spec.replicas.min of its 1 policies need 2"),
        ("h100=8", False, "no policy draws from it; spec.target.pool is a100"),
    ],
)
def test_a_pool_that_nobody_draws_from_or_that_is_too_small_is_told(
    tmp_path: Path, policies: Path, pools: str, fine: bool, said: str
) -> None:
    spec = "spec: {target: {pool: a100, gpusPerReplica: 2}, replicas: {min: 1}}\n"
    (policies / "chat.yaml").write_text(HEAD.replace("NAME", "chat") + spec)
    settings = load_settings(
        policies=policies,
        store=f"sqlite:///{tmp_path}/a.db",
        prometheus_url="http://127.0.0.1:1",
        kubeconfig=tmp_path / "nowhere",
        pools=pools,
    )
    pools_found = {one.what: one for one in examine(settings) if one.what.startswith("pool ")}
    pool = pools_found[f"pool {pools.partition('=')[0]}"]
    assert (pool.fine, said in pool.found) == (fine, True), pool.found
    assert ("no limit" in pools_found["pool a100"].found) is not pools.startswith("a100")


def test_demand_is_told_in_its_unit_and_a_level_is_no_rate(tmp_path: Path, policies: Path) -> None:
    now = int(SystemClock().now().timestamp())
    samples = [[at, "3"] for at in range(now - now % 15 - 86_400, now + 1, 15)]
    lines = [{"metric": {"namespace": "prod", "service": "chat"}, "values": samples, "value": samples[-1]}]
    answer = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": lines}}).encode()
    for unit, told in (("requests", "mean 3 requests/s"), ("concurrency", "mean 3 concurrency")):
        (policies / "chat.yaml").write_text(f"{HEAD.replace('NAME', 'chat')}spec: {{demand: {{unit: {unit}}}}}\n")
        with ScriptedServer() as server:
            server.always(answer)
            assert found(tmp_path, policies, server.url)["demand prod/chat"].found.endswith(told)


def test_without_policies_it_says_what_could_not_be_asked(tmp_path: Path, policies: Path) -> None:
    (policies / "chat.yaml").write_text("spec: {\n")
    seen = found(tmp_path, policies, "http://127.0.0.1:1")
    assert "not YAML" in seen["policies"].found
    assert "no policy to ask for" in seen["metrics http://127.0.0.1:1"].found


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///headstart.db", "sqlite:///headstart.db"),
        ("postgresql+psycopg://scaler@db/headstart", "postgresql+psycopg://scaler@db/headstart"),
        ("mysql://u:secret@127.0.0.1:1/x", "mysql://u:***@127.0.0.1:1/x"),
        ("mysql://u:se@c/ret@db:1/x", "mysql://u:***@db:1/x"),
        ("https://:secret@prometheus:9090", "https://:***@prometheus:9090"),
        ("cannot use 'mysql://u:secret@db/x' here", "cannot use 'mysql://u:***@db/x' here"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize("url", ["bogus://u:secret@127.0.0.1:1/x", "mysql+nothing://u:secret@db/x"])
def test_the_error_about_a_store_does_not_tell_its_password(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        SqlStore.open(url)
    assert "secret" not in str(refused.value)
    assert "***" in str(refused.value)


def test_doctor_does_not_tell_the_password_of_the_metrics_server(tmp_path: Path, policies: Path) -> None:
    seen = found(tmp_path, policies, "http://u:secret@127.0.0.1:1")
    assert "secret" not in "".join(one.what + one.found for one in seen.values())


@pytest.mark.parametrize("text", ["headstart[postgres]", "chat[prod]", "[/red]", "[red]x", ":warning:"])
def test_what_people_wrote_is_shown_as_they_wrote_it(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = table("what")
    rows.add_row(text)
    show(rows)
    show(text)
    assert [line.strip() for line in capsys.readouterr().out.splitlines()] == ["what", text, text]
