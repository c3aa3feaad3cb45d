"""What the gauges say of one turn."""

from dataclasses import replace
from datetime import timedelta

import pytest

from scaler.adapters.telemetry import Telemetry
from scaler.core.decide import decide
from scaler.cycle import TurnReport
from scaler.domain.decision import Actuation, ActuationOutcome
from scaler.domain.record import DecisionRecord
from scaler.domain.setting import Choice, ReplayedCost, Setting, Source
from tests.builders import NOON, a_snapshot


@pytest.mark.parametrize(("by_next_arrival", "shown"), [(False, "0.25"), (True, "NaN")])
def test_figures_that_are_not_of_what_plays_are_not_shown(by_next_arrival: bool, shown: str) -> None:
    setting = Setting(source=Source.REACTIVE, level=1.0)
    cost = ReplayedCost(setting=setting, replica_hours=12.0, bad_fraction=0.25, days=3.0)
    choice = Choice(
        setting=setting,
        chosen_at=NOON,
        replayed=cost,
        shadow=cost,
        replayed_for=timedelta(days=3),
        by_next_arrival=by_next_arrival,
    )
    snapshot = replace(a_snapshot(), choice=choice)
    record = DecisionRecord(
        snapshot=snapshot, decision=decide(snapshot), actuation=Actuation(outcome=ActuationOutcome.OBSERVED)
    )
    telemetry = Telemetry()
    telemetry.turn(TurnReport(now=NOON, records=(record,), problems={}), seconds=0.1)
    text, _ = telemetry.exposition()
    assert f'headstart_replayed_missed_fraction{{name="chat-7b",namespace="prod"}} {shown}' in text.decode()
