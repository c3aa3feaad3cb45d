"""The only module that knows prometheus_api_client: queries out, arrays in, every foreign error translated."""

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import requests
import stamina
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from requests.adapters import HTTPAdapter, Retry
from urllib3.exceptions import HTTPError

from forecaster.series import FloatArray
from scaler.adapters.prometheus.connection import Connection
from scaler.errors import QueryRejected, SourceUnavailable

MOST_POINTS = 10_000
"""Steps in one range query: Prometheus refuses more than 11 000 per series."""
MOST_VALUES = 500_000
"""Values in one answer, about 12 MB of JSON: more endpoints, shorter chunks."""
MOST_VALUES_IN_A_TURN = 100_000
"""The first reading of a large fleet must not fail for want of time, turn after turn: many short queries."""
_TEMPORARY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_WHOLE_ANSWERS_ONLY = {"partial_response": "false", "deny_partial_response": "1"}
"""Thanos and VictoriaMetrics would else answer without a store that is down: less demand than there was."""
_NEVER_WORKS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidHeader,
    requests.exceptions.TooManyRedirects,
)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One series of an answer: its labels, epoch seconds and values (may be NaN or infinite), both (n,)."""

    labels: Mapping[str, str]
    stamps: FloatArray
    values: FloatArray


class PrometheusClient:
    """Queries with time-outs and repeats. Raises only SourceUnavailable (temporary) and QueryRejected (permanent)."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        session = requests.Session()
        session.verify = str(connection.ca_certificate) if connection.ca_certificate else True
        if connection.client_certificate and connection.client_key:
            session.cert = (str(connection.client_certificate), str(connection.client_key))
        url = connection.url.rstrip("/")
        self._connect = PrometheusConnect(
            url=url,
            headers=dict(connection.headers),
            auth=_credentials(connection),
            session=session,
            retry=Retry(total=0, read=False),
        )
        # one place repeats, and it knows which errors are temporary; connections are shared by parallel refits
        session.mount(url, HTTPAdapter(max_retries=0, pool_maxsize=8))

    def close(self) -> None:
        self._connect.close()

    def range(
        self, query: str, *, start: float, step: float, n_steps: int, n_series: int = 1, patient: bool = False
    ) -> list[Line]:
        """Values at `start + i * step` (epoch seconds) for i < n_steps, in as many chunks as the server's limit needs.

        `n_series` is how many series are expected: it only sizes the chunks. `patient` waits as long as a history is
        worth; else as long as a turn can.
        """
        lines: list[Line] = []
        patience = self._connection.history_timeout_seconds if patient else self._connection.timeout_seconds
        most_values = MOST_VALUES if patient else MOST_VALUES_IN_A_TURN
        for skip, n_chunk in _chunks(n_steps, step, most_values // max(n_series, 1)):
            first = start + skip * step
            last = first + (n_chunk - 1) * step
            times = {"start": f"{first:.3f}", "end": f"{last + step / 4:.3f}", "step": f"{step:.3f}"}
            found = self._ask(
                query,
                patience,
                # times go as parameters: the library would round them to whole seconds
                lambda times=times: self._connect.custom_query_range(  # type: ignore[misc]
                    query,
                    start_time=datetime.fromtimestamp(0, UTC),
                    end_time=datetime.fromtimestamp(0, UTC),
                    step=times["step"],
                    params={**_WHOLE_ANSWERS_ONLY, **times, "timeout": f"{round(patience * 1000)}ms"},
                    timeout=patience,
                ),
                lambda result: [_line(entry["metric"], entry["values"]) for entry in result],
            )
            lines += found
        return lines

    def instant(self, query: str, *, at: float) -> list[Line]:
        """The value of each series at one moment (epoch seconds); each line has one value."""
        patience = self._connection.timeout_seconds
        return self._ask(
            query,
            patience,
            lambda: self._connect.custom_query(
                query,
                params={**_WHOLE_ANSWERS_ONLY, "time": f"{at:.3f}", "timeout": f"{round(patience * 1000)}ms"},
                timeout=patience,
            ),
            lambda result: [_line(entry["metric"], [entry["value"]]) for entry in result],
        )

    def _ask(
        self, query: str, patience: float, send: Callable[[], Any], read: Callable[[Any], list[Line]]
    ) -> list[Line]:
        lines: list[Line] = []
        for attempt in stamina.retry_context(
            on=SourceUnavailable,
            attempts=self._connection.attempts,
            timeout=2 * patience,  # a server that hangs is not asked a third time: the turn has to go on
            wait_initial=self._connection.backoff_seconds,
            wait_jitter=self._connection.backoff_seconds,
            wait_max=10 * self._connection.backoff_seconds,
        ):
            with attempt:
                lines = self._once(query, send, read)
        return lines

    def _once(self, query: str, send: Callable[[], Any], read: Callable[[Any], list[Line]]) -> list[Line]:
        where = f"prometheus {self._connection.shown_url}"
        try:
            return read(send())
        except PrometheusApiClientException as error:
            raise _refusal(where, query, str(error)) from error
        except _NEVER_WORKS as error:
            raise QueryRejected(f"{where}: cannot be asked: {_brief(error)}") from error
        except requests.exceptions.Timeout as error:
            raise SourceUnavailable(f"{where}: no answer in time: {_brief(error)}") from error
        except (requests.RequestException, HTTPError, OSError) as error:
            raise SourceUnavailable(f"{where}: {type(error).__name__}: {_brief(error)}") from error
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise SourceUnavailable(f"{where}: the answer is no query result: {_brief(error)}") from error


class _Bearer(requests.auth.AuthBase):
    """Adds the token; from a file it is read each time, because the cluster rotates it."""

    def __init__(self, token: str, path: Path | None) -> None:
        self._token = token
        self._path = path

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        token = self._path.read_text().strip() if self._path else self._token
        request.headers["Authorization"] = f"Bearer {token}"
        return request


def _credentials(connection: Connection) -> Any:
    if connection.bearer_token or connection.bearer_token_file:
        return _Bearer(connection.bearer_token, connection.bearer_token_file)
    return (connection.username, connection.password) if connection.username else None


def _chunks(n_steps: int, step: float, most_steps: int) -> Iterator[tuple[int, int]]:
    """(first step, number of steps) of each query."""
    longest = min(MOST_POINTS, max(100, most_steps))
    drift = abs(step * 1000 - round(step * 1000))
    if drift > 1e-6:  # the server counts in milliseconds: start anew before the rounding adds up to a quarter of a step
        longest = max(1, min(longest, int(step * 250 / drift)))
    for skip in range(0, n_steps, longest):
        yield skip, min(longest, n_steps - skip)


def _line(labels: Mapping[str, str], pairs: list[Any]) -> Line:
    table = np.array([(float(stamp), float(value)) for stamp, value in pairs], dtype=np.float64).reshape(-1, 2)
    return Line(labels=dict(labels), stamps=table[:, 0], values=table[:, 1])


def _refusal(where: str, query: str, text: str) -> SourceUnavailable | QueryRejected:
    found = re.match(r"HTTP Status Code (\d+) \((.*)\)$", text, re.DOTALL)
    status = int(found[1]) if found else 0
    says = f"status {status}" + (_detail(found[2]) if found else "")
    if status in _TEMPORARY_STATUS or status >= 500:
        return SourceUnavailable(f"{where}: {says}")
    if status in (401, 403):
        return QueryRejected(f"{where}: {says}: the credentials are not accepted")
    if status == 404:
        return QueryRejected(f"{where}: {says}: no query API at this address")
    return QueryRejected(f"{where}: {says}; the query was {query}")


def _detail(shown_bytes: str) -> str:
    """What the server said went wrong, out of the body as the library shows it; "" when it said nothing readable."""
    try:
        return f": {json.loads(ast.literal_eval(shown_bytes))['error'][:300]}"
    except (ValueError, SyntaxError, KeyError, TypeError):
        return ""


def _brief(error: BaseException) -> str:
    """The innermost reason: the libraries wrap it twice and repeat the whole address."""
    inner = error.args[0] if error.args else None
    reason = getattr(inner, "reason", None)
    if isinstance(reason, BaseException):
        return _brief(reason)
    return str(error).replace("\n", " ")[:300] or type(error).__name__
