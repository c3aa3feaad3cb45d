"""What KEDA is told, by a gRPC client over loopback."""

import socket
import threading
from collections.abc import Iterator

import grpc
import pytest

from scaler.adapters.keda.orders import OrderBoard
from scaler.adapters.keda.server import KedaServer
from scaler.domain.endpoint import EndpointId
from scaler.errors import OrderUnavailable, SettingsError
from tests.adapters.keda_client import KedaClient
from tests.servers.processes import free_port

CHAT, IMAGE = EndpointId("prod", "chat"), EndpointId("prod", "image")
FRESH_SECONDS = 60.0


class Seconds:
    """Wall time that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def orders(seconds: Seconds) -> OrderBoard:
    return OrderBoard(FRESH_SECONDS, seconds)


@pytest.fixture
def keda(orders: OrderBoard) -> Iterator[KedaClient]:
    server = KedaServer(orders, "127.0.0.1", 0)
    with KedaClient(server.start()) as client:
        yield client
    server.stop()


# Values


@pytest.mark.parametrize("ordered", [0, 1, 7, 100])
def test_the_hpa_comes_to_the_order_and_an_order_above_zero_is_activity(
    keda: KedaClient, orders: OrderBoard, ordered: int
) -> None:
    orders.place(CHAT, ordered)
    assert keda.replicas("chat") == ordered
    assert keda.is_active("chat") == (ordered > 0)


def test_every_endpoint_has_its_own_order_and_the_last_one_counts(keda: KedaClient, orders: OrderBoard) -> None:
    for endpoint, ordered in ((CHAT, 2), (IMAGE, 5), (EndpointId("test", "chat"), 0), (CHAT, 3)):
        orders.place(endpoint, ordered)
    assert [keda.replicas("chat"), keda.replicas("image"), keda.replicas("chat", "test")] == [3, 5, 0]


@pytest.mark.parametrize(
    ("name", "namespace", "endpoint"),
    [
        ("chat", "prod", ""),
        ("chat-scaler", "prod", "chat"),
        ("chat-scaler", "elsewhere", "prod/chat"),
        ("image", "prod", "prod/chat"),
    ],
    ids=["its own name", "a name", "namespace and name", "the trigger's word before its own name"],
)
def test_a_trigger_says_whose_order_it_wants(
    keda: KedaClient, orders: OrderBoard, name: str, namespace: str, endpoint: str
) -> None:
    orders.place(CHAT, 4)
    orders.place(IMAGE, 9)
    assert keda.replicas(name, namespace, scalerAddress="headstart:8081", endpoint=endpoint) == 4


# Where there is nothing to serve: an error, never a number


def test_before_the_first_turn_nothing_is_served(keda: KedaClient) -> None:
    code, why = keda.refusal("chat")
    assert (code, "no turn has been made yet" in why) == (grpc.StatusCode.UNAVAILABLE, True)


def test_an_endpoint_that_no_turn_knows_is_not_found_and_it_says_what_is_needed(
    keda: KedaClient, orders: OrderBoard
) -> None:
    orders.place(CHAT, 4)
    code, why = keda.refusal("chatt")
    assert code is grpc.StatusCode.NOT_FOUND
    assert "prod/chatt" in why
    assert "spec.target.actuation KEDA" in why


def test_where_nothing_is_ordered_nothing_is_served(keda: KedaClient, orders: OrderBoard) -> None:
    orders.confirm(CHAT)
    code, why = keda.refusal("chat")
    assert (code, "spec.mode Enforce" in why) == (grpc.StatusCode.UNAVAILABLE, True)


def test_an_order_that_was_withdrawn_is_not_served(keda: KedaClient, orders: OrderBoard) -> None:
    orders.place(CHAT, 4)
    orders.withdraw(CHAT)
    assert keda.refusal("chat")[0] is grpc.StatusCode.UNAVAILABLE


def test_an_endpoint_that_is_none_is_refused_with_what_is_allowed(keda: KedaClient) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        keda.is_active("chat", endpoint="a/b/c")
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]
    assert "found 'a/b/c'" in str(refused.value)
    assert "NAME or NAMESPACE/NAME" in str(refused.value)


def test_the_metric_is_told_also_where_there_is_no_value_so_that_the_hpa_has_it(keda: KedaClient) -> None:
    with pytest.raises(grpc.RpcError, match="no turn has been made yet"):
        keda.replicas("chat")  # asks for the metric first, which is answered


def test_what_is_not_of_the_interface_is_unimplemented(keda: KedaClient) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        keda.call("StreamMetricSpec", b"")
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]


# Age


def test_an_order_is_served_while_turns_go_on_and_no_longer_once_they_have_stopped(
    keda: KedaClient, orders: OrderBoard, seconds: Seconds
) -> None:
    orders.place(CHAT, 4)
    for _ in range(100):
        seconds.now += 15
        orders.confirm(CHAT)
    assert keda.replicas("chat") == 4
    seconds.now += FRESH_SECONDS
    assert keda.replicas("chat") == 4
    seconds.now += 1
    code, why = keda.refusal("chat")
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "no turn has read its target for 61 s (limit 60 s)" in why
    orders.confirm(CHAT)
    assert keda.replicas("chat") == 4


def test_the_turns_of_one_endpoint_say_nothing_of_another(orders: OrderBoard, seconds: Seconds) -> None:
    orders.place(CHAT, 4)
    orders.place(IMAGE, 2)
    seconds.now += FRESH_SECONDS + 1
    orders.confirm(IMAGE)
    assert orders.served(IMAGE) == 2
    with pytest.raises(OrderUnavailable):
        orders.served(CHAT)


# Pushes


def test_from_zero_to_one_is_pushed_at_once_and_once(keda: KedaClient, orders: OrderBoard) -> None:
    orders.place(CHAT, 0)
    stream = keda.stream("chat")
    for ordered in (1, 2, 3, 0, 5):
        orders.place(CHAT, ordered)
        if ordered in (1, 5):
            assert stream.next() is True
        else:
            assert keda.is_active("chat") == (ordered > 0)  # the loop has come by
    assert stream.is_silent()
    stream.close()


def test_a_stream_begins_with_the_activity_that_is_there(keda: KedaClient, orders: OrderBoard) -> None:
    orders.place(CHAT, 3)
    stream = keda.stream("chat")
    assert stream.next() is True
    stream.close()


def test_a_stream_waits_for_an_endpoint_that_is_not_known_yet(keda: KedaClient, orders: OrderBoard) -> None:
    stream = keda.stream("chat")
    orders.confirm(CHAT)
    orders.place(IMAGE, 3)
    assert keda.replicas("image") == 3
    assert stream.is_silent()
    orders.place(CHAT, 1)
    assert stream.next() is True
    stream.close()


def test_hundreds_of_streams_leave_the_calls_their_room_and_hold_no_thread(
    keda: KedaClient, orders: OrderBoard
) -> None:
    endpoints = [EndpointId("prod", f"model-{number}") for number in range(200)]
    threads_of_the_server = {thread.name for thread in threading.enumerate()}
    streams = [keda.stream(endpoint.name) for endpoint in endpoints]
    for endpoint in endpoints:
        orders.place(endpoint, 1)
    assert all(stream.next() for stream in streams)
    assert keda.replicas("model-0") == 1
    own = {thread.name for thread in threading.enumerate() if not thread.name.startswith("Thread-")}
    assert own <= threads_of_the_server
    for stream in streams:
        stream.close()


# The server


def test_an_address_that_is_taken_is_refused_by_name(orders: OrderBoard) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"^--keda: cannot listen on 127.0.0.1:{port}"):
            KedaServer(orders, "127.0.0.1", port).start()


def test_two_processes_cannot_share_a_port_unnoticed(orders: OrderBoard) -> None:
    server = KedaServer(orders, "127.0.0.1", 0)
    port = server.start()
    with pytest.raises(SettingsError, match="choose a free HOST:PORT"):
        KedaServer(orders, "127.0.0.1", port).start()
    server.stop()


def test_a_stop_ends_streams_frees_the_port_and_leaves_orders_to_be_placed(orders: OrderBoard) -> None:
    server = KedaServer(orders, "127.0.0.1", free_port())
    port = server.start()
    with KedaClient(port) as client:
        orders.place(CHAT, 1)
        stream = client.stream("chat")
        assert stream.next() is True
        server.stop()
        stream.close()
    orders.place(CHAT, 2)
    again = KedaServer(orders, "127.0.0.1", port)
    assert again.start() == port, "the port is free"
    again.stop()
