"""What a policy's parts cannot know by themselves: names that stand elsewhere in the product, and one another."""

import re
from datetime import timedelta

from pydantic.alias_generators import to_camel

from forecaster.calendar import DemandCalendar
from forecaster.catalogue import ALL_METHODS
from forecaster.errors import BadSeries
from forecaster.series import DemandUnit
from scaler.adapters.policies.documents import Document, FieldPath, shown
from scaler.adapters.policies.problems import nearest
from scaler.adapters.prometheus.presets import PRESETS
from scaler.core.bounds import cron_problem
from scaler.domain.fields import format_duration
from scaler.domain.policy import ScalingPolicy, Workload

KIND_OF = {
    "KnativeMinScale": ("serving.knative.dev/v1", "Service"),
    "KServeMinReplicas": ("serving.kserve.io/v1beta1", "InferenceService"),
}
"""Levers that work on one kind of target only."""
LONGEST_DEADLINE = timedelta(hours=24)
"""As far back as a turn sees arrivals, which tell how long the backlog has waited."""
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def crosscheck(policy: ScalingPolicy, document: Document) -> list[str]:
    """One sentence for each name that nothing answers to, and for each field that another one makes pointless."""
    return [
        f"{document.place(path)}: {text}"
        for path, text in (
            *_method(policy),
            *_preset(policy),
            *_selector(policy),
            *_thresholds(policy),
            *_holidays(policy),
            *_crons(policy),
            *_empty_triggers(policy),
            *_beyond_max(policy),
            *_never_at_zero(policy),
            *_floor_above_zero(policy),
            *_kind_of_lever(policy),
            *_never_promoted(policy),
            *_streaming(policy),
            *_batch(policy),
        )
    ]


def _method(policy: ScalingPolicy) -> list[tuple[FieldPath, str]]:
    name = policy.spec.forecast.method
    if name == "auto" or name in ALL_METHODS:
        return []
    return [
        (("spec", "forecast", "method"), f"found {shown(name)}, need auto or a method; {nearest(name, ALL_METHODS)}")
    ]


def _preset(policy: ScalingPolicy) -> list[tuple[FieldPath, str]]:
    demand = policy.spec.demand
    preset = PRESETS.get(demand.preset)
    if preset is None:
        text = f"found {shown(demand.preset)}, need one of {', '.join(sorted(PRESETS))}"
        return [(("spec", "demand", "preset"), text)]
    if not demand.query and demand.unit.value not in preset.demand:
        text = (
            f"found {demand.unit}, preset {preset.name} gives {', '.join(sorted(preset.demand))}; need one of these, "
            "or spec.demand.query"
        )
        return [(("spec", "demand", "unit"), text)]
    if policy.spec.slo.latency is not None and not preset.latency:
        text = f"preset {preset.name} has no latency signal; remove it or take another preset"
        return [(("spec", "slo", "latency"), text)]
    return []


def _selector(policy: ScalingPolicy) -> list[tuple[FieldPath, str]]:
    text = "found {}, need a label of Prometheus: letters, digits and '_', not beginning with a digit"
    return [
        (("spec", "demand", "selector", label), text.format(shown(label)))
        for label in policy.spec.demand.selector
        if not _LABEL.fullmatch(label)
    ]


def _empty_triggers(policy: ScalingPolicy) -> list[tuple[FieldPath, str]]:
    return [
        (("spec", "triggers", i, "then"), "need holdScaleInFor, atLeastReplicas or both above 0")
        for i, trigger in enumerate(policy.spec.triggers)
        if not trigger.then.hold_scale_in_for and not trigger.then.at_least_replicas
    ]


def _beyond_max(policy: ScalingPolicy) -> list[tuple[FieldPath, str]]:
    """Floors that can never be reached: max wins, because it caps spend."""
    spec = policy.spec
    floors: list[tuple[FieldPath, int | None]] = [
        *((("spec", "overrides", i, "min"), override.min) for i, override in enumerate(spec.overrides)),
        *(
            (("spec", "triggers", i, "then", "atLeastReplicas"), trigger.then.at_least_replicas)
            for i, trigger in enumerate(spec.triggers)
        ),
    ]
    highest = spec.replicas.max
    return [
        (path, f"found {floor}, must be <= spec.replicas.max = {highest}")
        for path, floor in floors
        if floor is not None and floor > highest
    ]


def _never_at_zero(policy: ScalingPolicy) -> list[tuple[FieldPath, str]]:
    lowest = policy.spec.replicas.min
    if not policy.spec.scale_to_zero.enabled or lowest == 0:
        return []
    text = f"found true, must be false while spec.replicas.min = {lowest}: it never comes to zero"
    return [(("spec", "scaleToZero", "enabled"), text)]


def _floor_above_zero(policy: ScalingPolicy) -> list[tuple[FieldPath, str]]:
    actuation = policy.spec.target.actuation
    if not policy.spec.scale_to_zero.enabled or actuation not in ("HPAFloor", "KServeMinReplicas"):
        return []
    text = f"found true, must be false with spec.target.actuation {actuation}: that floor is 1 at least"
    return [(("spec", "scaleToZero", "enabled"), text)]


