"""What a policy may say and probably does not mean."""

from datetime import timedelta

from forecaster.series import DemandUnit
from scaler.adapters.prometheus.presets import PRESETS
from scaler.core.budget import limit_replica_hours
from scaler.domain.fields import format_duration
from scaler.domain.policy import Budget, Mode, Safety, ScaleToZero, ScalingPolicy, Workload

ENOUGH_HISTORY = timedelta(hours=12)
"""Before so much is known the cautious default plays."""


def warnings_for(policy: ScalingPolicy) -> list[str]:
    """What is allowed and probably not meant; one sentence each."""
    return [
        *_to_zero(policy),
        *_thresholds(policy),
        *_overrides(policy),
        *_forecast(policy),
        *_budget(policy),
        *_safety(policy),
        *_capacity(policy),
    ]


def _to_zero(policy: ScalingPolicy) -> list[str]:
    spec = policy.spec
    found: list[str] = []
    preset = PRESETS.get(spec.demand.preset)
    to_zero = spec.scale_to_zero.enabled and spec.replicas.min == 0
    if preset and to_zero and not spec.demand.query and not preset.seen_at_zero_replicas:
        found.append(
            f"spec.scaleToZero.enabled with spec.demand.preset {preset.name}: these metrics come from the replicas, so "
            "demand is unknown at zero and the endpoint stays there; take demand from a gateway (preset istio, knative "
            "or http, or spec.demand.query)"
        )
    if to_zero and spec.scale_to_zero.pre_warm and spec.target.actuation == "KnativeMinScale":
        found.append(
            "spec.scaleToZero.preWarm with spec.target.actuation KnativeMinScale: a revision at zero may take a new "
            "min-scale only with its next request; keep spec.replicas.min at 1 where the first request must not wait"
        )
    window = spec.behavior.scale_up.stabilization_window
    if to_zero and window:
        found.append(
            f"spec.behavior.scaleUp.stabilizationWindow {format_duration(window)} with spec.scaleToZero.enabled: the "
            "first replica waits for it too, and the requests that wake the endpoint wait so much "
            "longer; set it to 0s"
        )
    if not spec.scale_to_zero.enabled and spec.scale_to_zero != ScaleToZero():
        found.append("spec.scaleToZero without spec.scaleToZero.enabled: nothing else of it is read")
    return found


def _thresholds(policy: ScalingPolicy) -> list[str]:
    spec = policy.spec
    found: list[str] = []
    target = spec.capacity.utilization.target
    for threshold in spec.reactive.thresholds:
        if threshold.signal == "kv_cache_usage" and threshold.above <= target:
            found.append(
                f"spec.reactive.thresholds kv_cache_usage above {threshold.above:g} with "
                f"spec.capacity.utilization.target {target:g}: where the cache fills with load, replicas that are used "
                "as planned are above the threshold, which then orders more than the plan; set it higher"
            )
        if threshold.signal == "queue_depth" and spec.demand.unit is DemandUnit.TOKENS:
            found.append(
                f"spec.reactive.thresholds queue_depth above {threshold.above:g} with spec.demand.unit tokens: "
                "it counts requests, and a replay knows only the tokens that wait: replays, also those that choose the "
                "setting, leave the threshold out; use kv_cache_usage, so that what is replayed is what plays"
            )
        if threshold.signal == "in_flight" and threshold.above >= spec.capacity.max_concurrency:
            found.append(
                f"spec.reactive.thresholds in_flight above {threshold.above:g} with spec.capacity.maxConcurrency "
                f"{spec.capacity.max_concurrency}: a replica never holds more, the threshold is never exceeded"
            )
    return found


def _overrides(policy: ScalingPolicy) -> list[str]:
    spec = policy.spec
    found: list[str] = []
    highest = spec.replicas.max
    for override in spec.overrides:
        if override.max is not None and override.max > highest:
            found.append(
                f"spec.overrides {override.name} with max {override.max} above spec.replicas.max {highest}: the lower "
                "one holds; raise spec.replicas.max to allow more"
            )
    return found


