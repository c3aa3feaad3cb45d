"""The lever `KEDA`: the order is what KEDA is served, and KEDA's own HPA follows it (scaler/adapters/keda).

Nothing is written to the cluster, so the other triggers of the ScaledObject go on working: the HPA takes the highest.
"""

from dataclasses import replace

from scaler.adapters.keda.orders import OrderBoard
from scaler.adapters.kubernetes.client import KubernetesApi
from scaler.adapters.kubernetes.lever import TargetReading
from scaler.adapters.kubernetes.scale import ScaleSubresource
from scaler.domain.policy import ScalingPolicy
from scaler.errors import SettingsError

NEEDS_ADDRESS = (
    "spec.target.actuation KEDA needs an address to serve KEDA on: set HEADSTART_KEDA or --keda to HOST:PORT"
)


class KedaOrders:
    """Reads the target's scale for its pods; orders go to the board. `orders` None: there is nobody to serve them."""

    def __init__(self, api: KubernetesApi, orders: OrderBoard | None = None) -> None:
        self._scales = ScaleSubresource(api)
        self._orders = orders

    def read(self, policy: ScalingPolicy) -> TargetReading:
        """`desired` is the order that is served; before the first one what the target's scale asks for (not ordered).

        Each read stands for a turn, so it keeps the order fresh. What a policy ordered before it was told to order
        nothing more is withdrawn. Raises SettingsError where KEDA is not served.
        """
        orders = self._board(policy)
        target = self._scales.read(policy)
        if not policy.may_order:
            orders.withdraw(policy.endpoint)
        ordered = orders.confirm(policy.endpoint)
        return replace(target, is_ordered=False) if ordered is None else replace(target, desired=ordered)

    def write(self, policy: ScalingPolicy, replicas: int, version: str) -> None:
        """An order in memory has one writer: no version of it is ever stale."""
        self._board(policy).place(policy.endpoint, replicas)

    def _board(self, policy: ScalingPolicy) -> OrderBoard:
        if self._orders is None:
            raise SettingsError(f"{policy.endpoint}: {NEEDS_ADDRESS}")
        return self._orders
