"""A policy document is read whole, or refused with a sentence for each thing that is wrong."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from scaler.adapters.policies import (
    PolicyFiles,
    definition_text,
    load_policies,
    load_policy,
    parse_policy,
    policy_schema,
    schema_text,
    warnings_for,
)
from scaler.adapters.policies.documents import read_documents
from scaler.adapters.prometheus.presets import PRESETS
from scaler.domain.policy import Behavior, ScalingPolicy
from scaler.errors import PolicyError
from tests.adapters.policy_source_contract import PolicySourceContract

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ("chat-7b.yaml", "embeddings.yaml", "image-sd.yaml", "transcribe.yaml")
HEAD = "apiVersion: headstart.dev/v1alpha1\nkind: InferenceScalingPolicy\nmetadata: {name: chat, namespace: prod}\n"

MALFORMED = {
    # label: (what follows the head, what the one line must name)
    "bounds crossed": ("spec:\n  replicas: {min: 5, max: 3}\n", ("line 5", "spec.replicas", "min = 5", "<= max = 3")),
    "negative count": ("spec:\n  replicas:\n    min: -1\n", ("line 6", "spec.replicas.min", "found -1", ">= 0")),
    "not whole": ("spec:\n  replicas: {max: 2.5}\n", ("spec.replicas.max", "found 2.5", "a whole number")),
    "unknown field": ("spec:\n  scaleToZero: {minIdel: 5m}\n", ("spec.scaleToZero.minIdel", "did you mean minIdle?")),
    "snake case": ("spec:\n  capacity: {per_replica: 2}\n", ("spec.capacity.per_replica", "did you mean perReplica?")),
    "unknown, nothing near": ("spec:\n  slo: {colour: red}\n", ("spec.slo.colour", "known here", "objective")),
    "percent for a fraction": ("spec:\n  slo: {objective: 99}\n", ("spec.slo.objective", "found 99", "not percent")),
    "more replicas than a cluster": (
        "spec:\n  replicas: {max: 100000000000000000000000000}\n",
        ("spec.replicas.max", "found 100000000000000000000000000", "<= 150000"),
    ),
    "capacity beyond all": ("spec:\n  capacity: {perReplica: 1.0e+308}\n", ("perReplica", "found 1e+308", "<= 1e+12")),
    "capacity next to nothing": ("spec:\n  capacity: {perReplica: 1.0e-300}\n", ("perReplica", ">= 1e-09")),
    "no cost": ("spec:\n  target: {costPerReplicaHour: 0}\n", ("costPerReplicaHour", "found 0", ">= 1e-09")),
    "infinite factor": ("spec:\n  reactive: {panic: {factor: .inf}}\n", ("panic.factor", "found inf", "finite")),
    "bad duration": ("spec:\n  startup: {expected: 150}\n", ("spec.startup.expected", "found 150", "such as 30s")),
    "duration beyond a calendar": (
        "spec:\n  startup: {expected: 99999999999d}\n",
        ("spec.startup.expected", "found 99999999999d", "at most 3650d"),
    ),
    "duration beyond a float": (
        f"spec:\n  startup: {{expected: 1{'0' * 400}s}}\n",
        ("spec.startup.expected", "at most 3650d"),
    ),
    "start-up of a month": ("spec:\n  startup: {expected: 30d}\n", ("spec.startup.expected", "30d", "at most 1d")),
    "history of ages": ("spec:\n  forecast: {history: 900d}\n", ("spec.forecast.history", "900d", "at most 400d")),
    "zero duration": ("spec:\n  startup: {expected: 0s}\n", ("spec.startup.expected", "found 0s", "duration > 0s")),
    "unknown mode": ("spec:\n  mode: enforce\n", ("spec.mode", "found enforce", "Observe, Recommend, Enforce")),
    "streaming by requests": (
        "spec:\n  workload: Streaming\n",
        ("spec.demand.unit", "found requests", "need concurrency with spec.workload Streaming"),
    ),
    "batch without a deadline": (
        "spec:\n  workload: Batch\n",
        ("spec.slo.queueWait", "found 10s", "the deadline", "spec.startup.expected = 5m to 1d"),
    ),
    "batch without a queue": (
        "spec:\n  workload: Batch\n  demand: {preset: istio}\n  slo: {queueWait: 1h}\n",
        ("line 6", "spec.demand.preset", "istio has no queue signal"),
    ),
    "batch by tokens": (
        "spec:\n  workload: Batch\n  demand: {preset: vllm, unit: tokens}\n  slo: {queueWait: 1h}\n",
        ("spec.demand.unit", "found tokens", "need requests with spec.workload Batch"),
    ),
    "batch with what it does not do": (
        "spec:\n  workload: Batch\n  slo: {queueWait: 1h}\n  scaleToZero: {enabled: true, minIdle: 5m}\n",
        ("line 7", "spec.scaleToZero.minIdle", "does nothing with spec.workload Batch; remove it"),
    ),
    "budget of nothing": (
        "spec:\n  budget: {gpuHoursPerDay: 0}\n",
        ("line 5", "spec.budget.gpuHoursPerDay", "found 0", ">= 1e-09"),
    ),
    "unknown workload": ("spec:\n  workload: Weekly\n", ("spec.workload", "found Weekly", "Online, Streaming, Batch")),
    "wrong risk": ("spec:\n  forecast: {risk: high}\n", ("spec.forecast.risk", "found high", "auto", "a number")),
    "risk out of range": ("spec:\n  forecast: {risk: 1.5}\n", ("spec.forecast.risk", "found 1.5", "auto", "< 1")),
    "unknown method": ("spec:\n  forecast: {method: profil}\n", ("spec.forecast.method", "profil", "mean profile?")),
    "unknown preset": ("spec:\n  demand: {preset: vlm}\n", ("spec.demand.preset", "found vlm", "vllm")),
    "unit without signal": (
        "spec:\n  demand: {preset: istio, unit: tokens}\n",
        ("spec.demand.unit", "tokens", "istio gives requests"),
    ),
    "unknown threshold signal": (
        "spec:\n  demand: {preset: vllm}\n  reactive:\n    thresholds:\n      - {signal: queue, above: 5}\n",
        ("line 8", "spec.reactive.thresholds[0].signal", "found queue", "queue_depth"),
    ),
    "cache in percent": (
        "spec:\n  demand: {preset: vllm}\n  reactive: {thresholds: [{signal: kv_cache_usage, above: 80}]}\n",
        ("spec.reactive.thresholds[0].above", "found 80", "< 1 (a fraction, not percent)"),
    ),
    "latency without signal": (
        "spec:\n  demand: {preset: triton}\n  slo: {latency: {below: 2s}}\n",
        ("spec.slo.latency", "triton has no latency"),
    ),
    "bad cron": (
        'spec:\n  overrides:\n    - {name: a, cron: "0 25 * * *", duration: 1h, min: 1}\n',
        ("spec.overrides[0].cron", "0 25 * * *", "five cron fields"),
    ),
    "time without zone": (
        "spec:\n  overrides:\n    - {name: a, start: 2026-12-01T08:00:00, end: 2026-12-02T08:00:00Z, min: 1}\n",
        ("spec.overrides[0].start", "found 2026-12-01T08:00:00", "with a zone"),
    ),
    "time as a number": (
        "spec:\n  overrides:\n    - {name: a, start: 1767225600, end: 2026-12-02T08:00:00Z, min: 1}\n",
        ("spec.overrides[0].start", "found 1767225600", "with a zone"),
    ),
    "override without bound": (
        "spec:\n  overrides:\n    - {name: a, cron: 0 7 * * *, duration: 1h}\n",
        ("spec.overrides[0]", "need min or max"),
    ),
    "zone of a span that has its own": (
        "spec:\n  overrides:\n    - {name: a, start: 2026-12-01T08:00:00Z, end: 2026-12-02T08:00:00Z, min: 1, "
        "timezone: Asia/Tokyo}\n",
        ("spec.overrides[0]", "timezone is read with cron only"),
    ),
    "floor above the ceiling": (
        "spec:\n  replicas: {max: 4}\n  overrides:\n    - {name: a, cron: 0 7 * * *, duration: 1h, min: 200}\n",
        ("line 7", "spec.overrides[0].min", "found 200", "<= spec.replicas.max = 4"),
    ),
    "trigger above the ceiling": (
        "spec:\n  triggers: [{name: a, when: {growth: 2, within: 2m}, then: {atLeastReplicas: 400}}]\n",
        ("spec.triggers[0].then.atLeastReplicas", "found 400", "<= spec.replicas.max = 10"),
    ),
    "trigger that does nothing": (
        "spec:\n  triggers: [{name: a, when: {growth: 2, within: 2m}, then: {}}]\n",
        ("spec.triggers[0].then", "need holdScaleInFor, atLeastReplicas"),
    ),
    "to zero with a floor": (
        "spec:\n  replicas: {min: 2}\n  scaleToZero: {enabled: true}\n",
        ("line 6", "spec.scaleToZero.enabled", "replicas.min = 2"),
    ),
    "to zero above a floor": (
        "spec:\n  target: {actuation: HPAFloor}\n  scaleToZero: {enabled: true}\n",
        ("line 6", "spec.scaleToZero.enabled", "HPAFloor: that floor is 1 at least"),
    ),
    "lever of another kind": (
        "spec:\n  target: {kind: Deployment, actuation: KnativeMinScale}\n",
        ("line 5", "spec.target.actuation", "apps/v1 Deployment", "need a target of serving.knative.dev/v1 Service"),
    ),
    "no label": (
        "spec:\n  rollout: {versionLabel: model version}\n",
        ("line 5", "spec.rollout.versionLabel", "found model version", "app.kubernetes.io/version"),
    ),
    "event twice": (
        "spec:\n  forecast:\n    calendar:\n      events:\n"
        + 2 * "        - {name: a, start: 2026-12-01T08:00:00Z, end: 2026-12-02T08:00:00Z, factor: 2}\n",
        ("spec.forecast.calendar", "a stands twice for the same time"),
    ),
    "label that is none": (
        "spec:\n  demand: {selector: {app.kubernetes.io/name: chat}}\n",
        ("spec.demand.selector", "found app.kubernetes.io/name", "a label of Prometheus"),
    ),
    "refit without end": ("spec:\n  forecast: {refit: 1ms}\n", ("spec.forecast.refit", "found 1ms", "at least 1m")),
    "window that no turn looks back on": (
        "spec:\n  behavior: {scaleDown: {stabilizationWindow: 2h}}\n",
        ("spec.behavior.scaleDown.stabilizationWindow", "found 2h", "auto or a duration of at most 1h"),
    ),
    "growth over hours": (
        "spec:\n  triggers: [{name: a, when: {growth: 2, within: 3h}, then: {atLeastReplicas: 4}}]\n",
        ("spec.triggers[0].when.within", "found 3h", "at most 1h"),
    ),
    "no policy to move by": (
        "spec:\n  behavior: {scaleUp: {policies: []}}\n",
        ("spec.behavior.scaleUp", "need at least one", "select: Disabled"),
    ),
    "more than there is": (
        "spec:\n  behavior: {scaleDown: {policies: [{type: Fraction, value: 10, period: 1m}]}}\n",
        ("spec.behavior.scaleDown", "Fraction of 10", "<= 1 (a fraction, not percent)"),
    ),
    "evidence that is never read": (
        "spec:\n  safety: {promote: {after: 29d}}\n",
        ("spec.safety.promote.after", "found 29d", "<= spec.forecast.history = 28d"),
    ),
    "horizon of ages": ("spec:\n  forecast: {horizon: 900d}\n", ("spec.forecast.horizon", "900d", "at most 400d")),
    "half a region": (
        "spec:\n  forecast: {calendar: {holidays: DE-}}\n",
        ("spec.forecast.calendar.holidays", "found DE-", "such as DE"),
    ),
    "missing in a list": (
        "spec:\n  reactive: {thresholds: [{signal: queue_depth}]}\n",
        ("spec.reactive.thresholds[0].above", "missing"),
    ),
    "unknown zone": (
        "spec:\n  forecast: {calendar: {timezone: Berlin}}\n",
        ("spec.forecast.calendar.timezone", "found Berlin", "IANA"),
    ),
    "unknown country": (
        "spec:\n  forecast: {calendar: {holidays: Bavaria}}\n",
        ("spec.forecast.calendar.holidays", "found Bavaria", "such as DE"),
    ),
    "text for a mapping": ("spec:\n  replicas: three\n", ("spec.replicas", "found three", "a mapping")),
    "list for a mapping": ("spec: []\n", ("line 4", "spec", "found a list", "a mapping")),
    "key twice": ("spec:\n  mode: Observe\n  mode: Enforce\n", ("line 6", "spec.mode", "twice", "line 5")),
    "not YAML": ("spec: {mode: Observe\n", ("line 5", "not YAML")),
    "tab": ("spec:\n\tmode: Observe\n", ("line 5", "not YAML")),
    "holds itself": ("spec: &a\n  target: *a\n", ("holds itself",)),
    "wrong type of truth": ("spec:\n  safety: {paused: perhaps}\n", ("spec.safety.paused", "perhaps", "true or false")),
    "not finite": ("spec:\n  capacity: {perReplica: .inf}\n", ("spec.capacity.perReplica", "inf", "finite")),
    "nothing given": ("spec:\n  replicas:\n    max:\n", ("spec.replicas.max", "found nothing", "whole number")),
}
WHOLE = {
    # label: (whole file, what the one line must name)
    "empty file": ("", ("no policy found",)),
    "only a comment": ("# nothing\n", ("no policy found",)),
    "another kind": ("apiVersion: apps/v1\nkind: Deployment\n", ("line 2", "kind", "Deployment", "InferenceScaling")),
    "a list": ("- 1\n- 2\n", ("line 1", "a list of 2", "a mapping")),
    "no name": (HEAD.replace("name: chat, ", ""), ("metadata.name", "missing")),
    "bad name": (HEAD.replace("chat", "Chat_7B"), ("metadata.name", "Chat_7B", "lower-case")),
    "wrong version": (HEAD.replace("v1alpha1", "v2"), ("apiVersion", "headstart.dev/v2", "headstart.dev/v1alpha1")),
    "no version": (HEAD.split("\n", 1)[1], ("apiVersion", "missing")),
    "the same endpoint twice": (f"{HEAD}---\n{HEAD}", ("prod/chat", "stands twice")),
}
CASES = {label: (HEAD + text, named) for label, (text, named) in MALFORMED.items()} | WHOLE


def a_file(folder: Path, text: str, name: str = "chat.yaml") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("label", CASES)
def test_a_malformed_policy_gets_one_line_naming_file_field_value_and_what_is_allowed(
    label: str, tmp_path: Path
) -> None:
    text, named = CASES[label]
    path = a_file(tmp_path, text)
    with pytest.raises(PolicyError) as refused:
        load_policies([path])
    message = str(refused.value)
    assert message.startswith(str(path))
    assert len(message.splitlines()) == 1, message
    assert [part for part in named if part not in message] == [], message
    assert not re.search(r"pydantic|value_error|input_value|Value error", message)


def test_every_problem_of_every_file_has_its_own_line(tmp_path: Path) -> None:
    a_file(tmp_path, HEAD + "spec:\n  replicas: {min: -1}\n  slo: {objective: 99}\n  colour: red\n", "a.yaml")
    a_file(tmp_path, "kind: Pod\n", "b.yaml")
    with pytest.raises(PolicyError) as refused:
        load_policies(tmp_path)
    lines = str(refused.value).splitlines()
    assert [re.sub(r".*/(\w\.yaml).*?: ([\w.]+): .*", r"\1 \2", line) for line in lines] == [
        "a.yaml spec.replicas.min",
        "a.yaml spec.slo.objective",
        "a.yaml spec.colour",
        "b.yaml kind",
    ]


RICH = {
    "overrides": [{"name": "a", "cron": "0 7 * * *", "duration": "1h", "min": 1}],
    "triggers": [{"name": "f", "when": {"growth": 3, "within": "2m"}, "then": {"atLeastReplicas": 1}}],
    "forecast": {
        "calendar": {
            "events": [{"name": "e", "start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z", "factor": 2}]
        }
    },
}
ODD = (None, True, -1, float("nan"), "x", "\n", [[]], {"a": 1}, "-5m")


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_whatever_stands_in_a_field_the_answer_is_a_policy_or_one_clear_line(odd: object) -> None:
    whole = ScalingPolicy.model_validate({"metadata": {"name": "a"}, "spec": RICH}).document()
    for path in list(places(whole))[1:]:
        body = json.loads(json.dumps(whole))
        holder = body
        for part in path[:-1]:
            holder = holder[part]
        holder[path[-1]] = odd
        try:
            for document in read_documents(yaml.safe_dump(body), "f.yaml"):
                parse_policy(document.body, document.origin, document)
        except PolicyError as error:
            for line in str(error).splitlines():
                assert re.match(r"f\.yaml line \d+: ", line), line
                assert re.search(r"needs? |must |unknown field|stands twice|preset \w+ has", line), line


def places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        yield from places(below, (*path, key))


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_policies_are_valid_and_raise_no_warning(name: str) -> None:
    policy = load_policy(ROOT / "policies" / name)
    assert policy.metadata.name == name.removesuffix(".yaml")
    assert warnings_for(policy) == []


def test_the_policies_folder_holds_the_examples_and_not_the_defaults() -> None:
    names = {policy.metadata.name for policy in load_policies(ROOT / "policies")}
    assert names >= {name.removesuffix(".yaml") for name in EXAMPLES}
    assert "defaults" not in names


def test_the_defaults_file_equals_the_models_defaults_and_names_every_field() -> None:
    path = ROOT / "policies" / "defaults.yaml"
    defaults = ScalingPolicy.model_validate({"metadata": {"name": "defaults"}})
    assert load_policy(path) == defaults
    assert field_paths(yaml.safe_load(path.read_text())) == field_paths(defaults.document())


def field_paths(value: object, path: str = "") -> set[str]:
    if not isinstance(value, dict) or not value:
        return {path}
    return set().union(*(field_paths(inner, f"{path}.{key}") for key, inner in value.items()))


def test_every_field_of_the_defaults_file_stands_there_with_a_comment_or_a_plain_name() -> None:
    """The documentation of a field is the comment beside it; only these say all by their names."""
    plain = {"apiVersion", "kind", "metadata", "spec", "min", "max", "calendar", "utilization"}
    plain |= {
        "window",
        "maxForecastAge",
        "minIdle",
        "policies",
        "panic",
        "scaleUp",
        "scaleDown",
        "replicas",
        "forecast",
    }
    plain |= {"scaleToZero", "safety", "stabilizationWindow", "expected", "select", "enabled"}
    for line in (ROOT / "policies" / "defaults.yaml").read_text().splitlines():
        key = re.match(r"\s*(\w+):", line)
        if key and "#" not in line:
            assert key[1] in plain, line


def test_the_checked_in_schema_is_the_models() -> None:
    assert (ROOT / "deploy" / "policy.schema.json").read_text() == schema_text()


def test_the_checked_in_definition_of_the_custom_resource_is_the_models() -> None:
    assert (ROOT / "deploy" / "policy.crd.yaml").read_text() == definition_text()


def test_defaults_in_the_schema_stand_there_as_a_document_would_say_them() -> None:
    startup = policy_schema()["$defs"]["Startup"]["properties"]["expected"]
    assert re.fullmatch(startup["pattern"], startup["default"])
    assert startup["default"] == "150s"


def test_what_a_rule_of_behavior_does_not_name_keeps_its_default(tmp_path: Path) -> None:
    behavior = "behavior: {scaleUp: {select: Disabled}, scaleDown: {stabilizationWindow: 5m}}"
    own = load_policy(a_file(tmp_path, f"{HEAD}spec: {{{behavior}}}\n")).spec.behavior
    default = Behavior()
    assert own.scale_up == default.scale_up.model_copy(update={"select": "Disabled"})
    assert own.scale_down == default.scale_down.model_copy(update={"stabilization_window": timedelta(minutes=5)})


def test_the_schema_names_fields_as_documents_do_and_refuses_others() -> None:
    schema = policy_schema()
    assert schema["required"] == ["apiVersion", "kind", "metadata"]
    text = json.dumps(schema)
    assert '"costPerReplicaHour"' in text
    assert '"cost_per_replica_hour"' not in text
    assert all(
        part.get("additionalProperties") is False for part in schema["$defs"].values() if part.get("type") == "object"
    )


def test_the_schema_documents_the_fields() -> None:
    target = policy_schema()["$defs"]["Target"]["properties"]
    assert target["costPerReplicaHour"]["description"] == "Any currency; only ratios matter."


def test_a_config_map_a_list_and_plain_documents_hold_policies(tmp_path: Path) -> None:
    a_file(
        tmp_path,
        yaml.safe_dump_all(
            [
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": "policies"},
                    "data": {"chat.yaml": HEAD, "notes.txt": "not: [read"},
                },
                {"kind": "List", "items": [yaml.safe_load(HEAD.replace("chat", "image"))]},
                {"kind": "PolicyTest", "metadata": {"name": "t"}},
                yaml.safe_load(HEAD.replace("chat", "embed")),
            ]
        ),
    )
    assert [policy.metadata.name for policy in load_policies(tmp_path)] == ["chat", "image", "embed"]


def test_a_problem_inside_a_config_map_names_its_key_and_line(tmp_path: Path) -> None:
    config_map = {"kind": "ConfigMap", "data": {"chat.yaml": HEAD + "spec:\n  mode: Off\n"}}
    path = a_file(tmp_path, yaml.safe_dump(config_map))
    with pytest.raises(PolicyError, match=re.escape("[data.chat.yaml] line 5: spec.mode: found Off")):
        load_policy(path)


def test_what_kubernetes_writes_into_a_resource_is_no_part_of_the_policy(tmp_path: Path) -> None:
    body = yaml.safe_load(HEAD) | {"status": {"ready": 3}}
    body["metadata"] |= {"labels": {"team": "ml"}, "uid": "1", "resourceVersion": "7", "generation": 2}
    body["metadata"] |= {"generateName": "chat-"}
    assert load_policy(a_file(tmp_path, yaml.safe_dump(body))).metadata.name == "chat"


def test_no_is_a_country_and_not_false(tmp_path: Path) -> None:
    policy = load_policy(a_file(tmp_path, HEAD + "spec:\n  forecast: {calendar: {holidays: NO}}\n"))
    assert policy.spec.forecast.calendar.holidays == "NO"


def test_what_a_policy_writes_out_it_reads_back(tmp_path: Path) -> None:
    for policy in load_policies(ROOT / "policies"):
        assert load_policy(a_file(tmp_path, yaml.safe_dump(policy.document()))) == policy


def test_engine_metrics_with_scale_to_zero_are_allowed_with_a_warning(tmp_path: Path) -> None:
    text = HEAD + "spec:\n  demand: {preset: vllm}\n  scaleToZero: {enabled: true}\n"
    (warning,) = warnings_for(load_policy(a_file(tmp_path, text)))
    assert "unknown at zero" in warning


def test_waking_a_knative_revision_ahead_of_its_request_is_allowed_with_a_warning(tmp_path: Path) -> None:
    target = "{apiVersion: serving.knative.dev/v1, kind: Service, actuation: KnativeMinScale}"
    text = HEAD + f"spec:\n  demand: {{preset: istio}}\n  target: {target}\n  scaleToZero: {{enabled: true}}\n"
    (warning,) = warnings_for(load_policy(a_file(tmp_path, text)))
    assert "only with its next request" in warning


def test_a_cache_threshold_below_the_planned_load_is_allowed_with_a_warning(tmp_path: Path) -> None:
    def warned(above: float) -> list[str]:
        thresholds = f"{{thresholds: [{{signal: kv_cache_usage, above: {above}}}]}}"
        text = f"spec:\n  demand: {{preset: vllm}}\n  reactive: {thresholds}\n"
        return warnings_for(load_policy(a_file(tmp_path, HEAD + text)))

    assert "utilization.target 0.85" in warned(0.8)[0]
    assert warned(0.95) == []


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("overrides: [{name: a, cron: 0 7 * * *, duration: 1h, max: 20}]", "max 20 above spec.replicas.max 10"),
        ("forecast: {history: 1d, horizon: 2d}", "horizon 2d above spec.forecast.history 1d"),
        ("safety: {maxPremium: 5}", "maxPremium 5 is 500%"),
        ("{demand: {preset: vllm}, slo: {latency: {below: 2s}}, capacity: {learn: false}}", "capacity.learn false"),
        (
            "{demand: {preset: vllm}, reactive: {thresholds: [{signal: in_flight, above: 16}]}}",
            "in_flight above 16 with spec.capacity.maxConcurrency 16",
        ),
        (
            "{demand: {preset: vllm, unit: tokens}, reactive: {thresholds: [{signal: queue_depth, above: 5}]}}",
            "queue_depth above 5 with spec.demand.unit tokens",
        ),
        (
            "{demand: {preset: http}, scaleToZero: {enabled: true}, behavior: {scaleUp: {stabilizationWindow: 1m}}}",
            "stabilizationWindow 1m with spec.scaleToZero.enabled",
        ),
        ("forecast: {history: 6h, horizon: 1h}", "history 6h: with less than 12h"),
        ("budget: {priority: 200}", "priority 200 without spec.target.pool"),
        ("{replicas: {min: 2}, budget: {gpuHoursPerDay: 40}}", "40 replica-hours a day, spec.replicas.min 2 takes 48"),
        (
            "{target: {gpusPerReplica: 8}, budget: {gpuHoursPerDay: 4}}",
            "0.5 replica-hours a day: less than one replica",
        ),
        (
            "{target: {gpusPerReplica: 0}, budget: {gpuHoursPerDay: 4}}",
            "gpuHoursPerDay with spec.target.gpusPerReplica",
        ),
        ("safety: {maxForecastAge: 5m}", "maxForecastAge 5m with spec.safety.missingMetrics Hold"),
        (
            "{workload: Batch, demand: {preset: kafka}, slo: {queueWait: 1h}, safety: {missingMetrics: LastGood}}",
            "LastGood with spec.workload Batch",
        ),
        ("forecast: {risk: 0.97}", "risk 0.97 is played as 0.98"),
        ("{demand: {unit: concurrency}, capacity: {perReplica: 32}}", "perReplica 32 requests in flight above"),
        ("scaleToZero: {preWarm: false}", "scaleToZero without spec.scaleToZero.enabled"),
        ("{mode: Enforce, safety: {promote: {after: 3d}}}", "promote with spec.mode Enforce"),
    ],
)
def test_what_is_merely_odd_is_allowed_with_a_warning(spec: str, words: str, tmp_path: Path) -> None:
    text = f"{HEAD}spec: {spec}\n" if spec.startswith("{") else f"{HEAD}spec:\n  {spec}\n"
    (warning,) = warnings_for(load_policy(a_file(tmp_path, text)))
    assert words in warning


def test_the_same_event_may_come_again_at_another_time(tmp_path: Path) -> None:
    events = "{name: sale, start: 2026-12-01T00:00:00Z, end: 2026-12-02T00:00:00Z, factor: 2}"
    later = events.replace("2026-12", "2027-01")
    text = f"{HEAD}spec: {{forecast: {{calendar: {{events: [{events}, {later}]}}}}}}\n"
    assert len(load_policy(a_file(tmp_path, text)).spec.forecast.calendar.events) == 2


def test_an_absent_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="nowhere: no such file or folder"):
        load_policies(tmp_path / "nowhere")


class FolderOfPolicies:
    """A home of policies: one file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.source = PolicyFiles([folder])

    def put(self, name: str, spec: dict) -> None:
        a_file(self._folder, f"{HEAD.replace('chat', name)}spec: {json.dumps(spec)}\n", f"{name}.yaml")

    def remove(self, name: str) -> None:
        (self._folder / f"{name}.yaml").unlink()


