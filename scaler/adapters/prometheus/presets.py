"""Named, versioned signal sets: data in presets/*.yaml, one file each. To add one: write the file, name it here.

A signal is PromQL with these marks, so that one query serves every endpoint of the preset:

    $by                         the selector's label names, to group by
    $rate(counter[, matchers])  growth per second of each series over the rate window; a counter reset is no spike
    $growth(gauge[, matchers])  change per second of each series over the rate window, may be negative
    $fresh(gauge[, matchers])   the last sample of each series, unless it is stale
    $percentile                 the policy's latency percentile
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import yaml

NAMES = ("http", "istio", "vllm", "sglang", "triton", "ray-serve", "knative", "kafka")
_CALL = re.compile(r"\$(rate|growth|fresh)\(([a-zA-Z_:][\w:]*)(?:,\s*([^()]*))?\)")


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Signals of one kind of server. A signal that it does not have is ""."""

    name: str
    version: int
    engines: tuple[str, ...]
    description: str
    seen_at_zero_replicas: bool
    """Whether demand is known while no replica is ready: the metrics do not come from the replicas themselves."""
    namespace_label: str
    """The default selector is these labels with the policy's namespace and target name; "": no such label."""
    name_label: str
    demand: Mapping[str, str]
    """By demand unit: units per second (concurrency: a level)."""
    completions: str = ""
    queue: str = ""
    tokens_per_request: str = ""
    """The mean over the requests that ended lately, prompt and answer; what `queue` counts are requests."""
    in_flight: str = ""
    latency: str = ""
    """Seconds at $percentile."""
    per_replica: Mapping[str, str]
    """Signals for reactive thresholds, each the mean over the replicas that report."""

    def default_selector(self, namespace: str, name: str) -> dict[str, str]:
        labels = {self.namespace_label: namespace, self.name_label: name}
        return {label: value for label, value in labels.items() if label}


@dataclass(frozen=True, kw_only=True)
class QueryContext:
    """What fills a signal's marks: matchers for every selector, and spans in wall seconds."""

    by: tuple[str, ...]
    matchers: str
    window_seconds: float
    fresh_seconds: float
    percentile: float = 0.95


def fill(signal: str, context: QueryContext) -> str:
    """PromQL with all marks filled in.

    Example: `sum by ($by) ($rate(x_total))` for label app, matchers `app=~"a|b"` and a window of 60 s gives
    `sum by (app) (rate(x_total{app=~"a|b"}[60s]))`.
    """

    def expand(call: re.Match[str]) -> str:
        function, metric, extra = call.groups()
        matchers = ",".join(part for part in (extra, context.matchers) if part)
        selected = f"{metric}{{{matchers}}}"
        if function == "fresh":
            return f"({selected} and time() - timestamp({selected}) <= {context.fresh_seconds:g})"
        return f"{'rate' if function == 'rate' else 'deriv'}({selected}[{_span(context.window_seconds)}])"

    text = _CALL.sub(expand, signal)
    return text.replace("$by", ", ".join(context.by)).replace("$percentile", f"{context.percentile:g}")


def _span(seconds: float) -> str:
    return f"{seconds:g}s" if seconds == int(seconds) else f"{round(seconds * 1000)}ms"


def _load(name: str) -> Preset:
    document: dict[str, Any] = yaml.safe_load((files(__package__) / "presets" / f"{name}.yaml").read_text("utf-8"))
    labels = document["labels"]
    return Preset(
        name=document["name"],
        version=document["version"],
        engines=tuple(document["engines"]),
        description=document["description"],
        seen_at_zero_replicas=document["seenAtZeroReplicas"],
        namespace_label=labels.get("namespace", ""),
        name_label=labels["name"],
        demand=MappingProxyType(document["demand"]),
        completions=document.get("completions", ""),
        queue=document.get("queue", ""),
        tokens_per_request=document.get("tokensPerRequest", ""),
        in_flight=document.get("inFlight", ""),
        latency=document.get("latency", ""),
        per_replica=MappingProxyType(document["perReplica"]),
    )


PRESETS: Mapping[str, Preset] = MappingProxyType({name: _load(name) for name in NAMES})