def _kind_of_lever(policy: ScalingPolicy) -> list[tuple[FieldPath, str]]:
    target = policy.spec.target
    needed = KIND_OF.get(target.actuation)
    if needed is None or (target.api_version, target.kind) == needed:
        return []
    text = f"found {target.actuation} with {target.api_version} {target.kind}, need a target of {' '.join(needed)}"
    return [(("spec", "target", "actuation"), text)]


def _never_promoted(policy: ScalingPolicy) -> list[tuple[FieldPath, str]]:
    promote, history = policy.spec.safety.promote, policy.spec.forecast.history
    if promote is None or promote.after <= history:
        return []
    text = f"found {format_duration(promote.after)}, must be <= spec.forecast.history = {format_duration(history)}"
    return [(("spec", "safety", "promote", "after"), f"{text}: no more of the past is replayed")]


def _streaming(policy: ScalingPolicy) -> list[tuple[FieldPath, str]]:
    unit = policy.spec.demand.unit
    if policy.spec.workload is not Workload.STREAMING or unit is DemandUnit.CONCURRENCY:
        return []
    return [(("spec", "demand", "unit"), f"found {unit}, need concurrency with spec.workload Streaming")]


def _batch(policy: ScalingPolicy) -> list[tuple[FieldPath, str]]:
    """What a backlog with a deadline needs, and what does nothing for it."""
    spec = policy.spec
    if spec.workload is not Workload.BATCH:
        return []
    found: list[tuple[FieldPath, str]] = []
    if spec.demand.unit is not DemandUnit.REQUESTS:
        found.append((("spec", "demand", "unit"), f"found {spec.demand.unit}, need requests with spec.workload Batch"))
    preset = PRESETS.get(spec.demand.preset)
    if preset is not None and not preset.queue:
        text = (
            f"preset {preset.name} has no queue signal, and spec.workload Batch works off a queue; take another preset"
        )
        found.append((("spec", "demand", "preset"), text))
    least, deadline = 2 * spec.startup.expected, spec.slo.queue_wait
    if not least <= deadline <= LONGEST_DEADLINE:
        text = (
            f"found {format_duration(deadline)}, need the deadline of spec.workload Batch: from twice "
            f"spec.startup.expected = {format_duration(least)} to {format_duration(LONGEST_DEADLINE)}"
        )
        found.append((("spec", "slo", "queueWait"), text))
    idle = (
        (spec.safety, ("max_premium", "promote"), ("spec", "safety")),
        (spec.forecast, ("risk",), ("spec", "forecast")),
        (spec.forecast.calendar, ("events",), ("spec", "forecast", "calendar")),
        (spec.reactive, ("panic",), ("spec", "reactive")),
        (spec.scale_to_zero, ("cold_request_cost", "min_idle", "pre_warm", "trust"), ("spec", "scaleToZero")),
    )
    for part, names, path in idle:
        for name in names:
            # A policy that writes every default out means none of them.
            default = type(part).model_fields[name].get_default(call_default_factory=True)
            if getattr(part, name) != default:
                found.append(((*path, to_camel(name)), "does nothing with spec.workload Batch; remove it"))
    return found


def _thresholds(policy: ScalingPolicy) -> list[tuple[FieldPath, str]]:
    preset = PRESETS.get(policy.spec.demand.preset)
    if preset is None:
        return []
    found: list[tuple[FieldPath, str]] = []
    for index, threshold in enumerate(policy.spec.reactive.thresholds):
        if threshold.signal not in preset.per_replica:
            known = ", ".join(sorted(preset.per_replica)) or "no such signal"
            text = f"found {shown(threshold.signal)}, preset {preset.name} has {known}"
            found.append((("spec", "reactive", "thresholds", index, "signal"), text))
        elif threshold.signal == "kv_cache_usage" and threshold.above >= 1:
            text = f"found {threshold.above:g}, need < 1 (a fraction, not percent): the whole cache is 1"
            found.append((("spec", "reactive", "thresholds", index, "above"), text))
    return found


def _holidays(policy: ScalingPolicy) -> list[tuple[FieldPath, str]]:
    code = policy.spec.forecast.calendar.holidays
    try:
        DemandCalendar(holidays_of=code)
        known = not code.endswith("-")  # read as the whole country
    except BadSeries:
        known = False
    if not known:
        text = f"found {shown(code)}, need a country code of the holidays package, such as DE or DE-BY"
        return [(("spec", "forecast", "calendar", "holidays"), text)]
    return []


def _crons(policy: ScalingPolicy) -> list[tuple[FieldPath, str]]:
    found: list[tuple[FieldPath, str]] = []
    for index, override in enumerate(policy.spec.overrides):
        problem = cron_problem(override.cron) if override.cron else ""
        if problem:
            text = f'found {shown(override.cron)}, need five cron fields such as "0 7 * * 1-5": {problem}'
            found.append((("spec", "overrides", index, "cron"), text))
    return found