class TestPolicyFiles(PolicySourceContract):
    @pytest.fixture
    def home(self, tmp_path: Path) -> FolderOfPolicies:
        return FolderOfPolicies(tmp_path)


def test_other_policies_of_a_file_change_while_one_of_them_is_invalid(tmp_path: Path) -> None:
    other = HEAD.replace("chat", "image")
    path = a_file(tmp_path, f"{HEAD}---\n{other}")
    source = PolicyFiles([path])
    source.load()
    path.write_text(f"{HEAD}spec: {{mode: Off}}\n---\n{other}spec: {{mode: Enforce}}\n")
    assert {policy.metadata.name: policy.spec.mode.value for policy in source.load()} == {
        "chat": "Observe",
        "image": "Enforce",
    }


def test_read_strictly_two_that_order_replicas_of_a_target_are_refused(tmp_path: Path) -> None:
    a_file(tmp_path, HEAD + "spec: {mode: Enforce}\n")
    other = HEAD.replace("name: chat", "name: chat-two")
    a_file(tmp_path, f"{other}spec: {{target: {{name: chat}}, mode: Enforce}}\n", "two.yaml")
    with pytest.raises(PolicyError, match="prod/chat-two orders replicas of Deployment chat, which prod/chat does"):
        load_policies(tmp_path)


def test_every_preset_has_demand_in_requests_and_a_description() -> None:
    for name, preset in PRESETS.items():
        assert preset.name == name
        assert preset.version >= 1
        assert "requests" in preset.demand
        assert preset.description
