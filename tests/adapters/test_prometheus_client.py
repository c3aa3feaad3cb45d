"""Whatever a metrics server does, the client gives values, SourceUnavailable or QueryRejected: nothing else."""

import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from scaler.adapters.prometheus.client import PrometheusClient
from scaler.adapters.prometheus.connection import Connection
from scaler.errors import QueryRejected, SettingsError, SourceUnavailable
from tests.adapters.scripted import ScriptedServer, a_result

ONE = a_result(({"app": "a"}, [(60.0, "1.5")]))
ERROR = {"status": "error", "errorType": "bad_data", "error": 'invalid parameter "query": parse error'}

ANSWERS = {
    # label: (status, body, what is raised, what the message names)
    "bad request": (400, ERROR, QueryRejected, ("400", "parse error", "up{}")),
    "unprocessable": (422, ERROR, QueryRejected, ("422", "parse error", "up{}")),
    "not logged in": (401, b"", QueryRejected, ("401", "credentials")),
    "forbidden": (403, b"no", QueryRejected, ("403", "credentials")),
    "no such path": (404, b"<html>", QueryRejected, ("404", "no query API")),
    "too many requests": (429, b"", SourceUnavailable, ("429",)),
    "server error": (500, b"", SourceUnavailable, ("500",)),
    "bad gateway": (502, b"<html>", SourceUnavailable, ("502",)),
    "unavailable": (503, {"status": "error", "error": "query timed out"}, SourceUnavailable, ("503", "timed out")),
    "not JSON": (200, b"{oops", SourceUnavailable, ("JSONDecodeError",)),
    "nothing": (200, b"", SourceUnavailable, ("JSONDecodeError",)),
    "a web page": (200, b"<html>log in</html>", SourceUnavailable, ("JSONDecodeError",)),
    "another shape": (200, {"status": "success"}, SourceUnavailable, ("no query result",)),
    "a list": (200, [1, 2], SourceUnavailable, ("no query result",)),
    "null data": (200, {"data": None}, SourceUnavailable, ("no query result",)),
    "a scalar": (200, {"data": {"result": [60, "1"]}}, SourceUnavailable, ("no query result",)),
    "no values": (200, {"data": {"result": [{"metric": {}}]}}, SourceUnavailable, ("no query result",)),
    "text for a value": (200, a_result(({}, [(60.0, "many")])), SourceUnavailable, ("no query result", "many")),
    "half a pair": (200, {"data": {"result": [{"metric": {}, "values": [[60]]}]}}, SourceUnavailable, ("no query",)),
    "binary": (200, b"\xff\xfe\x00", SourceUnavailable, ("prometheus",)),
}


def a_client(url: str, **more: object) -> PrometheusClient:
    settings: dict[str, object] = {"timeout_seconds": 30.0, "attempts": 1, "backoff_seconds": 0.001}
    return PrometheusClient(Connection(url=url, **{**settings, **more}))  # type: ignore[arg-type]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as running:
        yield running


@pytest.mark.parametrize("label", ANSWERS)
def test_every_bad_answer_is_a_temporary_or_a_permanent_error(label: str, server: ScriptedServer) -> None:
    status, body, kind, named = ANSWERS[label]
    server.always(body, status)
    with pytest.raises(kind) as raised:
        a_client(server.url).range("up{}", start=60, step=60, n_steps=2)
    assert [part for part in (server.url, *named) if part not in str(raised.value)] == []
    assert raised.value.__cause__ is not None


@pytest.mark.parametrize("label", [label for label in ANSWERS if label not in ("a scalar", "no values", "half a pair")])
def test_instant_queries_map_errors_alike(label: str, server: ScriptedServer) -> None:
    status, body, kind, _ = ANSWERS[label]
    server.always(body, status)
    with pytest.raises(kind):
        a_client(server.url).instant("up{}", at=60)


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        with pytest.raises(SourceUnavailable, match="refused"):
            a_client(f"http://127.0.0.1:{taken.getsockname()[1]}").instant("up", at=0)


def test_a_name_that_does_not_resolve_is_unavailable() -> None:
    with pytest.raises(SourceUnavailable):
        a_client("http://no-such-host.invalid:9090").instant("up", at=0)


def test_a_server_that_accepts_and_says_nothing_is_unavailable_after_the_time_out() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(SourceUnavailable, match="no answer in time"):
            a_client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_seconds=0.1).instant("up", at=0)


@pytest.mark.parametrize("url", ["http://host:port:x", "http://:9090", "http://exa mple"])
def test_an_address_that_cannot_be_asked_is_refused(url: str) -> None:
    with pytest.raises((QueryRejected, SourceUnavailable, SettingsError)):
        a_client(url).instant("up", at=0)


def test_a_temporary_error_is_asked_again_and_a_permanent_one_is_not(server: ScriptedServer) -> None:
    server.always(ONE)
    server.first(b"", 503)
    server.first(b"{oops", 200)
    (line,) = a_client(server.url, attempts=3).range("up", start=60, step=60, n_steps=1)
    assert line.values.tolist() == [1.5]
    assert len(server.asked) == 3
    server.always(ERROR, 400)
    with pytest.raises(QueryRejected):
        a_client(server.url, attempts=3).range("up", start=60, step=60, n_steps=1)
    assert len(server.asked) == 4


def test_it_gives_up_after_the_attempts(server: ScriptedServer) -> None:
    server.always(b"", 500)
    with pytest.raises(SourceUnavailable):
        a_client(server.url, attempts=3).instant("up", at=0)
    assert len(server.asked) == 3


