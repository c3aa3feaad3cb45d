"""What tune may change, and what it says."""

import pytest

from scaler.app.tuning import CHOICES, Choice, Found, Trial
from scaler.domain.policy import ScalingPolicy
from tests.builders import a_policy


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.name)
def test_every_value_that_is_tried_is_one_that_a_policy_takes_and_shows(choice: Choice) -> None:
    for value in choice.values:
        document = a_policy({"scaleToZero": {"enabled": True}, "forecast": {"risk": 0.9}}).document()
        choice.put(document, value)
        assert choice.of(ScalingPolicy.model_validate(document).document()) == value


@pytest.mark.parametrize("cost", ["0.123456789", "1234567.5", "1e-05"])
def test_what_the_policy_holds_is_tried_and_shown_to_the_last_digit(cost: str) -> None:
    (choice,) = (choice for choice in CHOICES if choice.name == "coldRequestCost")
    policy = a_policy({"scaleToZero": {"enabled": True, "coldRequestCost": float(cost)}})
    document = policy.document()
    assert choice.of(document) == cost
    choice.put(document, cost)
    assert ScalingPolicy.model_validate(document) == policy


def test_a_search_that_never_kept_the_objective_says_so() -> None:
    present = Trial(choices={"risk": "auto"}, replica_hours=4.0, slo_attainment=0.5)
    better = Trial(choices={"risk": "0.99"}, replica_hours=5.0, slo_attainment=0.6)
    assert (
        "Nothing that was tried keeps the objective." in Found(present=present, best=better, objective=0.9).sentence()
    )
    assert "risk = 0.99" in Found(present=present, best=better, objective=0.6).sentence()
    assert "keeps" not in Found(present=present, best=better, objective=0.6).sentence()


def test_a_backlog_is_tuned_by_nothing_that_its_policy_may_not_hold() -> None:
    batch = a_policy({"workload": "Batch", "scaleToZero": {"enabled": True}})
    assert [choice.name for choice in CHOICES if choice.is_read_by(batch)] == ["utilization", "window"]
