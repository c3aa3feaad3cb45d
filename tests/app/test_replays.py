"""Policy tests as files: read whole, or refused with a line for each thing that is wrong."""

from datetime import timedelta
from pathlib import Path

import pytest

from scaler.app.replays import read_policy_tests, read_request
from scaler.errors import PolicyError
from scaler.simulator.faults import Faults

HEAD = "apiVersion: headstart.dev/v1alpha1\nkind: PolicyTest\nmetadata: {name: monday}\n"
SPEC = "spec:\n  policy: chat.yaml\n  traffic: {pattern: spike}\n"
FINE = "  expect: [{starts: {atMost: 9}}]\n"

MALFORMED = {
    # label: (whole file, what the one line must name)
    "key twice": (HEAD + SPEC + "  policy: other.yaml\n" + FINE, ("line 7", "spec.policy", "twice", "line 5")),
    "unknown field": (
        HEAD + SPEC + "  expect: [{sloAttainment: {atleast: 0.9}}]\n",
        ("line 7", "spec.expect[0].sloAttainment.atleast", "did you mean atLeast?"),
    ),
    "a field of policies": (HEAD + SPEC + FINE + "  budget: {}\n", ("spec.budget", "unknown field", "traffic, world")),
    "snake case": (HEAD + SPEC + "  expect: [{gpu_hours: {atMost: 9}}]\n", ("gpu_hours", "did you mean gpuHours?")),
    "no expectation": (HEAD + SPEC + "  expect: []\n", ("spec.expect", "at least one expectation")),
    "percent": (HEAD + SPEC + "  expect: [{sloAttainment: {atLeast: 99}}]\n", ("found 99", "not percent")),
    "moment as a number": (
        HEAD + "spec:\n  policy: chat.yaml\n  traffic: {trace: a.csv, from: 1772409600}\n" + FINE,
        ("line 6", "spec.traffic.from", "found 1772409600", "2026-03-02"),
    ),
    "not YAML": (HEAD + "spec: {\n", ("not YAML",)),
}


@pytest.mark.parametrize("label", MALFORMED)
def test_a_malformed_test_gets_one_line_naming_file_field_value_and_what_is_allowed(label: str, tmp_path: Path) -> None:
    text, named = MALFORMED[label]
    (tmp_path / "one.yaml").write_text(text)
    with pytest.raises(PolicyError) as refused:
        read_policy_tests(tmp_path)
    message = str(refused.value)
    assert message.startswith(str(tmp_path / "one.yaml"))
    assert len(message.splitlines()) == 1, message
    assert [part for part in named if part not in message] == [], message


def test_every_problem_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{HEAD}{SPEC}  expect: []\n---\n{HEAD}{SPEC}  expect: []\n")
    (tmp_path / "b.yaml").write_text(HEAD + SPEC + "  expect: [{starts: {atMost: -1}}]\n")
    with pytest.raises(PolicyError) as refused:
        read_policy_tests(tmp_path)
    assert [line.split(": ")[0].rsplit("/", 1)[1] for line in str(refused.value).splitlines()] == [
        "a.yaml line 7",
        "a.yaml line 15",
        "b.yaml line 7",
    ]


def test_policies_beside_the_tests_are_left_to_other_commands(tmp_path: Path) -> None:
    (tmp_path / "chat.yaml").write_text("kind: InferenceScalingPolicy\nspec: {colour: red}\n")
    (tmp_path / "one.yaml").write_text(HEAD + SPEC + FINE)
    ((_, found),) = read_policy_tests(tmp_path)
    assert found.metadata.name == "monday"


def test_two_policies_of_one_name_in_two_namespaces_are_refused_where_only_the_name_is_told(tmp_path: Path) -> None:
    head = "apiVersion: headstart.dev/v1alpha1\nkind: InferenceScalingPolicy\n"
    for namespace in ("prod", "test"):
        (tmp_path / f"{namespace}.yaml").write_text(head + f"metadata: {{name: chat, namespace: {namespace}}}\n")
    with pytest.raises(PolicyError, match=r"metadata\.name chat stands in prod/chat and test/chat"):
        read_request(
            policy=None, policies=tmp_path, trace=tmp_path / "x.csv", warmup=timedelta(days=1), seed=0, faults=Faults()
        )


def test_a_replay_refuses_a_method_that_does_not_exist(tmp_path: Path) -> None:
    head = "apiVersion: headstart.dev/v1alpha1\nkind: InferenceScalingPolicy\nmetadata: {name: chat}\n"
    (tmp_path / "chat.yaml").write_text(head + "spec: {forecast: {method: profil}}\n")
    with pytest.raises(PolicyError, match=r"line 4: spec\.forecast\.method: found profil.*did you mean profile\?"):
        read_request(
            policy=tmp_path / "chat.yaml",
            policies=None,
            trace=tmp_path / "x.csv",
            warmup=timedelta(days=1),
            seed=0,
            faults=Faults(),
        )
