"""Every baseline by name. To add one: write baselines/<name>.py and add its line here."""

from collections.abc import Mapping
from types import MappingProxyType

from scaler.simulator.baselines import (
    ahpa,
    aibrix,
    aws,
    dynamo,
    gcp,
    histogram,
    hpa,
    keda,
    keepalive,
    knative,
    llmd,
    static,
)
from scaler.simulator.baselines.base import Baseline

BASELINES: Mapping[str, Baseline] = MappingProxyType(
    {
        baseline.name: baseline
        for baseline in (
            hpa.BASELINE,
            keda.BASELINE,
            knative.BASELINE,
            static.BASELINE,
            keepalive.BASELINE,
            histogram.BASELINE,
            aws.BASELINE,
            gcp.BASELINE,
            dynamo.CONSTANT,
            dynamo.ARIMA,
            dynamo.KALMAN,
            llmd.BASELINE,
            aibrix.BASELINE,
            aibrix.UNGUARDED,
            ahpa.BASELINE,
        )
    }
)
