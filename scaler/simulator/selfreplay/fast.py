"""From policies and base rows to the compiled replay."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import ceil

import numpy as np

from forecaster.series import FloatArray
from scaler.core.bounds import active_bounds
from scaler.domain.policy import ScalingPolicy, ScalingRules
from scaler.domain.replicas import CapacityProfile
from scaler.simulator.compiled import IntArray, Rules

SELECT = {"Max": 1, "Min": 0, "Disabled": -1}


def rules_of(policy: ScalingPolicy, profile: CapacityProfile, step: timedelta) -> Rules:
    """What the replay of every setting of this policy shares."""
    behavior = policy.spec.behavior
    return Rules(
        step_seconds=step.total_seconds(),
        capacity=profile.demand_per_replica,
        startup_steps=profile.startup.p50 / step,
        lead_steps=max(1, ceil(profile.startup.p95 / step)),
        wait_steps=policy.spec.slo.queue_wait / step,
        panic_factor=policy.spec.reactive.panic.factor,
        is_rate=policy.spec.demand.unit.is_rate,
        zero_allowed=policy.spec.scale_to_zero.enabled,
        limits_up=_limits(behavior.scale_up, step),
        select_up=SELECT[behavior.scale_up.select],
        limits_down=_limits(behavior.scale_down, step),
        select_down=SELECT[behavior.scale_down.select],
        window_up=_window(behavior.scale_up, step),
        window_down=_window(behavior.scale_down, step),
    )


def _limits(rules: ScalingRules, step: timedelta) -> FloatArray:
    rows = [[limit.period / step, float(limit.type == "Fraction"), limit.value] for limit in rules.policies]
    return np.array(rows, dtype=np.float64).reshape(len(rows), 3)


def _window(rules: ScalingRules, step: timedelta) -> int:
    window = rules.stabilization_window
    return int(window // step) if isinstance(window, timedelta) else 0


def bounds_of(policy: ScalingPolicy, times: Sequence[datetime]) -> tuple[IntArray, IntArray]:
    """The lowest and the highest count allowed at each of `times`, overrides included."""
    if not policy.spec.overrides:
        replicas = policy.spec.replicas
        return np.full(len(times), replicas.min), np.full(len(times), replicas.max)
    active = [active_bounds(policy, when) for when in times]
    return np.array([bounds.min for bounds in active]), np.array([bounds.max for bounds in active])
