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
