"""Examine what a service would meet: `headstart doctor`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from scaler.adapters.store.store import SqlStore
from scaler.app.bootstrap import Outside, build_outside
from scaler.app.settings import Settings
from scaler.domain.policy import ScalingPolicy
from scaler.errors import HeadstartError

LOOK_BACK = timedelta(days=1)
STEP = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at. `found` says what is there, or what to do."""

    what: str
    found: str
    fine: bool


def examine(settings: Settings) -> Sequence[Finding]:
    """Findings in the order in which a service would need them; what cannot be reached ends what depends on it."""
    return tuple(_examine(settings))


def _examine(settings: Settings) -> Iterator[Finding]:
    try:
        SqlStore.open(settings.store).close()
        yield Finding(what="store", found=settings.store, fine=True)
    except HeadstartError as error:
        yield Finding(what="store", found=str(error), fine=False)
    try:
        outside = build_outside(settings)
        policies = outside.policies.load()
    except HeadstartError as error:
        yield Finding(what="policies", found=str(error), fine=False)
        return
    yield Finding(what="policies", found=f"{len(policies)} in {settings.policies}", fine=True)
    now = outside.clock.now()
    yield from _demand(outside, policies, now, settings.prometheus_url)
    yield from _targets(outside, policies, now)


def _demand(outside: Outside, policies: Sequence[ScalingPolicy], now: datetime, url: str) -> Iterator[Finding]:
    try:
        histories = outside.source.history(policies, now - LOOK_BACK, now, STEP)
        readings = outside.source.read(policies, now)
    except HeadstartError as error:
        yield Finding(what=f"metrics {url}", found=str(error), fine=False)
        return
    yield Finding(what=f"metrics {url}", found="answers", fine=True)
    for policy in policies:
        series, reading = histories.get(policy.endpoint), readings.get(policy.endpoint)
        seen = 0.0 if series is None or not len(series) else float(np.isfinite(series.values).mean())
        if series is None or seen == 0:
            text = "no demand in the last day: check spec.demand (preset, selector or query)"
            yield Finding(what=f"demand {policy.endpoint}", found=text, fine=False)
            continue
        mean = float(np.nanmean(series.values))
        fresh = "" if reading is not None else "; nothing fresh now"
        text = f"{seen:.0%} of the last day seen, mean {mean:.4g} {policy.spec.demand.unit.value}/s{fresh}"
        yield Finding(what=f"demand {policy.endpoint}", found=text, fine=reading is not None)


def _targets(outside: Outside, policies: Sequence[ScalingPolicy], now: datetime) -> Iterator[Finding]:
    try:
        states = outside.target.observe(policies, now)
    except HeadstartError as error:
        yield Finding(what="cluster", found=str(error), fine=False)
        return
    problems = outside.target.problems()
    for policy in policies:
        state = states.get(policy.endpoint)
        if state is None:
            yield Finding(
                what=f"target {policy.endpoint}", found=problems.get(policy.endpoint, "not found"), fine=False
            )
        else:
            text = f"{state.ready} ready, {len(state.starting)} starting, {state.desired} desired"
            yield Finding(what=f"target {policy.endpoint}", found=text, fine=True)
