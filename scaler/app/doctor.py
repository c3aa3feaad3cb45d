"""Examine what a service would meet: `headstart doctor`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from scaler.adapters.addresses import without_password
from scaler.adapters.clock import ScaledClock, SystemClock
from scaler.adapters.kubernetes.keda import NEEDS_ADDRESS
from scaler.adapters.kubernetes.policies import PolicyResources
from scaler.adapters.kubernetes.target import KubernetesTarget
from scaler.adapters.policies.files import PolicyFiles
from scaler.adapters.store.store import SqlStore
from scaler.app.bootstrap import build_clock, build_orders, build_policies, build_source, build_target
from scaler.app.settings import Settings
from scaler.core.allocation import draws_from, undrawn_pools
from scaler.domain.policy import ScalingPolicy
from scaler.errors import HeadstartError, InputError

LOOK_BACK = timedelta(days=1)
STEP = timedelta(minutes=5)
NOT_ASKED = "not asked: there is no policy to ask for"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at. `found` says what is there, or what to do."""

    what: str
    found: str
    fine: bool


def examine(settings: Settings) -> Sequence[Finding]:
    """Findings in the order in which a service would need them; each is looked at whatever became of the others."""
    return tuple(_examine(settings))


def _examine(settings: Settings) -> Iterator[Finding]:
    yield _store(settings)
    clock = build_clock(settings)
    now = clock.now()
    policies: Sequence[ScalingPolicy] = ()
    source: PolicyFiles | PolicyResources | None = None
    try:
        source = build_policies(settings)
        policies = source.load()
    except InputError as error:
        yield from (Finding(what="policies", found=line, fine=False) for line in str(error).splitlines())
    else:
        yield Finding(what="policies", found=f"{len(policies)} in {settings.policies}", fine=True)
        # A service would go on with the last good version of these; here there is none.
        yield from (Finding(what="policy", found=line, fine=False) for line in source.problems())
    if isinstance(source, PolicyResources):
        yield _status(source)
    yield from _pools(settings, policies)
    yield from _demand(settings, clock, policies, now)
    yield from _keda(settings, policies)
    yield from _targets(settings, clock, policies, now)


def _store(settings: Settings) -> Finding:
    try:
        SqlStore.open(settings.store).close()
    except HeadstartError as error:
        return Finding(what="store", found=str(error), fine=False)
    return Finding(what="store", found=without_password(settings.store), fine=True)


def _status(source: PolicyResources) -> Finding:
    """Whether policies that are resources could be answered; nothing is written for it."""
    what = "policy status"
    try:
        may = source.may_tell()
    except HeadstartError as error:
        return Finding(what=what, found=f"not known whether it may be written: {error}", fine=False)
    if may:
        return Finding(what=what, found="may be written", fine=True)
    text = (
        "no right to patch inferencescalingpolicies/status: policies are gone by, but none says whether it is valid; "
        "check the RBAC rules of Headstart (deploy/headstart.yaml)"
    )
    return Finding(what=what, found=text, fine=False)


def _pools(settings: Settings, policies: Sequence[ScalingPolicy]) -> Iterator[Finding]:
    named = {policy.spec.target.pool for policy in policies if policy.spec.target.pool}
    undrawn = undrawn_pools(policies, settings.pools)
    for pool, gpus in settings.pools.items():
        members = [policy for policy in policies if draws_from(policy, pool)]
        least = sum(one.spec.replicas.min * one.spec.target.gpus_per_replica for one in members)
        text = f"{gpus} GPUs for {len(members)} policies"
        if least > gpus:
            text = f"{gpus} GPUs, and the spec.replicas.min of its {len(members)} policies need {least}"
        fine = pool not in undrawn and least <= gpus
        yield Finding(what=f"pool {pool}", found=undrawn.get(pool, text), fine=fine)
    for pool in sorted(named - settings.pools.keys()) if settings.pools else ():
        yield Finding(what=f"pool {pool}", found="no limit: HEADSTART_POOLS does not name it", fine=True)


