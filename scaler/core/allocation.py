"""The GPUs of a pool shared out between the endpoints that draw from it.

First what nobody may go without (the minimum of each), then class by class, the highest priority first. Within a class
what stands comes before what would be new, and each further replica goes to the endpoint that has the smallest share of
what it asked for (max-min fairness). So priority decides who gives way, and equals never take from one another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush

from scaler.core.bounds import active_bounds
from scaler.core.guardrails.base import verdict
from scaler.domain.decision import Decision, Reason
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import Mode, ScalingPolicy
from scaler.domain.snapshot import Snapshot

QUOTA = "quota"
"""The name of the verdict that a pool adds."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What one endpoint asks of a pool, in replicas: `least` it gets whatever the pool holds, `standing` it has."""

    endpoint: EndpointId
    priority: int
    gpus_per_replica: int
    least: int
    standing: int
    asked: int


@dataclass(frozen=True, kw_only=True)
class PoolUse:
    """GPUs of one pool in one turn: its size, what its endpoints asked for, and what they were granted.

    What policies that only observe have, what stands where nothing can be ordered, and what stands beyond an order (the
    other autoscaler of a floor holds it, or it is going) counts as both.
    """

    gpus: int
    asked: int
    granted: int


def share_out(claims: Sequence[Claim], gpus: int) -> Mapping[EndpointId, int]:
    """Replicas granted to each: at least its minimum, at most what it asked for, together within `gpus` unless the
    minima exceed it. Nothing is left over that a claim could still use."""
    granted = {claim.endpoint: min(claim.asked, claim.least) for claim in claims}
    left = gpus - sum(granted[claim.endpoint] * claim.gpus_per_replica for claim in claims)
    for priority in sorted({claim.priority for claim in claims}, reverse=True):
        peers = [claim for claim in claims if claim.priority == priority]
        for goals in ([min(claim.asked, claim.standing) for claim in peers], [claim.asked for claim in peers]):
            waiting = [
                (granted[claim.endpoint] / claim.asked, claim.endpoint, goal, claim)
                for claim, goal in zip(peers, goals, strict=True)
                if granted[claim.endpoint] < goal
            ]
            heapify(waiting)
            while waiting:
                _, endpoint, goal, claim = heappop(waiting)
                if claim.gpus_per_replica > left:
                    continue  # a smaller replica of another may still fit
                granted[endpoint] += 1
                left -= claim.gpus_per_replica
                if granted[endpoint] < goal:
                    heappush(waiting, (granted[endpoint] / claim.asked, endpoint, goal, claim))
    return granted


def share_beside(claims: Sequence[Claim], gpus: int, beyond: int) -> dict[EndpointId, int]:
    """`gpus` shared out while `beyond` of them are held by replicas that nobody asks for: nobody grows into those, and
    nobody gives way to them."""
    shares = dict(share_out(claims, gpus))
    if not beyond:
        return shares
    # Each keeps of its share what stands already; growth has what is left over then.
    growing = [
        replace(one, least=max(one.least, min(one.standing, shares[one.endpoint])), asked=shares[one.endpoint])
        for one in claims
    ]
    return dict(share_out(growing, gpus - beyond))


