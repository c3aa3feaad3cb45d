"""Every baseline by name. To add one: write baselines/<name>.py and add its line here."""

from collections.abc import Mapping
from types import MappingProxyType

from scaler.simulator.baselines import hpa, keda, keepalive, knative, static
from scaler.simulator.baselines.base import Baseline

BASELINES: Mapping[str, Baseline] = MappingProxyType(
    {
        module.BASELINE.name: module.BASELINE
        for module in (
            hpa,
            keda,
            knative,
            static,
            keepalive,
        )
    }
)
