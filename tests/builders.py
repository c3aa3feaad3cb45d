"""Small makers of domain values: each test says only what it is about."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from scaler.cycle import prior_profile
from scaler.domain.policy import ScalingPolicy
from scaler.domain.replicas import ReplicaState
from scaler.domain.snapshot import ControlSignals, Snapshot

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
"""A Monday."""
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


def a_policy(spec: Mapping[str, Any] | None = None, name: str = "chat-7b", namespace: str = "prod") -> ScalingPolicy:
    """A policy with one unit of demand per replica and full utilisation, so that counts can be read off demand."""
    base: dict[str, Any] = {
        "mode": "Enforce",
        "capacity": {"perReplica": 1.0, "utilization": {"target": 1.0}},
        "replicas": {"min": 0, "max": 100},
    }
    return ScalingPolicy.model_validate(
        {"metadata": {"name": name, "namespace": namespace}, "spec": _merged(base, dict(spec or {}))}
    )


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in changes.items():
        out[key] = _merged(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
    return out


def some_replicas(ready: int, starting_ages: Sequence[float] = (), now: datetime = NOON, **more: Any) -> ReplicaState:
    """`ready` replicas and one starting for each age in seconds; the target asks for all of them."""
    starting = tuple(now - timedelta(seconds=age) for age in starting_ages)
    return ReplicaState(ready=ready, starting=starting, desired=more.pop("desired", ready + len(starting)), **more)


def some_signals(
    now_per_second: float, ahead: float | None = None, now: datetime = NOON, **more: Any
) -> ControlSignals:
    """Demand now and one start-up time ahead (the same when not given); no dip guard; the next peak is the present."""
    return ControlSignals(
        read_at=more.pop("read_at", now),
        demand_now=now_per_second,
        demand_ahead=now_per_second if ahead is None else ahead,
        dip_floor=more.pop("dip_floor", 0.0),
        peak_soon=more.pop("peak_soon", now_per_second),
        **more,
    )


def a_snapshot(policy: ScalingPolicy | None = None, **changes: Any) -> Snapshot:
    """Two ready replicas carrying a demand of two: nothing to do, unless `changes` say otherwise."""
    policy = policy or a_policy()
    quiet = Snapshot(
        now=NOON,
        endpoint=policy.endpoint,
        policy=policy,
        profile=prior_profile(policy),
        replicas=some_replicas(2),
        signals=some_signals(2.0),
        queue=0.0,
    )
    return replace(quiet, **changes)