def test_nan_and_infinite_values_arrive_as_such(server: ScriptedServer) -> None:
    server.always(a_result(({}, [(60.0, "NaN"), (120.0, "+Inf"), (180.0, "-Inf"), (240.0, "7")])))
    (line,) = a_client(server.url).range("up", start=60, step=60, n_steps=4)
    np.testing.assert_array_equal(line.values, [np.nan, np.inf, -np.inf, 7])


def test_times_keep_their_milliseconds(server: ScriptedServer) -> None:
    server.always(ONE)
    a_client(server.url).range("up", start=1000.25, step=0.25, n_steps=5)
    params = server.asked[0].params
    assert (params["start"], params["step"]) == ("1000.250", "0.250")
    assert 1001.25 <= float(params["end"]) < 1001.5


def test_long_ranges_are_asked_in_chunks_that_cover_each_step_once(server: ScriptedServer) -> None:
    server.always(a_result())
    a_client(server.url).range("up", start=0, step=15, n_steps=25_000)
    spans = [(float(one.params["start"]), float(one.params["end"])) for one in server.asked]
    steps = [np.arange(start, end, 15) for start, end in spans]
    assert max(map(len, steps)) <= 10_000
    np.testing.assert_array_equal(np.concatenate(steps), 15.0 * np.arange(25_000))


@pytest.mark.parametrize(("patient", "n_queries"), [(True, 8), (False, 40)])
def test_many_endpoints_make_shorter_chunks(patient: bool, n_queries: int, server: ScriptedServer) -> None:
    server.always(a_result())
    a_client(server.url).range("up", start=0, step=15, n_steps=4000, n_series=1000, patient=patient)
    assert len(server.asked) == n_queries


def test_headers_go_with_every_request(server: ScriptedServer) -> None:
    server.always(ONE)
    client = a_client(server.url, headers={"X-Scope-OrgID": "team-ml"})
    client.range("up", start=60, step=60, n_steps=1)
    assert [one.headers["X-Scope-OrgID"] for one in server.asked] == ["team-ml"]


def test_a_partial_answer_is_not_asked_for(server: ScriptedServer) -> None:
    server.always(ONE)
    a_client(server.url).range("up", start=60, step=60, n_steps=1)
    assert server.asked[0].params["partial_response"] == "false"


def test_a_path_in_the_address_is_kept(server: ScriptedServer) -> None:
    server.always(ONE)
    a_client(f"{server.url}/prometheus/").range("up", start=60, step=60, n_steps=1)
    assert server.asked[0].path == "/prometheus/api/v1/query_range"


def test_basic_and_bearer_credentials_are_sent(server: ScriptedServer) -> None:
    server.always(ONE)
    a_client(server.url, username="ann", password="s3cret").range("up", start=60, step=60, n_steps=1)
    a_client(server.url, bearer_token="t0ken").range("up", start=60, step=60, n_steps=1)
    assert [one.headers["Authorization"] for one in server.asked] == ["Basic YW5uOnMzY3JldA==", "Bearer t0ken"]


def test_a_token_file_is_read_for_each_request(server: ScriptedServer, tmp_path: Path) -> None:
    server.always(ONE)
    token = tmp_path / "token"
    token.write_text("one\n")
    client = a_client(server.url, bearer_token_file=token)
    client.range("up", start=60, step=60, n_steps=1)
    token.write_text("two\n")
    client.range("up", start=60, step=60, n_steps=1)
    assert [one.headers["Authorization"] for one in server.asked] == ["Bearer one", "Bearer two"]
    token.unlink()
    with pytest.raises(SourceUnavailable, match="token"):
        client.range("up", start=60, step=60, n_steps=1)


def test_secrets_do_not_show() -> None:
    shown = repr(Connection(url="http://h:1", headers={"X-Key": "s3cret"}, username="ann", password="s3cret"))
    shown += repr(Connection(url="http://h:1", bearer_token="s3cret"))
    assert "s3cret" not in shown


REFUSED_SETTINGS = {
    "no scheme": {"url": "prometheus:9090"},
    "two credentials": {"bearer_token": "t", "username": "u"},
    "certificate without key": {"client_certificate": Path(__file__)},
    "absent file": {"ca_certificate": Path("/nowhere/ca.pem")},
    "no patience": {"timeout_seconds": 0.0},
}


@pytest.mark.parametrize("label", REFUSED_SETTINGS)
def test_settings_that_cannot_work_are_refused(label: str) -> None:
    with pytest.raises(SettingsError):
        Connection(**{"url": "http://127.0.0.1:9090", **REFUSED_SETTINGS[label]})  # type: ignore[arg-type]


def test_mutual_tls_presents_the_client_certificate(tmp_path: Path) -> None:
    """One self-signed certificate is authority, server and client at once."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs the program openssl to make a certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    with ScriptedServer(context=context) as server:
        server.always(ONE)
        trusted = {"ca_certificate": certificate}
        with pytest.raises(SourceUnavailable):
            a_client(server.url, **trusted).range("up", start=60, step=60, n_steps=1)
        with pytest.raises(SourceUnavailable, match="SSL"):
            a_client(server.url, client_certificate=certificate, client_key=key).range(
                "up", start=60, step=60, n_steps=1
            )
        client = a_client(server.url, client_certificate=certificate, client_key=key, **trusted)
        assert len(client.range("up", start=60, step=60, n_steps=1)) == 1