def within_pools(
    turns: Sequence[tuple[Snapshot, Decision]], pools: Mapping[str, int]
) -> tuple[list[Decision], Mapping[str, PoolUse]]:
    """The decisions of one turn, in their order, with what the pools grant and a verdict; and the use of each pool.

    Only planned orders that are to be carried out are limited. Where one endpoint's replicas are not known, the pool
    may be full: nobody grows, and nobody has to give way.
    """
    decisions = [decision for _, decision in turns]
    uses = {}
    for pool, gpus in pools.items():
        members = [i for i, (snapshot, _) in enumerate(turns) if draws_from(snapshot.policy, pool)]
        orders = {i: _claim(*turns[i]) for i in members if _is_order(*turns[i])}
        scaled = {turns[i][0].policy.scaled for i in orders}
        # Who only watches a target, beside the one that orders or beside others, holds no GPUs of its own.
        watched = {turns[i][0].policy.scaled: turns[i] for i in members if turns[i][0].policy.scaled not in scaled}
        others = {turn[0].endpoint: _standing_gpus(*turn) for turn in watched.values()}
        unknown = [str(endpoint) for endpoint, count in others.items() if count is None]
        occupied = sum(count for count in others.values() if count is not None)
        claims = list(orders.values())
        beyond = sum(max(0, one.standing - one.asked) * one.gpus_per_replica for one in claims)
        size = f"pool {pool} has {gpus} GPUs"
        if unknown:
            granted = {one.endpoint: min(one.asked, max(one.standing, one.least)) for one in claims}
            others_too = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
            size += f", but what stands of {unknown[0]}{others_too} is not known, and nobody grows meanwhile"
        else:
            granted = share_beside(claims, gpus - occupied, beyond)
            if occupied + beyond > 0:
                size += f", {occupied + beyond} of them taken beside these orders"
        for i, claim in orders.items():
            decisions[i] = _with_verdict(decisions[i], size, claim.asked, granted[claim.endpoint])
        uses[pool] = PoolUse(
            gpus=gpus,
            asked=occupied + beyond + sum(one.asked * one.gpus_per_replica for one in claims),
            granted=occupied + beyond + sum(granted[one.endpoint] * one.gpus_per_replica for one in claims),
        )
    return decisions, uses


def undrawn_pools(policies: Sequence[ScalingPolicy], pools: Mapping[str, int]) -> Mapping[str, str]:
    """What is wrong with each pool that no policy draws from: it limits nobody. Misspelt, or all that name it take no
    GPU."""
    undrawn = [pool for pool in pools if not any(draws_from(policy, pool) for policy in policies)]
    if not undrawn:  # as in nearly every turn
        return {}
    named = sorted({policy.spec.target.pool for policy in policies} - {""})
    named_only = f"spec.target.pool is {', '.join(named) or 'not set'}"
    without_gpu = "spec.target.gpusPerReplica is 0 where spec.target.pool names it"
    return {
        pool: f"{pools[pool]} GPUs, and no policy draws from it; {without_gpu if pool in named else named_only}"
        for pool in undrawn
    }


def draws_from(policy: ScalingPolicy, pool: str) -> bool:
    """Whether its replicas take GPUs of this pool."""
    target = policy.spec.target
    return target.pool == pool and target.gpus_per_replica > 0


def _is_order(snapshot: Snapshot, decision: Decision) -> bool:
    """A hold is none: what stands for lack of knowledge gives way to nobody."""
    return decision.mode is Mode.ENFORCE and not snapshot.policy.spec.safety.paused and decision.plan is not None


def _claim(snapshot: Snapshot, decision: Decision) -> Claim:
    spec, replicas = snapshot.policy.spec, snapshot.replicas
    if replicas is None or decision.final is None:
        raise ValueError(f"{snapshot.endpoint}: nothing is asked for while replicas are not known")
    return Claim(
        endpoint=snapshot.endpoint,
        priority=spec.budget.priority,
        gpus_per_replica=spec.target.gpus_per_replica,
        least=active_bounds(snapshot.policy, snapshot.now).min,
        standing=replicas.standing,
        asked=decision.final,
    )


def _standing_gpus(snapshot: Snapshot, decision: Decision) -> int | None:
    """Of an endpoint whose replicas are not shared out, with what a hold orders to its minimum; None: not known."""
    each, replicas = snapshot.policy.spec.target.gpus_per_replica, snapshot.replicas
    orders = decision.mode is Mode.ENFORCE or replicas is None
    counts = [replicas.standing] if replicas is not None else []
    if orders and decision.final is not None:
        counts.append(decision.final)
    return each * max(counts) if counts else None


def _with_verdict(decision: Decision, size: str, asked: int, granted: int) -> Decision:
    quota = verdict(QUOTA, asked, granted, Reason.QUOTA, f"{size}: {granted} of {asked} replicas")
    return replace(decision, final=granted, verdicts=(*decision.verdicts, quota))
