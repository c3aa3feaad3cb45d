from datetime import timedelta

import pytest

from scaler.errors import SettingsError
from scaler.simulator.faults import parse_faults
from scaler.simulator.startups import StartupModel
from tests.simulator.makers import MONDAY


def test_every_documented_fault_is_understood():
    starts = ["failed-starts:0.1", "slow-starts:3", "varied-starts:0.3", "cold-nodes:0.2/4m"]
    faults = parse_faults(["forecast-shift:6h", "metrics-outage:1d8h/10m", "rolling-update:9h", *starts])
    assert (faults.forecast, faults.shift) == ("shift", timedelta(hours=6))
    assert faults.outages == ((timedelta(hours=32), timedelta(minutes=10)),)
    model = faults.startup(StartupModel(typical=timedelta(seconds=150)))
    assert (model.failed_fraction, model.slow_factor, model.sigma) == (0.1, 3.0, 0.3)
    assert (model.cold_node_fraction, model.node) == (0.2, timedelta(minutes=4))
    assert faults.rolling_updates == (timedelta(hours=9),)
    assert parse_faults(["forecast-noise"]).forecast == "noise"
    assert parse_faults(["forecast-zero"]).forecast == "zero"


def test_an_outage_is_relative_to_the_test_span():
    (outage,) = parse_faults(["metrics-outage:8h/10m"]).outages_from(MONDAY)
    assert outage.covers(MONDAY + timedelta(hours=8))
    assert not outage.covers(MONDAY + timedelta(hours=8, minutes=10))


@pytest.mark.parametrize(
    "name",
    [
        "flood",
        "forecast-shift",
        "forecast-shift:soon",
        "metrics-outage:1h",
        "metrics-outage:99999999999d/1h",
        "metrics-outage:1h/0s",
        "failed-starts:1",
        "slow-starts:0",
        "forecast-zero:1",
        "varied-starts:-1",
        "cold-nodes:0.2",
        "cold-nodes:2/4m",
        "rolling-update",
    ],
)
def test_an_unknown_or_incomplete_fault_names_what_is_allowed(name):
    with pytest.raises(SettingsError, match=r"fault '.*allowed: forecast-noise"):
        parse_faults([name])


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ["forecast-noise", "forecast-zero"],
            "'forecast-zero': stands beside 'forecast-noise'; need at most one forecast",
        ),
        (["forecast-shift:1h", "forecast-shift:2h"], "need at most one forecast fault"),
        (["failed-starts:0.1", "slow-starts:2", "failed-starts:0.2"], "need at most one failed-starts fault"),
    ],
)
def test_a_fault_that_would_take_the_place_of_another_is_refused(names, said):
    with pytest.raises(SettingsError, match=said):
        parse_faults(names)


def test_outages_and_rollouts_may_come_more_than_once():
    faults = parse_faults(["metrics-outage:1h/1m", "metrics-outage:2h/1m", "rolling-update:1h", "rolling-update:2h"])
    assert (len(faults.outages), len(faults.rolling_updates)) == (2, 2)


@pytest.mark.parametrize("name", ["metrics-outage:50d/1h", "rolling-update:1d"])
def test_a_fault_beyond_the_test_is_refused(name):
    with pytest.raises(SettingsError, match=r"begins (50d|1d) into a test of 1d; need a start before its end"):
        parse_faults([name]).check_within(timedelta(days=1))