def _demand(
    settings: Settings, clock: SystemClock | ScaledClock, policies: Sequence[ScalingPolicy], now: datetime
) -> Iterator[Finding]:
    what = f"metrics {without_password(settings.prometheus_url)}"
    try:
        source = build_source(settings, clock)
        histories = source.history(policies, now - LOOK_BACK, now, STEP)
        readings = source.read(policies, now)
    except HeadstartError as error:
        yield Finding(what=what, found=str(error), fine=False)
        return
    if not policies:
        yield Finding(what=what, found=NOT_ASKED, fine=False)
        return
    yield Finding(what=what, found="answers", fine=True)
    for policy in policies:
        series, reading = histories.get(policy.endpoint), readings.get(policy.endpoint)
        seen = 0.0 if series is None or not len(series) else float(np.isfinite(series.values).mean())
        if series is None or seen == 0:
            text = "no demand in the last day: check spec.demand (preset, selector or query)"
            yield Finding(what=f"demand {policy.endpoint}", found=text, fine=False)
            continue
        mean = float(np.nanmean(series.values))
        fresh = "" if reading is not None else "; nothing fresh now"
        unit = policy.spec.demand.unit
        per_second = "/s" if unit.is_rate else ""
        text = f"{seen:.0%} of the last day seen, mean {mean:.4g} {unit.value}{per_second}{fresh}"
        yield Finding(what=f"demand {policy.endpoint}", found=text, fine=reading is not None)


def _keda(settings: Settings, policies: Sequence[ScalingPolicy]) -> Iterator[Finding]:
    """Whether the endpoints that KEDA scales could ask for their orders."""
    asking = [str(policy.endpoint) for policy in policies if policy.spec.target.actuation == "KEDA"]
    if not asking:
        return
    try:
        orders = build_orders(settings)
    except HeadstartError as error:
        yield Finding(what="KEDA", found=str(error), fine=False)
        return
    if orders is None or settings.keda is None:
        yield Finding(what="KEDA", found=f"{NEEDS_ADDRESS}; it is not set", fine=False)
        return
    host, port = settings.keda
    yield Finding(what="KEDA", found=f"served on {host}:{port} for {', '.join(asking)}", fine=True)


def _targets(
    settings: Settings, clock: SystemClock | ScaledClock, policies: Sequence[ScalingPolicy], now: datetime
) -> Iterator[Finding]:
    try:
        target = build_target(settings, clock, build_orders(settings))
        states = target.observe(policies, now)
    except HeadstartError as error:
        yield Finding(what="cluster", found=str(error), fine=False)
        return
    if not policies:
        yield Finding(what="cluster", found=NOT_ASKED, fine=False)
        return
    problems = target.problems()
    for policy in policies:
        state = states.get(policy.endpoint)
        if state is None:
            yield Finding(
                what=f"target {policy.endpoint}", found=problems.get(policy.endpoint, "not found"), fine=False
            )
        else:
            text = f"{state.ready} ready, {len(state.starting)} starting, {state.desired} desired"
            yield Finding(what=f"target {policy.endpoint}", found=text, fine=True)
    yield from _rivals(target, policies)


def _rivals(target: KubernetesTarget, policies: Sequence[ScalingPolicy]) -> Iterator[Finding]:
    try:
        rivals, unheard = target.rivals(policies), target.unheard(policies)
    except HeadstartError as error:
        yield Finding(what="other autoscalers", found=f"not known: {error}", fine=False)
        return
    for endpoint, rival in rivals.items():
        actuation = "KEDA" if rival.scaled_object else "HPAFloor"
        text = (
            f"HPA {rival.name} scales the same target and would undo every order; delete it, or take "
            f"spec.target.actuation {actuation}"
        )
        yield Finding(what=f"target {endpoint}", found=text, fine=False)
    for endpoint in unheard:
        text = "no ScaledObject of KEDA scales it, so nobody asks for its orders; make one (docs/keda.md)"
        yield Finding(what=f"target {endpoint}", found=text, fine=False)
