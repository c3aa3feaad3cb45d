"""What was last ordered for each endpoint that KEDA scales, good for as long as turns stand behind it."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter

from scaler.domain.endpoint import EndpointId
from scaler.errors import OrderUnavailable, TargetNotFound


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """`replicas` None: nothing is ordered."""

    replicas: int | None
    confirmed_at_seconds: float


class OrderBoard:
    """Turns write it and KEDA is served from it; any thread may do either.

    `seconds` is wall time from any origin. An order that no turn has confirmed for `fresh_for_seconds` is served no
    longer: who reads it would take it for the present.
    """

    def __init__(self, fresh_for_seconds: float, seconds: Callable[[], float] = perf_counter) -> None:
        self._fresh_for_seconds = fresh_for_seconds
        self._seconds = seconds
        self._lock = threading.Lock()
        self._entries: dict[EndpointId, _Entry] = {}
        self._watchers: list[Callable[[], None]] = []

    def confirm(self, endpoint: EndpointId) -> int | None:
        """A turn has read the endpoint's target: what is ordered is good for another while. Returns it."""
        now = self._seconds()
        with self._lock:
            before = self._entries.get(endpoint, _Entry(replicas=None, confirmed_at_seconds=now))
            self._entries[endpoint] = replace(before, confirmed_at_seconds=now)
            return before.replicas

    def place(self, endpoint: EndpointId, replicas: int) -> None:
        """From now on this is what is ordered."""
        self._put(endpoint, replicas)

    def withdraw(self, endpoint: EndpointId) -> None:
        """The endpoint is known and nothing is ordered for it."""
        self._put(endpoint, None)

    def served(self, endpoint: EndpointId) -> int:
        """The order. Raises TargetNotFound for an endpoint that no turn knows, OrderUnavailable where nothing is
        ordered or the order is too old; never a number for lack of one."""
        with self._lock:
            entry, any_turn = self._entries.get(endpoint), bool(self._entries)
        if entry is None and not any_turn:
            raise OrderUnavailable(f"{endpoint}: no turn has been made yet; it comes by itself")
        if entry is None:
            raise TargetNotFound(
                f"{endpoint}: no turn knows this endpoint; need a policy of that namespace and name with "
                "spec.target.actuation KEDA whose target can be read (`headstart doctor` tells), or another `endpoint` "
                "in the trigger's metadata"
            )
        age_seconds = self._seconds() - entry.confirmed_at_seconds
        if age_seconds > self._fresh_for_seconds:
            raise OrderUnavailable(
                f"{endpoint}: no turn has read its target for {age_seconds:.0f} s (limit "
                f"{self._fresh_for_seconds:.0f} s); look at /healthz, at `headstart explain {endpoint}`, and whether "
                "its policy is still there"
            )
        if entry.replicas is None:
            raise OrderUnavailable(
                f"{endpoint}: nothing is ordered; spec.mode Enforce orders, in the first turn that is not paused"
            )
        return entry.replicas

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """`changed` is called after every change of an order, in the thread that made it, until what is returned is
        called. It must be quick and may not ask this board: the board waits for it."""
        with self._lock:
            self._watchers.append(changed)

        def end() -> None:
            with self._lock:
                self._watchers.remove(changed)

        return end

    def _put(self, endpoint: EndpointId, replicas: int | None) -> None:
        with self._lock:
            self._entries[endpoint] = _Entry(replicas=replicas, confirmed_at_seconds=self._seconds())
            for changed in self._watchers:
                changed()
