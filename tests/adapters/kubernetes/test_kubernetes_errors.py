"""No error of the Kubernetes client or its transport leaves the adapter untranslated."""

import json

import pytest
import urllib3
from kubernetes.client.exceptions import ApiException, ApiTypeError
from kubernetes.config.config_exception import ConfigException

from scaler.adapters.kubernetes.client import FOREIGN_ERRORS, ClusterAccess, connect, seconds_before_retry, translated
from scaler.errors import (
    ClusterUnavailable,
    Conflict,
    Forbidden,
    HeadstartError,
    OrderRejected,
    SettingsError,
    TargetNotFound,
)

EXPECTED = {
    400: OrderRejected,
    401: Forbidden,
    403: Forbidden,
    404: TargetNotFound,
    405: OrderRejected,
    408: ClusterUnavailable,
    409: Conflict,
    410: ClusterUnavailable,
    422: OrderRejected,
    429: ClusterUnavailable,
    500: ClusterUnavailable,
    502: ClusterUnavailable,
    503: ClusterUnavailable,
    504: ClusterUnavailable,
    302: ClusterUnavailable,
}


@pytest.mark.parametrize(("status", "ours"), EXPECTED.items())
def test_each_status_becomes_one_of_our_errors_with_the_servers_words(status: int, ours: type[HeadstartError]) -> None:
    theirs = ApiException(status=status, reason="Because")
    theirs.body = json.dumps({"message": "the server's words"})
    error = translated(theirs, "scale of deployments/chat in prod")
    assert type(error) is ours
    assert "scale of deployments/chat in prod" in str(error)
    assert "the server's words" in str(error)


@pytest.mark.parametrize(
    "body", ["404 page not found\n", "<html>\n  <body>502\tBad Gateway</body>\n</html>\n", '{"message": "two\\nlines"}']
)
def test_what_the_server_or_a_proxy_said_stands_on_one_line(body: str) -> None:
    theirs = ApiException(status=404, reason="Not Found")
    theirs.body = body
    said = str(translated(theirs, "policies"))
    assert "\n" not in said
    assert said == said.strip()


@pytest.mark.parametrize("status", range(300, 600))
def test_every_error_status_has_a_translation(status: int) -> None:
    theirs = ApiException(status=status)
    theirs.body = "<html>"
    assert isinstance(translated(theirs, "x"), HeadstartError)


def foreign_errors() -> list[type[BaseException]]:
    def below(kind: type[BaseException]) -> list[type[BaseException]]:
        return [kind, *(found for child in kind.__subclasses__() for found in below(child))]

    return below(urllib3.exceptions.HTTPError)


@pytest.mark.parametrize("kind", foreign_errors(), ids=lambda kind: kind.__name__)
def test_every_transport_error_is_caught_and_means_the_cluster_is_unavailable(kind: type[BaseException]) -> None:
    assert issubclass(kind, FOREIGN_ERRORS)
    worded = type("Worded", (kind,), {"__init__": lambda self: None, "__str__": lambda self: "words"})
    assert isinstance(translated(worded(), "x"), ClusterUnavailable)


@pytest.mark.parametrize("error", [ApiTypeError("t"), ConfigException("c"), OSError("o"), ValueError("not JSON")])
def test_what_else_the_client_raises_means_the_cluster_is_unavailable(error: BaseException) -> None:
    assert isinstance(error, FOREIGN_ERRORS)
    assert isinstance(translated(error, "x"), ClusterUnavailable)


@pytest.mark.parametrize(
    ("label", "cause", "pause_seconds"),
    [
        ("busy without advice", ApiException(status=429), 0.2),
        ("failing", ApiException(status=503), 0.2),
        ("not found is final", ApiException(status=404), None),
        ("refused connection", urllib3.exceptions.NewConnectionError(None, "refused"), 0.2),  # type: ignore[arg-type]
        ("dropped connection", urllib3.exceptions.ProtocolError("aborted"), 0.2),
        ("time-out", urllib3.exceptions.ReadTimeoutError(None, "", "slow"), None),  # type: ignore[arg-type]
        ("something else", ValueError("not JSON"), None),
    ],
)
def test_only_reads_that_may_succeed_in_a_moment_are_tried_again(
    label: str, cause: BaseException, pause_seconds: float | None
) -> None:
    assert seconds_before_retry(cause, attempt=1) == pause_seconds, label


@pytest.mark.parametrize(("asked_for", "pause_seconds"), [("1", 1.0), ("2", 2.0), ("60", None), ("soon", 0.1)])
def test_the_pause_that_the_server_asks_for_is_kept_or_the_turn_is_given_up(
    asked_for: str, pause_seconds: float | None
) -> None:
    busy = ApiException(status=429)
    busy.headers = {"Retry-After": asked_for}
    assert seconds_before_retry(busy, attempt=0) == pause_seconds


def test_a_kubeconfig_that_is_not_there_is_a_settings_error_naming_it(tmp_path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.yaml"):
        connect(ClusterAccess(kubeconfig=str(tmp_path / "nowhere.yaml")))
