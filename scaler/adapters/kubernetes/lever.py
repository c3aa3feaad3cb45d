"""What it takes to turn an order into replicas of one target. One file a lever, one line in `target.TARGETS`."""

from dataclasses import dataclass
from typing import Protocol

from scaler.domain.policy import ScalingPolicy


@dataclass(frozen=True, kw_only=True)
class TargetReading:
    """A target as it was read. `selector` picks its pods; `version` is what an order must name; `uid` is for events.

    `desired` is what this lever asks for: the replicas themselves, or the floor under another autoscaler, which may
    hold more. `is_ordered` False: `desired` only stands there, and an order of as many must be written all the same.
    `least` and `most` bound what can be asked (None: no bound but the policy's own).
    """

    desired: int
    is_ordered: bool = True
    version: str
    uid: str
    selector: str
    least: int = 0
    most: int | None = None


class Lever(Protocol):
    """Raises ClusterUnavailable, TargetNotFound or Forbidden."""

    def read(self, policy: ScalingPolicy) -> TargetReading: ...

    def write(self, policy: ScalingPolicy, replicas: int, version: str) -> None:
        """One write under the version that was read; raises Conflict when the target changed since, never forces."""
        ...
