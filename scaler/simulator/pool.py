"""The GPUs of one pool in the simulated world: a replica starts once there are GPUs for it, and is pending until then.

As a cluster's scheduler does without priorities: the oldest order first, and where that does not fit a smaller replica
behind it. Nobody is evicted: what a higher priority takes from a lower one was decided before (core/allocation.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from scaler.simulator.lane import Lane


@dataclass(frozen=True, kw_only=True)
class GpuPool:
    """`lanes` with the GPUs that one of their replicas takes."""

    gpus: int
    lanes: Sequence[tuple[Lane, int]]

    @property
    def free(self) -> int:
        return self.gpus - sum(lane.placed * each for lane, each in self.lanes)

    def place(self) -> None:
        """No pending replica is left that the free GPUs suffice for. Of one step's orders the first lane's go first."""
        waiting = sorted((ordered, i) for i, (lane, _) in enumerate(self.lanes) for ordered in lane.pending)
        free = self.free
        for _, i in waiting:
            lane, each = self.lanes[i]
            if each <= free:
                lane.place()
                free -= each
