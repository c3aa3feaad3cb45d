"""JSON in, JSON out, and only errors of `scaler.errors`: the one module that imports the Kubernetes client.

Reads are tried again for a moment where the server was busy or away; writes never are, because a write whose answer was
lost may have happened: the next turn reads what is true.
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException, OpenApiException
from kubernetes.config.config_exception import ConfigException

from scaler.errors import (
    ClusterUnavailable,
    Conflict,
    Forbidden,
    HeadstartError,
    OrderRejected,
    SettingsError,
    TargetNotFound,
)

Json = dict[str, Any]
PARALLEL_REQUESTS = 8
READ_ATTEMPTS = 3
LONGEST_PAUSE_SECONDS = 2.0
"""A server that asks for a longer pause is left alone until the next turn."""
PODS_PER_PAGE = 500
FOREIGN_ERRORS = (OpenApiException, urllib3.exceptions.HTTPError, ConfigException, OSError, ValueError)
"""Everything the client, its transport and its credential helpers raise (ValueError: an answer that is not JSON)."""
_BUSY = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}


@dataclass(frozen=True, kw_only=True)
class ClusterAccess:
    """Which cluster, as whom. Without a kubeconfig: the pod's service account, else the user's default kubeconfig."""

    kubeconfig: str = ""
    context: str = ""
    timeout_seconds: float = 5.0
    """Of each request: well below a turn, so that a slow server costs one turn at most."""


@dataclass(frozen=True, kw_only=True)
class ServedKind:
    """A kind as the API server serves it."""

    group: str
    version: str
    plural: str


def connect(access: ClusterAccess) -> "KubernetesApi":
    """A client that has not spoken to the server yet. Raises SettingsError where there are no usable credentials."""
    settings = client.Configuration()
    # Some releases of the client carry annotations and some do not; what it returns is checked here.
    load_in_cluster: Any = config.load_incluster_config
    load_kubeconfig: Any = config.load_kube_config
    try:
        if not access.kubeconfig and "KUBERNETES_SERVICE_HOST" in os.environ:
            load_in_cluster(client_configuration=settings)
        else:
            load_kubeconfig(
                config_file=access.kubeconfig or None,
                context=access.context or None,
                client_configuration=settings,
                persist_config=False,
            )
    except FOREIGN_ERRORS as error:
        asked = access.kubeconfig or "the service account of this pod, or the default kubeconfig"
        raise SettingsError(f"cannot connect to a cluster with {asked}: {error}") from error
    # urllib3 would repeat a PUT that timed out, although it may have happened.
    settings.retries = urllib3.util.retry.Retry(total=False, redirect=0, raise_on_redirect=False)
    settings.connection_pool_maxsize = PARALLEL_REQUESTS
    return KubernetesApi(client.ApiClient(settings), timeout_seconds=access.timeout_seconds)


class KubernetesApi:
    """The calls that scaling needs. Safe to use from several threads."""

    def __init__(
        self,
        api_client: client.ApiClient,
        *,
        timeout_seconds: float = 5.0,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._custom: Any = client.CustomObjectsApi(api_client)
        self._core: Any = client.CoreV1Api(api_client)
        self._authorization: Any = client.AuthorizationV1Api(api_client)
        # Raw answers: building typed objects of a thousand pods takes seconds. Two time-outs (connecting, reading),
        # because some releases of the client take a single float for none at all.
        self._options: Mapping[str, Any] = {
            "_preload_content": False,
            "_request_timeout": (timeout_seconds, timeout_seconds),
        }
        self._pause = pause

    def read_scale(self, kind: ServedKind, namespace: str, name: str) -> Json:
        """The scale subresource."""
        return self._read(
            f"scale of {kind.plural}/{name} in {namespace}",
            lambda: self._custom.get_namespaced_custom_object_scale(
                kind.group, kind.version, namespace, kind.plural, name, **self._options
            ),
        )

    def replace_scale(self, kind: ServedKind, namespace: str, name: str, body: Json) -> Json:
        """The scale written once, under the resource version in `body`; Conflict if it is no longer the newest."""
        return _once(
            f"write of the scale of {kind.plural}/{name} in {namespace}",
            lambda: self._custom.replace_namespaced_custom_object_scale(
                kind.group, kind.version, namespace, kind.plural, name, body, **self._options
            ),
        )

    def read_object(self, kind: ServedKind, namespace: str, name: str) -> Json:
        """Groups of custom resources and of Kubernetes itself are served alike, here and below."""
        return self._read(
            f"{kind.plural}/{name} in {namespace}",
            lambda: self._custom.get_namespaced_custom_object(
                kind.group, kind.version, namespace, kind.plural, name, **self._options
            ),
        )

    def list_objects(self, kind: ServedKind, namespace: str) -> list[Json]:
        """Those of a namespace; of all namespaces with ""."""
        served = (kind.group, kind.version)
        if namespace:
            ask = partial(self._custom.list_namespaced_custom_object, *served, namespace, kind.plural, **self._options)
        else:
            ask = partial(self._custom.list_cluster_custom_object, *served, kind.plural, **self._options)
        answer = self._read(f"{kind.plural} in {namespace or 'all namespaces'}", ask)
        return list(answer["items"])

    def patch_object(self, kind: ServedKind, namespace: str, name: str, body: Json) -> Json:
        """The fields of `body` written once; Conflict if the resource version that it names is no longer the newest."""
        return _once(
            f"patch of {kind.plural}/{name} in {namespace}",
            lambda: self._custom.patch_namespaced_custom_object(
                kind.group, kind.version, namespace, kind.plural, name, body, **self._options
            ),
        )

    def patch_status(self, kind: ServedKind, namespace: str, name: str, body: Json) -> Json:
        """The fields of `body` written once through the status subresource, whatever was written since."""
        return _once(
            f"patch of the status of {kind.plural}/{name} in {namespace}",
            lambda: self._custom.patch_namespaced_custom_object_status(
                kind.group, kind.version, namespace, kind.plural, name, body, **self._options
            ),
        )

    def may(self, verb: str, kind: ServedKind, subresource: str, namespace: str) -> bool:
        """Whether these credentials have the right, in all namespaces with "": asked, not tried."""
        asked = {"verb": verb, "group": kind.group, "resource": kind.plural, "subresource": subresource}
        body = {"spec": {"resourceAttributes": {**asked, "namespace": namespace}}}
        answer = self._read(
            f"right to {verb} {kind.plural}/{subresource}",
            lambda: self._authorization.create_self_subject_access_review(body, **self._options),
        )
        return bool(answer["status"]["allowed"])

    def list_kinds(self, group: str, version: str) -> list[Json]:
        """What the server serves under an API version, subresources included."""
        answer = self._read(
            f"kinds of {group}/{version}", lambda: self._custom.get_api_resources(group, version, **self._options)
        )
        return list(answer["resources"])

    def list_pods(self, namespace: str) -> list[Json]:
        """Every pod of a namespace."""
        pods: list[Json] = []
        token = ""
        while True:
            page = self._read(f"pods in {namespace}", partial(self._page_of_pods, namespace, token))
            pods.extend(page["items"])
            token = page["metadata"].get("continue", "")
            if not token:
                return pods

    def create_event(self, namespace: str, body: Json) -> Json:
        return _once(
            f"new event in {namespace}", lambda: self._core.create_namespaced_event(namespace, body, **self._options)
        )

    def patch_event(self, namespace: str, name: str, body: Json) -> Json:
        return _once(
            f"patch of event {name} in {namespace}",
            lambda: self._core.patch_namespaced_event(name, namespace, body, **self._options),
        )

    def _page_of_pods(self, namespace: str, token: str) -> Any:
        return self._core.list_namespaced_pod(namespace, limit=PODS_PER_PAGE, _continue=token or None, **self._options)

    def _read(self, asked: str, call: Callable[[], Any]) -> Json:
        for attempt in range(READ_ATTEMPTS):
            try:
                return _once(asked, call)
            except ClusterUnavailable as error:
                pause_seconds = seconds_before_retry(error.__cause__, attempt)
                if pause_seconds is None or attempt == READ_ATTEMPTS - 1:
                    raise
                self._pause(pause_seconds)
        raise AssertionError("unreachable: the last attempt returns or raises")


def _once(asked: str, call: Callable[[], Any]) -> Json:
    """The JSON object answered, or the foreign error translated."""
    try:
        answer = json.loads(call().data)
        if not isinstance(answer, dict):
            raise ValueError(f"need a JSON object, have {str(answer)[:80]!r}")
    except FOREIGN_ERRORS as error:
        raise translated(error, asked) from error
    return answer


def translated(error: BaseException, asked: str) -> HeadstartError:
    """Our error for one of FOREIGN_ERRORS; the message says what was asked and what the server said."""
    if not isinstance(error, ApiException) or not error.status:
        return ClusterUnavailable(f"{asked}: no usable answer from the API server: {type(error).__name__}: {error}")
    said = f"{asked}: the API server answered {error.status}: {_message_of(error)}"
    match error.status:
        case HTTPStatus.NOT_FOUND:
            return TargetNotFound(said)
        case HTTPStatus.CONFLICT:
            return Conflict(said)
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return Forbidden(f"{said}; check the credentials and the RBAC rules of Headstart")
        case HTTPStatus.REQUEST_TIMEOUT | HTTPStatus.GONE | HTTPStatus.TOO_MANY_REQUESTS:
            return ClusterUnavailable(said)
        case status if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return OrderRejected(said)
    return ClusterUnavailable(said)


def answered(error: ClusterUnavailable) -> bool:
    """True when a server spoke (too busy, failing); False when nothing usable came back in time."""
    return isinstance(error.__cause__, ApiException) and bool(error.__cause__.status)


def seconds_before_retry(cause: BaseException | None, attempt: int) -> float | None:
    """How long to wait before a read is tried again; None: not this turn.

    A time-out is not repeated: the server is slow, and asking again would double the wait and the load.
    """
    backoff = 0.1 * 2.0**attempt
    if isinstance(cause, urllib3.exceptions.TimeoutError) and not isinstance(
        cause, urllib3.exceptions.NewConnectionError
    ):
        return None
    if isinstance(cause, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ProtocolError):
        return backoff
    if not isinstance(cause, ApiException) or cause.status not in _BUSY:
        return None
    asked_for = str((cause.headers or {}).get("Retry-After", ""))
    seconds = float(asked_for) if asked_for.isdigit() else backoff
    return seconds if seconds <= LONGEST_PAUSE_SECONDS else None


def _message_of(error: ApiException) -> str:
    """The API server's own words where it sent a Status object. One line: a proxy answers with pages."""
    try:
        said = str(json.loads(error.body or "")["message"])
    except (ValueError, KeyError, TypeError):
        said = str(error.body or error.reason)[:300]
    return " ".join(said.split())
