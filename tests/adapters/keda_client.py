"""KEDA's side of its external scaler interface: a gRPC client that puts every byte of a message together itself."""

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import grpc

SERVICE = "/externalscaler.ExternalScaler"
TIMEOUT_SECONDS = 60.0


def text_field(number: int, value: str) -> bytes:
    return _length_delimited(number, value.encode())


def number_field(number: int, value: int) -> bytes:
    """One byte of value; a zero is left out, as proto3 does."""
    assert 0 <= value < 128
    return bytes([number << 3, value]) if value else b""


def _length_delimited(number: int, content: bytes) -> bytes:
    assert len(content) < 128, "one byte of length"
    return bytes([number << 3 | 2, len(content)]) + content


def scaled_object(name: str, namespace: str, **metadata: str) -> bytes:
    entries = [_length_delimited(3, text_field(1, key) + text_field(2, value)) for key, value in metadata.items()]
    return text_field(1, name) + text_field(2, namespace) + b"".join(entries)


def metric(name: str, value: int) -> bytes:
    """An answer with one metric: its value, or its target."""
    return _length_delimited(1, text_field(1, name) + number_field(2, value))


class KedaClient:
    def __init__(self, port: int) -> None:
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._channel.close()

    def call(self, method: str, request: bytes) -> bytes:
        """Raises grpc.RpcError."""
        return bytes(self._method(method)(request, timeout=TIMEOUT_SECONDS))

    def is_active(self, name: str, namespace: str = "prod", **metadata: str) -> bool:
        return self.call("IsActive", scaled_object(name, namespace, **metadata)) == b"\x08\x01"

    def replicas(self, name: str, namespace: str = "prod", **metadata: str) -> int:
        """What the HPA that KEDA makes comes to: the value over the target of one, and never from anything else."""
        asking = scaled_object(name, namespace, **metadata)
        assert self.call("GetMetricSpec", asking) == metric("headstart-replicas", 1)
        request = _length_delimited(1, asking) + text_field(2, "headstart-replicas")
        answer = self.call("GetMetrics", request)
        (found,) = (number for number in range(128) if answer == metric("headstart-replicas", number))
        return found

    def refusal(self, name: str, namespace: str = "prod", **metadata: str) -> tuple[grpc.StatusCode, str]:
        """Why neither a value nor an activity is served: the same for both."""
        codes = []
        for ask in (self.replicas, self.is_active):
            try:
                answer = ask(name, namespace, **metadata)
            except grpc.RpcError as error:
                codes.append((error.code(), error.details() or ""))
            else:
                raise AssertionError(f"answered {answer}")
        assert codes[0][0] is codes[1][0]
        return codes[0]

    def stream(self, name: str, namespace: str = "prod", **metadata: str) -> "ActivityStream":
        call = self._channel.unary_stream(f"{SERVICE}/StreamIsActive")(scaled_object(name, namespace, **metadata))
        return ActivityStream(call)

    def _method(self, name: str) -> Callable[..., bytes]:
        return self._channel.unary_unary(f"{SERVICE}/{name}")


class ActivityStream:
    """What is pushed, taken by a thread of its own as KEDA does."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._pushed: queue.Queue[bytes] = queue.Queue()
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def next(self) -> bool:
        """The next push; fails after a while without one."""
        return self._pushed.get(timeout=TIMEOUT_SECONDS) == b"\x08\x01"

    def is_silent(self) -> bool:
        return self._pushed.empty()

    def close(self) -> None:
        self._call.cancel()
        self._thread.join(timeout=TIMEOUT_SECONDS)

    def _take(self) -> None:
        try:
            for pushed in self._call:
                self._pushed.put(bytes(pushed))
        except grpc.RpcError:
            pass  # cancelled, or the server has ended
