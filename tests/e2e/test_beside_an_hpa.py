"""An HPA that learns of the ramp too late, and Headstart that moves its floor: the two together meet it."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.e2e.rehearsal import NAME, Rehearsal
from tests.e2e.test_end_to_end import SCALE, SETTLED, SPEC, STARTUP, good_share, orders_decided
from tests.e2e.traffic import RAMP
from tests.servers.manifests import autoscaler

BEGIN = timedelta(hours=2, minutes=40)
"""Time enough before the ramp for the first replay of two weeks, which takes as long here as on any day: two minutes
were seen on a busy machine."""
BESIDE = SPEC | {
    "target": SPEC["target"] | {"actuation": "HPAFloor"},
    "replicas": {"min": 1, "max": 16},
    "scaleToZero": {"enabled": False},
}


@pytest.mark.timeout(600)
def test_the_ramp_is_met_through_the_floor_of_the_hpa_and_only_the_hpa_scales(
    rehearse: Callable[..., Rehearsal],
) -> None:
    rehearsal = rehearse(begin=BEGIN, scale=SCALE, startup=STARTUP)
    autoscalers = f"/apis/autoscaling/v2/namespaces/{rehearsal.namespace}/horizontalpodautoscalers"
    rehearsal.start_world(replicas=1)
    rehearsal.cluster.api().create(autoscalers, autoscaler("by-cpu", NAME, most=16))
    rehearsal.start_service(BESIDE)
    ramp_start, ramp_end = (rehearsal.begin.replace(hour=0, minute=0) + moment for moment in RAMP)
    rehearsal.wait_for_time(ramp_end + SETTLED)

    ours = good_share(rehearsal, ramp_start, ramp_end + SETTLED)
    print(f"requests of the ramp that waited no longer than promised: {ours:.3f}")
    assert ours > 0.9
    assert orders_decided(rehearsal) > 0
    assert writers_of_the_scale(rehearsal) == {"kube-controller-manager"}
    conditions = rehearsal.cluster.api().get(f"{autoscalers}/by-cpu")["status"]["conditions"]
    assert {one["type"] for one in conditions} >= {"AbleToScale"}, "the HPA has been at work"


def writers_of_the_scale(rehearsal: Rehearsal) -> set[str]:
    """Who changed the deployment's replicas since it was made, by the API server's own books."""
    path = f"/apis/apps/v1/namespaces/{rehearsal.namespace}/deployments/{NAME}"
    fields = rehearsal.cluster.api().get(path)["metadata"]["managedFields"]
    return {one["manager"] for one in fields if one.get("subresource") == "scale"}
