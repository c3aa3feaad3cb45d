"""A service decides before its first refit is done; that must not cost it its history."""

from datetime import timedelta

import numpy as np

from forecaster.series import DemandSeries, DemandUnit
from scaler.cycle import prior_profile
from scaler.domain.policy import ScalingPolicy
from scaler.ports import Advice, Reading
from scaler.simulator.selfreplay.advisor import SelfReplayAdvisor
from tests.builders import a_policy
from tests.simulator.makers import MONDAY, planned

STEP = timedelta(seconds=15)
N_HOURS = 30


def test_a_turn_before_the_first_refit_changes_nothing_after_it() -> None:
    values = 2.0 + np.sin(np.arange(N_HOURS * 240) / 5760 * 2 * np.pi)
    history = DemandSeries(unit=DemandUnit.REQUESTS, start=MONDAY, step=STEP, values=values)
    lately = Reading(recent=history.since(history.end - timedelta(hours=2)), reactive={})
    policy = a_policy()
    profile = prior_profile(policy)
    early, late = SelfReplayAdvisor(), SelfReplayAdvisor()
    early.advise(policy, lately, None, history.end)
    for advisor in (early, late):
        advisor.refit(policy, history, profile, history.end)
    advised, expected = (advisor.advise(policy, lately, None, history.end) for advisor in (early, late))
    assert advised.choice == expected.choice
    assert advised.signals == expected.signals
    assert expected.choice is not None
    assert expected.choice.replayed is not None


def started(advisor: SelfReplayAdvisor, policy: ScalingPolicy, hours: int, size: float) -> Advice:
    """The advice after a first refit with so many hours of a calm demand."""
    values = size * (2.0 + 0.2 * np.random.default_rng(1).standard_normal(hours * 240))
    history = DemandSeries(unit=DemandUnit.REQUESTS, start=MONDAY, step=STEP, values=values)
    advisor.refit(policy, history, prior_profile(policy), history.end)
    return advisor.advise(policy, Reading(recent=history, reactive={}), None, history.end)


def test_a_new_endpoint_begins_with_what_works_elsewhere() -> None:
    """Another one, ten times smaller and calm as well, has shown that the cautious default wastes a third."""
    new, old = a_policy(name="new"), a_policy({"capacity": {"perReplica": 0.25}}, name="old")
    fleet = SelfReplayAdvisor()
    started(fleet, old, 16, 0.1)
    alone, together = started(SelfReplayAdvisor(), new, 1, 1.0), started(fleet, new, 1, 1.0)
    assert together.choice is not None and not together.choice.setting.uses_forecast
    assert planned(together) < 0.8 * planned(alone)


def test_one_of_another_promise_teaches_nothing() -> None:
    new, old = a_policy(name="new"), a_policy({"slo": {"objective": 0.9}}, name="old")
    fleet = SelfReplayAdvisor()
    started(fleet, old, 16, 0.1)
    assert started(fleet, new, 1, 1.0) == started(SelfReplayAdvisor(), new, 1, 1.0)
