"""Serves KEDA's external scaler interface. The only module that knows gRPC.

One metric an endpoint: the ordered replicas, at a target of one for each replica, so that the HPA that KEDA makes comes
to the order itself. What cannot be answered is an error and never a number: KEDA then keeps what stands, or takes its
`fallback`.
"""

import asyncio
import threading
from collections.abc import AsyncIterator

import grpc
import grpc.aio

from scaler.adapters.keda import wire
from scaler.adapters.keda.orders import OrderBoard
from scaler.domain.endpoint import EndpointId
from scaler.errors import HeadstartError, SettingsError, TargetNotFound

METRIC = "headstart-replicas"
GRACE_SECONDS = 1.0
"""Calls under way may end for this long at a stop; streams never end by themselves."""

_Context = grpc.aio.ServicerContext[bytes, bytes]


class KedaServer:
    """Serves from one event loop in a thread of its own: an open stream holds no thread."""

    def __init__(self, orders: OrderBoard, host: str, port: int) -> None:
        self._orders = orders
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="keda", daemon=True)
        self._streams = _Streams(self._loop)
        self._server: grpc.aio.Server | None = None

    def start(self) -> int:
        """Serves from now on; returns the port. Raises SettingsError when the address cannot be listened on."""
        self._thread.start()
        try:
            port = asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result()
        except RuntimeError as error:
            self._end_loop()
            raise SettingsError(f"--keda: cannot listen on {self._address}; choose a free HOST:PORT") from error
        self._end_watch = self._orders.watch(self._streams.wake)
        return port

    def stop(self) -> None:
        """Calls are answered or cut off, then the port is free."""
        self._end_watch()
        if self._server is not None:
            asyncio.run_coroutine_threadsafe(self._server.stop(GRACE_SECONDS), self._loop).result()
        self._end_loop()

    async def _serve(self) -> int:
        # Without this a second process would take half of the calls on the same port, unnoticed.
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        calls = _Calls(self._orders, self._streams)
        server.add_generic_rpc_handlers([calls.handlers()])
        port = server.add_insecure_port(self._address)
        await server.start()
        self._server = server
        return port

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Streams:
    """Wakes every open stream of the loop, from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._open: set[asyncio.Event] = set()

    def wake(self) -> None:
        self._loop.call_soon_threadsafe(self._wake_all)

    def open(self) -> asyncio.Event:
        """Set whenever something has changed; whoever waits for it clears it."""
        woken = asyncio.Event()
        self._open.add(woken)
        return woken

    def close(self, woken: asyncio.Event) -> None:
        self._open.discard(woken)

    def _wake_all(self) -> None:
        for woken in self._open:
            woken.set()


class _Calls:
    """The calls of the interface, on values."""

    def __init__(self, orders: OrderBoard, streams: _Streams) -> None:
        self._orders = orders
        self._streams = streams

    def handlers(self) -> grpc.GenericRpcHandler:
        """`StreamMetricSpec` is left out, which KEDA takes as what it is: the target of the metric never changes."""
        return grpc.method_handlers_generic_handler(
            wire.SERVICE,
            {
                "IsActive": grpc.unary_unary_rpc_method_handler(
                    self.is_active, wire.read_scaled_object, wire.active_bytes
                ),
                "StreamIsActive": grpc.unary_stream_rpc_method_handler(
                    self.stream_is_active, wire.read_scaled_object, wire.active_bytes
                ),
                "GetMetricSpec": grpc.unary_unary_rpc_method_handler(
                    self.metric_target, wire.read_scaled_object, wire.metric_target_bytes
                ),
                "GetMetrics": grpc.unary_unary_rpc_method_handler(
                    self.metric_value, wire.read_metrics_request, wire.metric_value_bytes
                ),
            },
        )

    async def is_active(self, asking: wire.ScaledObject, context: _Context) -> bool:
        return await self._served(asking, context) > 0

    async def metric_value(self, asking: wire.ScaledObject, context: _Context) -> wire.Metric:
        return wire.Metric(name=METRIC, number=await self._served(asking, context))

    async def metric_target(self, asking: wire.ScaledObject, context: _Context) -> wire.Metric:
        """Told whatever is ordered: without it KEDA would make an HPA that lacks the metric, and take no fallback."""
        await _endpoint(asking, context)
        return wire.Metric(name=METRIC, number=1)

    async def stream_is_active(self, asking: wire.ScaledObject, context: _Context) -> AsyncIterator[bool]:
        """True whenever the order rises from zero, at once; stays open, and silent, where nothing is known.

        False is left to the poll: at a pushed one an older KEDA goes to zero, once the cooldown is over, without asking
        its other triggers (2.21 minds none). And a stream that ended for lack of an order would be opened
        again only after up to a minute.
        """
        endpoint = await _endpoint(asking, context)
        woken = self._streams.open()
        try:
            was_active = False
            while True:
                is_active = self._is_known_active(endpoint)
                if is_active and not was_active:
                    yield True
                was_active = is_active
                await woken.wait()
                woken.clear()
        finally:
            self._streams.close(woken)

    def _is_known_active(self, endpoint: EndpointId) -> bool:
        try:
            return self._orders.served(endpoint) > 0
        except HeadstartError:
            return False  # not known; the poll says why

    async def _served(self, asking: wire.ScaledObject, context: _Context) -> int:
        endpoint = await _endpoint(asking, context)
        try:
            return self._orders.served(endpoint)
        except TargetNotFound as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        except HeadstartError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))


async def _endpoint(asking: wire.ScaledObject, context: _Context) -> EndpointId:
    try:
        return endpoint_of(asking)
    except ValueError as error:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))


def endpoint_of(asking: wire.ScaledObject) -> EndpointId:
    """`endpoint` of the trigger's metadata, NAME or NAMESPACE/NAME; by default that of the ScaledObject's own name.

    NAME is in the ScaledObject's namespace. Raises ValueError where it is neither.
    """
    asked = asking.metadata.get("endpoint") or asking.name
    namespace, slash, name = asked.rpartition("/")
    try:
        return EndpointId(namespace if slash else asking.namespace, name)
    except ValueError as error:
        raise ValueError(f"endpoint: found {asked!r} in the trigger's metadata; need NAME or NAMESPACE/NAME") from error
