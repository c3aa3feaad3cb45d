"""Search a policy's own choices on recorded demand: `headstart tune`.

Only choices that a person made and that replay does not make by itself: the utilisation that is planned for, the
scale-in window, and the risk; where the last replica may go, what a cold request is said to cost, how long the last
replica stays at least and how far the law of the next arrival is trusted. A trial that misses the objective is charged
for it, the more the further it misses; among those that keep it the cheaper one wins.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import optuna

from scaler.domain.policy import ScalingPolicy, Workload
from scaler.errors import SettingsError
from scaler.simulator.own import own_advisor
from scaler.simulator.replay import OWN, run_replay
from scaler.simulator.spans import ReplayRequest


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One field of a policy's document, and what is tried in it (beside what it holds)."""

    name: str
    path: tuple[str, ...]
    values: tuple[str, ...]
    only_to_zero: bool = False
    of_batch: bool = False
    """A backlog is planned by it too; the others do nothing there, and validate refuses them."""

    def is_read_by(self, policy: ScalingPolicy) -> bool:
        if policy.spec.workload is Workload.BATCH:
            return self.of_batch
        return policy.spec.scale_to_zero.enabled or not self.only_to_zero

    def of(self, document: Mapping[str, Any]) -> str:
        found: Any = document
        for key in self.path:
            found = found[key]
        return str(found).removesuffix(".0")

    def put(self, document: dict[str, Any], value: str) -> None:
        place = document
        for key in self.path[:-1]:
            place = place[key]
        try:
            place[self.path[-1]] = float(value)
        except ValueError:  # auto, or a duration
            place[self.path[-1]] = value


CHOICES = (
    Choice(
        name="utilization",
        path=("spec", "capacity", "utilization", "target"),
        values=("0.6", "0.7", "0.8", "0.85", "0.9", "0.95", "1"),
        of_batch=True,
    ),
    Choice(
        name="window",
        path=("spec", "behavior", "scaleDown", "stabilizationWindow"),
        values=("auto", "0s", "1m", "2m", "5m", "10m"),
        of_batch=True,
    ),
    Choice(name="risk", path=("spec", "forecast", "risk"), values=("auto", "0.8", "0.9", "0.95", "0.98", "0.99")),
    Choice(
        name="coldRequestCost",
        path=("spec", "scaleToZero", "coldRequestCost"),
        values=("0.02", "0.05", "0.1", "0.2", "0.5", "1", "2", "5"),
        only_to_zero=True,
    ),
    Choice(
        name="minIdle",
        path=("spec", "scaleToZero", "minIdle"),
        values=("0s", "1m", "5m", "10m", "30m"),
        only_to_zero=True,
    ),
    Choice(name="trust", path=("spec", "scaleToZero", "trust"), values=("0.2", "0.3", "0.5", "1"), only_to_zero=True),
)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One set of choices and what replaying it showed."""

    choices: Mapping[str, str]
    replica_hours: float
    slo_attainment: float


@dataclass(frozen=True, kw_only=True)
class Found:
    present: Trial
    best: Trial
    objective: float

    def sentence(self) -> str:
        """What would have changed, in one sentence."""
        before, after = self.present, self.best
        missed = "" if after.slo_attainment >= self.objective else " Nothing that was tried keeps the objective."
        if dict(before.choices) == dict(after.choices):
            return f"Nothing that was tried would have been better than the policy as it is.{missed}"
        hours = after.replica_hours / before.replica_hours - 1.0 if before.replica_hours else 0.0
        changed = [f"{name} = {value}" for name, value in after.choices.items() if before.choices[name] != value]
        return (
            f"With {', '.join(changed)} it would have cost {hours:+.1%} replica-hours and served "
            f"{after.slo_attainment:.3%} in time instead of {before.slo_attainment:.3%} "
            f"(objective {self.objective:.1%}).{missed}"
        )


def search(request: ReplayRequest, *, trials: int, seed: int, progress: Callable[[int, int], None]) -> Found:
    """The best of `trials` replays, the present choices among them. Raises SettingsError for several endpoints."""
    if len(request.policies) != 1:
        raise SettingsError(f"tune: the trace holds {len(request.policies)} endpoints; need one")
    policy = next(iter(request.policies.values()))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    document = policy.document()
    searched = [choice for choice in CHOICES if choice.is_read_by(policy)]
    study.enqueue_trial({choice.name: choice.of(document) for choice in searched}, skip_if_exists=True)
    seen: list[Trial] = []

    def loss(trial: optuna.Trial) -> float:
        chosen = {
            choice.name: trial.suggest_categorical(choice.name, _tried(choice, policy, document)) for choice in searched
        }
        seen.append(_played(request, policy, chosen))
        progress(len(seen), trials)
        return _loss(seen[-1], policy.spec.slo.objective)

    study.optimize(loss, n_trials=trials)
    objective = policy.spec.slo.objective
    return Found(present=seen[0], best=min(seen, key=lambda one: _loss(one, objective)), objective=objective)


def _loss(trial: Trial, objective: float) -> float:
    """Replica-hours; a missed objective is dearer than anything that keeps it, the more the further it is missed."""
    return trial.replica_hours * (1.0 + 100.0 * max(objective - trial.slo_attainment, 0.0) / (1.0 - objective))


def _tried(choice: Choice, policy: ScalingPolicy, document: Mapping[str, Any]) -> list[str]:
    """What is tried of a choice, what the policy holds among it; utilisation stays above what counts as waste."""
    values = list(dict.fromkeys([*choice.values, choice.of(document)]))
    low = policy.spec.capacity.utilization.low
    return [value for value in values if choice.name != "utilization" or float(value) > low]


def _played(request: ReplayRequest, policy: ScalingPolicy, choices: Mapping[str, str]) -> Trial:
    document = policy.document()
    for choice in CHOICES:
        if choice.name in choices:
            choice.put(document, choices[choice.name])
    changed = ScalingPolicy.model_validate(document)
    asked = replace(request, policies={policy.endpoint: changed}, baselines=(), with_clairvoyant=False, frontier=False)
    found = run_replay(asked, own_advisor).endpoints[policy.endpoint]
    outcome = found.outcomes[OWN]
    wait: timedelta = policy.spec.slo.queue_wait
    return Trial(
        choices=dict(choices),
        replica_hours=outcome.replica_hours,
        slo_attainment=outcome.attainment(wait.total_seconds()),
    )
