"""A bare JSON client of the Kubernetes API for the tests, so that they do not lean on the client they test."""

import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
TIMEOUT_SECONDS = 60.0
"""Longer than a busy machine keeps a server waiting for its turn."""


class ApiError(Exception):
    """The API server answered with an error status."""

    def __init__(self, status: int, method: str, path: str, message: str) -> None:
        super().__init__(f"{method} {path}: {status} {message}")
        self.status = status


class KubernetesApi:
    """One identity at one API server; each call is a connection of its own, so that threads may share it.

    Raises ApiError where the server refused, and OSError where no whole answer came.
    """

    def __init__(self, url: str, token: str, context: ssl.SSLContext) -> None:
        self._host = urlsplit(url).netloc
        self._token = token
        self._context = context

    def get(self, path: str, **query: str) -> Any:
        return self._call("GET", f"{path}?{urlencode(query)}" if query else path)

    def create(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._call("POST", path, body)

    def replace(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._call("PUT", path, body)

    def patch(self, path: str, body: Mapping[str, Any], *, content_type: str = MERGE_PATCH) -> Any:
        return self._call("PATCH", path, body, content_type)

    def delete(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return self._call("DELETE", path, body)

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, content_type: str = "application/json"
    ) -> Any:
        connection = http.client.HTTPSConnection(self._host, timeout=TIMEOUT_SECONDS, context=self._context)
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": content_type, "Accept": "application/json"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        except http.client.HTTPException as error:  # the server went in the middle of its answer
            raise ConnectionError(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()
        if answer.status >= 400:
            raise ApiError(answer.status, method, path, text[:400])
        return json.loads(text) if text.startswith("{") else text
