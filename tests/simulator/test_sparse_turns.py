from datetime import timedelta

import numpy as np
import pytest

from scaler.domain.endpoint import EndpointId
from scaler.simulator.own import own_advisor
from scaler.simulator.replay import OWN, run_replay
from scaler.simulator.spans import ReplayRequest
from tests.builders import a_policy
from tests.simulator.makers import a_series

RARE = EndpointId("prod", "rare")


def a_rare_trace(seed, days=1.0):
    """Bursts of a few requests, some hours apart, and a timer each six hours."""
    rng = np.random.Generator(np.random.PCG64(seed))
    counts = np.zeros(int(days * 1440))
    for _ in range(int(days * 6)):
        at = int(rng.integers(0, len(counts) - 10))
        counts[at : at + 5] += rng.poisson(1.0, 5)
    counts[::360] += 1
    return counts


def a_request(seed, spec):
    base = {"scaleToZero": {"enabled": True, "coldRequestCost": 0.2}, "replicas": {"max": 3}}
    return ReplayRequest(
        policies={RARE: a_policy(base | spec, name="rare")},
        traces={RARE: a_series(a_rare_trace(seed))},
        warmup=timedelta(hours=11),
        baselines=(),
        with_clairvoyant=False,
    )


@pytest.mark.parametrize(("seed", "timezone"), [(1, "UTC"), (2, "Asia/Kolkata")])
def test_the_compiled_turns_give_the_orders_of_the_whole_cycle(seed, timezone):
    request = a_request(seed, {"forecast": {"calendar": {"timezone": timezone}}})
    fast = run_replay(request, own_advisor).endpoints[RARE]
    whole = run_replay(request, own_advisor, whole_cycle=True).endpoints[RARE]
    assert fast.turned == "compiled"
    assert whole.turned == "cycle"
    assert np.array_equal(fast.outcomes[OWN].desired, whole.outcomes[OWN].desired)
    assert fast.outcomes[OWN].desired.max() > 0


def test_a_paused_policy_orders_nothing_in_a_replay_of_a_rarely_used_endpoint_either():
    request = a_request(1, {"safety": {"paused": True}})
    desired = run_replay(request, own_advisor).endpoints[RARE].outcomes[OWN].desired
    assert len(set(desired.tolist())) == 1
