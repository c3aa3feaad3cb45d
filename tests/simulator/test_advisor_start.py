"""A service decides before its first refit is done; that must not cost it its history."""

from datetime import timedelta

import numpy as np

from forecaster.series import DemandSeries, DemandUnit
from scaler.cycle import prior_profile
from scaler.ports import Reading
from scaler.simulator.selfreplay.advisor import SelfReplayAdvisor
from tests.builders import a_policy
from tests.simulator.makers import MONDAY

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
