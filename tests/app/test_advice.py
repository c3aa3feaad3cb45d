"""The advisors of a running fleet: one an endpoint, but what one has shown helps the next."""

import threading
from datetime import timedelta

import numpy as np

from forecaster.series import DemandSeries, DemandUnit
from scaler.app.advice import FleetAdvisor
from scaler.app.bootstrap import self_replay
from scaler.app.settings import Settings
from scaler.cycle import prior_profile
from scaler.domain.policy import ScalingPolicy
from scaler.ports import Advice, Reading
from tests.builders import a_policy, some_replicas
from tests.simulator.makers import MONDAY, planned

STEP = timedelta(seconds=15)
IDLE = {
    "target": {"costPerReplicaHour": 1.0},
    "scaleToZero": {"enabled": True, "coldRequestCost": 0.6, "minIdle": "0s"},
}


def a_fleet() -> FleetAdvisor:
    return FleetAdvisor(self_replay(Settings()), threading.Event())


def refitted(fleet: FleetAdvisor, policy: ScalingPolicy, values: np.ndarray) -> Advice:
    """The advice in the turn after a first refit on all but the last step of this demand."""
    seen = DemandSeries(unit=DemandUnit.REQUESTS, start=MONDAY, step=STEP, values=values)
    fleet.refit(policy, seen.until(seen.end - STEP), prior_profile(policy), seen.end - STEP)
    return fleet.advise(policy, Reading(recent=seen, reactive={}), some_replicas(1), seen.end)


def calm(hours: int, size: float) -> np.ndarray:
    return size * (2.0 + 0.2 * np.random.default_rng(1).standard_normal(hours * 240))


def test_a_new_endpoint_begins_with_what_replaying_the_others_has_shown() -> None:
    new, old = a_policy(name="new"), a_policy({"capacity": {"perReplica": 0.25}}, name="old")
    fleet = a_fleet()
    refitted(fleet, old, calm(16, 0.1))
    assert planned(refitted(fleet, new, calm(1, 1.0))) < 0.8 * planned(refitted(a_fleet(), new, calm(1, 1.0)))


def chance_soon(advice: Advice) -> float:
    assert advice.idle is not None
    _, probability = advice.idle.reason.split("a request comes within the start-up time with probability ")
    return float(probability)


def test_a_new_sparse_endpoint_begins_with_how_requests_come_to_the_others() -> None:
    """The others are called every 40 minutes; the new one was called once, 37 minutes ago."""
    often, once = np.zeros(4 * 5760), np.zeros(37 * 4)
    often[::160] = once[0] = 1 / 15
    fleet, new = a_fleet(), a_policy(IDLE, name="new")
    refitted(fleet, a_policy(IDLE, name="old"), often)
    assert chance_soon(refitted(fleet, new, once)) > 1.5 * chance_soon(refitted(a_fleet(), new, once))
