"""What pods say about replicas and starts, from their JSON alone."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scaler.adapters.kubernetes.lever import TargetReading
from scaler.adapters.kubernetes.pods import StartupWatch, replica_state
from scaler.adapters.kubernetes.selectors import matches

START = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
TARGET = TargetReading(desired=4, version="17", uid="u", selector="app=chat")


def same(wall: datetime) -> datetime:
    return wall


def stamp(seconds: float) -> str:
    return (START + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def a_pod(
    uid: str = "a",
    *,
    created: float = 0,
    scheduled: float | None = None,
    started: float | None = None,
    ready: float | None = None,
    phase: str = "Pending",
    restarts: int = 0,
    waiting: str = "",
    unschedulable: bool = False,
    going: bool = False,
    labels: dict[str, str] | None = None,
) -> dict[str, Any]:
    conditions = [
        {"type": kind, "status": "False" if at is None else "True", "lastTransitionTime": stamp(at or created)}
        for kind, at in (("PodScheduled", scheduled), ("Ready", ready))
    ]
    if unschedulable:
        conditions[0]["reason"] = "Unschedulable"
    state = {"running": {"startedAt": stamp(started)}} if started is not None else {"waiting": {"reason": waiting}}
    metadata: dict[str, Any] = {"uid": uid, "creationTimestamp": stamp(created), "labels": labels or {}}
    if going:
        metadata["deletionTimestamp"] = stamp(created)
    status = {
        "phase": phase,
        "conditions": conditions,
        "containerStatuses": [{"name": "engine", "restartCount": restarts, "state": state}],
    }
    return {"metadata": metadata, "status": status}


def test_pods_are_ready_starting_or_without_a_node() -> None:
    pods = [
        a_pod("ready", scheduled=1, started=20, ready=30, phase="Running"),
        a_pod("loading", created=5, scheduled=6, started=20, phase="Running"),
        a_pod("homeless", created=9, unschedulable=True),
        {"metadata": {"uid": "new", "creationTimestamp": stamp(12)}},
    ]
    state = replica_state(TARGET, pods, same)
    assert (state.ready, state.unschedulable, state.desired, state.version) == (1, 1, 4, "17")
    assert [(at - START).total_seconds() for at in state.starting] == [5, 9, 12]


def test_pods_that_are_going_or_have_ended_do_not_count() -> None:
    pods = [a_pod("going", ready=30, going=True), a_pod("failed", phase="Failed"), a_pod("done", phase="Succeeded")]
    state = replica_state(TARGET, pods, same)
    assert (state.ready, state.starting) == (0, ())


@pytest.mark.parametrize("label", ["pod-template-hash", "controller-revision-hash"])
def test_the_revisions_are_those_of_the_ready_pods_each_once(label: str) -> None:
    pods = [
        a_pod("old", ready=30, labels={label: "7c9"}),
        a_pod("old too", ready=30, labels={label: "7c9"}),
        a_pod("new", ready=40, labels={label: "d41"}),
        a_pod("newest", labels={label: "e05"}),
    ]
    assert replica_state(TARGET, pods, same).revisions == ("7c9", "d41")
    assert replica_state(TARGET, [a_pod(ready=30)], same).revisions == ()


@pytest.mark.parametrize(
    ("what", "versions", "label", "rolling"),
    [
        ("all of one version", (("7c9", True), ("7c9", False)), "", False),
        ("the new version still starts", (("7c9", True), ("d41", False)), "", True),
        ("a new template of the same version", (("7c9", True), ("d41", False)), "model-version", False),
        ("no such label", (("7c9", True), ("d41", True)), "nobody-sets-it", False),
    ],
)
def test_a_rollout_is_under_way_while_what_stands_is_of_two_versions(
    what: str, versions: tuple[tuple[str, bool], ...], label: str, rolling: bool
) -> None:
    pods = [
        a_pod(f"pod {i}", ready=30 if ready else None, labels={"pod-template-hash": template, "model-version": "v2"})
        for i, (template, ready) in enumerate(versions)
    ]
    assert replica_state(TARGET, pods, same, label).rolling_out is rolling, what


def test_ages_are_told_in_the_services_own_time() -> None:
    def ten_times_faster(wall: datetime) -> datetime:
        return START + (wall - START) * 10

    state = replica_state(TARGET, [a_pod(created=6)], ten_times_faster)
    assert state.starting == (START + timedelta(seconds=60),)


def observed(watch: StartupWatch, pod: dict[str, Any], at: float) -> list[Any]:
    return watch.observe([pod], START + timedelta(seconds=at), same)


def test_a_start_has_its_phases() -> None:
    (start,) = observed(StartupWatch(), a_pod(scheduled=2, started=40, ready=150, phase="Running"), at=160)
    phases = [start.ordered_at, start.scheduled_at, start.started_at, start.ready_at]
    assert [(at - START).total_seconds() for at in phases] == [0, 2, 40, 150]


def test_a_start_that_goes_on_has_no_end_and_one_that_cannot_succeed_has_failed() -> None:
    (start,) = observed(StartupWatch(), a_pod(scheduled=2), at=160)
    assert (start.ready_at, start.failed) == (None, False)
    (start,) = observed(StartupWatch(), a_pod(scheduled=2, waiting="ImagePullBackOff"), at=160)
    assert (start.ready_at, start.failed) == (None, True)


def test_a_pod_that_lost_readiness_later_keeps_its_first_start() -> None:
    watch = StartupWatch()
    observed(watch, a_pod(scheduled=2, started=40, ready=150), at=160)
    observed(watch, a_pod(scheduled=2, started=40), at=900)
    (start,) = observed(watch, a_pod(scheduled=2, started=40, ready=1000), at=1100)
    assert start.ready_at == START + timedelta(seconds=150)


@pytest.mark.parametrize(
    ("label", "pod"),
    [
        ("restarted", a_pod(scheduled=2, started=40, ready=150, restarts=1)),
        ("ready long after it was made, before anybody watched", a_pod(scheduled=2, started=40, ready=7200)),
        ("old and not ready when it was first seen", a_pod(scheduled=2, started=40)),
    ],
)
def test_pods_that_say_nothing_about_a_clean_start_are_left_out(label: str, pod: dict[str, Any]) -> None:
    assert observed(StartupWatch(), pod, at=7300) == [], label


def test_pods_that_are_gone_are_forgotten() -> None:
    watch = StartupWatch()
    observed(watch, a_pod("a", ready=150), at=160)
    watch.forget_all_but([])
    (start,) = observed(watch, a_pod("a", ready=170), at=180)
    assert start.ready_at == START + timedelta(seconds=170)


LABELS = {"app": "chat", "tier": "gpu", "example.com/role": "leader"}


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ("app=chat", True),
        ("app==chat,tier=gpu", True),
        ("app=chat,tier=cpu", False),
        ("app!=chat", False),
        ("missing!=chat", True),
        ("tier in (gpu,tpu)", True),
        ("tier in (cpu)", False),
        ("tier notin (cpu, tpu),app=chat", True),
        ("missing notin (a)", True),
        ("example.com/role=leader", True),
        ("app", True),
        ("missing", False),
        ("!missing", True),
        ("!app", False),
        ("app=", False),
        ("", False),
    ],
)
def test_selectors_mean_what_they_mean_to_the_api_server(selector: str, fits: bool) -> None:
    assert matches(selector, LABELS) is fits


@pytest.mark.parametrize("selector", ["app=chat,(", "tier in gpu", "a b"])
def test_what_is_no_selector_is_refused(selector: str) -> None:
    with pytest.raises(ValueError, match="not understood"):
        matches(selector, LABELS)
