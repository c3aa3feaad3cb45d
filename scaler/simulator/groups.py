"""Which endpoints of a replay are played together: those that draw from one pool; each of the others by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from scaler.core.allocation import Claim, draws_from, share_out, undrawn_pools
from scaler.domain.endpoint import EndpointId
from scaler.errors import SettingsError, TraceError
from scaler.simulator.lane import Lane
from scaler.simulator.pool import GpuPool
from scaler.simulator.spans import ReplayRequest, Span, span_of


@dataclass(frozen=True, kw_only=True)
class Members:
    """Endpoints that are played together, in the order of their names; `pool` "": one endpoint without a pool."""

    names: tuple[EndpointId, ...]
    pool: str = ""

    def __str__(self) -> str:
        return f"pool {self.pool}" if self.pool else str(self.names[0])


def members_of(request: ReplayRequest) -> list[Members]:
    """Every endpoint of the request once, pools first. Raises SettingsError for a pool that no policy draws from, and
    for a rolling update beside pools: where its replacements would go in a full one is not played."""
    if request.pools and request.faults.rolling_updates:
        raise SettingsError("fault rolling-update: cannot be played beside pools; need one or the other")
    names = sorted(request.traces)
    for pool, why in undrawn_pools([request.policies[name] for name in names], request.pools).items():
        raise SettingsError(f"pool {pool}: {why} among the endpoints that are played")
    groups = [
        Members(names=tuple(name for name in names if draws_from(request.policies[name], pool)), pool=pool)
        for pool in request.pools
    ]
    pooled = {name for group in groups for name in group.names}
    return groups + [Members(names=(name,)) for name in names if name not in pooled]


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """The spans that are played together, on one grid. `gpus` None: one span, and GPUs enough."""

    spans: Sequence[Span]
    pool: str = ""
    gpus: int | None = None

    def lanes(self) -> list[Lane]:
        """Fresh lanes, one a span. In a pool as many replicas stand at the start as it grants them."""
        if self.gpus is None:
            return [span.lane() for span in self.spans]
        return [
            span.lane_with(ready, in_pool=True)
            for span, ready in zip(self.spans, standing_within(self.spans, self.gpus), strict=True)
        ]

    def scheduler(self, lanes: Sequence[Lane]) -> GpuPool | None:
        """What places the replicas of these lanes; None without a pool."""
        if self.gpus is None:
            return None
        each = [span.policy.spec.target.gpus_per_replica for span in self.spans]
        return GpuPool(gpus=self.gpus, lanes=list(zip(lanes, each, strict=True)))


def group_of(request: ReplayRequest, members: Members) -> Group:
    """Raises TraceError where the traces of a pool do not cover the same time."""
    spans = [span_of(request, name) for name in members.names]
    if not members.pool:
        return Group(spans=spans)
    first, *others = zip(members.names, spans, strict=True)
    for other in others:
        if _times(other[1]) != _times(first[1]):
            raise TraceError(f"{members}: {_told(*first)}, {_told(*other)}; need its endpoints over the same time")
    return Group(spans=spans, pool=members.pool, gpus=request.pools[members.pool])


def _times(span: Span) -> tuple[datetime, datetime, datetime]:
    """Start of the history, start of the test, end of the test."""
    return span.grid.start, span.grid.time(span.first), span.grid.time(span.last)


def _told(name: EndpointId, span: Span) -> str:
    start, begin, end = (f"{when:%Y-%m-%d %H:%M}" for when in _times(span))
    return f"{name} is recorded from {start} and tested from {begin} to {end} UTC"


def standing_within(spans: Sequence[Span], gpus: int) -> list[int]:
    """What stands at the start of the test, shared out as orders are; of minima that exceed the pool, what it holds."""
    claims = [
        Claim(
            endpoint=span.policy.endpoint,
            priority=span.policy.spec.budget.priority,
            gpus_per_replica=span.policy.spec.target.gpus_per_replica,
            least=span.policy.spec.replicas.min,
            standing=span.standing,
            asked=span.standing,
        )
        for span in spans
    ]
    shares = share_out(claims, gpus)
    ready, free = dict.fromkeys(shares, 0), gpus
    for claim in sorted(claims, key=lambda claim: -claim.priority):
        ready[claim.endpoint] = min(shares[claim.endpoint], free // claim.gpus_per_replica)
        free -= ready[claim.endpoint] * claim.gpus_per_replica
    return [ready[claim.endpoint] for claim in claims]