def _forecast(policy: ScalingPolicy) -> list[str]:
    spec = policy.spec
    found: list[str] = []
    if spec.forecast.history < ENOUGH_HISTORY:
        found.append(
            f"spec.forecast.history {format_duration(spec.forecast.history)}: with less than "
            f"{format_duration(ENOUGH_HISTORY)} of the past nothing is learnt from replaying it"
        )
    if spec.forecast.horizon > spec.forecast.history:
        found.append(
            f"spec.forecast.horizon {format_duration(spec.forecast.horizon)} above spec.forecast.history "
            f"{format_duration(spec.forecast.history)}: more is forecast than was ever seen"
        )
    if spec.forecast.risk != "auto":
        found += _played_risk(spec.forecast.risk)
    return found


def _budget(policy: ScalingPolicy) -> list[str]:
    spec, hours = policy.spec, limit_replica_hours(policy)
    lowest = spec.replicas.min
    found: list[str] = []
    if spec.budget.priority != Budget().priority and not spec.target.pool:
        found.append(
            f"spec.budget.priority {spec.budget.priority} without spec.target.pool: it says who gives way in a pool"
        )
    if spec.budget.gpu_hours_per_day is not None and spec.target.gpus_per_replica == 0:
        found.append(
            "spec.budget.gpuHoursPerDay with spec.target.gpusPerReplica 0: a replica without a GPU spends none of it; "
            "take spec.budget.costPerDay"
        )
    if hours < 24 * lowest:
        found.append(
            f"spec.budget pays for {hours:g} replica-hours a day, spec.replicas.min {lowest} takes {24 * lowest}: the "
            "minimum stands all the same, and nothing above it is ever ordered"
        )
    elif hours < 1:
        found.append(
            f"spec.budget pays for {hours:g} replica-hours a day: less than one replica for the hour that an order "
            "must be paid for, so none is ever ordered"
        )
    return found


def _safety(policy: ScalingPolicy) -> list[str]:
    spec = policy.spec
    found: list[str] = []
    if spec.workload is Workload.BATCH and spec.safety.missing_metrics == "LastGood":
        found.append(
            "spec.safety.missingMetrics LastGood with spec.workload Batch: a backlog not seen is held, as with Hold"
        )
    age = spec.safety.max_forecast_age
    if age != Safety().max_forecast_age and spec.safety.missing_metrics != "LastGood":
        found.append(
            f"spec.safety.maxForecastAge {format_duration(age)} with spec.safety.missingMetrics "
            f"{spec.safety.missing_metrics}: forecasts are issued every turn, and only LastGood plans from an old one"
        )
    if spec.safety.max_premium > 1:
        found.append(
            f"spec.safety.maxPremium {spec.safety.max_premium:g} is {spec.safety.max_premium:.0%}: a fraction is meant"
        )
    if spec.safety.promote is not None and spec.mode is not Mode.OBSERVE:
        found.append(
            f"spec.safety.promote with spec.mode {spec.mode}: the gate is passed by policies that Observe only"
        )
    return found


def _capacity(policy: ScalingPolicy) -> list[str]:
    spec = policy.spec
    found: list[str] = []
    capacity = spec.capacity
    if not spec.demand.unit.is_rate and capacity.per_replica > capacity.max_concurrency:
        found.append(
            f"spec.capacity.perReplica {capacity.per_replica:g} requests in flight above spec.capacity.maxConcurrency "
            f"{capacity.max_concurrency}: a replica is planned for more than it holds"
        )
    if spec.slo.latency is not None and not spec.capacity.learn:
        found.append(
            "spec.slo.latency with spec.capacity.learn false: measured latency says what a replica carries, which is "
            "not learned here; it changes nothing"
        )
    return found


def _played_risk(risk: float) -> list[str]:
    from forecaster.lead import LEVELS  # compiles when it is imported

    if risk in LEVELS:
        return []
    played = min(LEVELS, key=lambda level: abs(level - risk))
    return [f"spec.forecast.risk {risk:g} is played as {played:g}, the nearest of {', '.join(map(str, LEVELS))}"]
