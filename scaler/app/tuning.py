"""Search a policy's own choices on recorded demand: `headstart tune`.

Only choices that a person made and that replay does not make by itself: the utilisation that is planned for, the
scale-in window, and the risk. A trial that misses the objective is charged for it, the more the
further it misses; among those that keep it the cheaper one wins.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

import optuna

from scaler.domain.policy import ScalingPolicy, format_duration
from scaler.errors import SettingsError
from scaler.simulator.own import own_advisor
from scaler.simulator.replay import OWN, run_replay
from scaler.simulator.spans import ReplayRequest

UTILIZATIONS = (0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)
WINDOWS = ("auto", "0s", "1m", "2m", "5m", "10m")
RISKS = ("auto", "0.8", "0.9", "0.95", "0.98", "0.99")


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
        if dict(before.choices) == dict(after.choices):
            return "Nothing that was tried would have been better than the policy as it is."
        hours = after.replica_hours / before.replica_hours - 1.0 if before.replica_hours else 0.0
        changed = [f"{name} = {value}" for name, value in after.choices.items() if before.choices[name] != value]
        return (
            f"With {', '.join(changed)} it would have cost {hours:+.1%} replica-hours and served "
            f"{after.slo_attainment:.3%} in time instead of {before.slo_attainment:.3%} "
            f"(objective {self.objective:.1%})."
        )


def search(request: ReplayRequest, *, trials: int, seed: int, progress: Callable[[int, int], None]) -> Found:
    """The best of `trials` replays, the present choices among them. Raises SettingsError for several endpoints."""
    if len(request.policies) != 1:
        raise SettingsError(f"tune: the trace holds {len(request.policies)} endpoints; need one")
    policy = next(iter(request.policies.values()))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.enqueue_trial(_choices_of(policy), skip_if_exists=True)
    seen: list[Trial] = []

    def loss(trial: optuna.Trial) -> float:
        choices = {
            "utilization": trial.suggest_categorical("utilization", _with(UTILIZATIONS, policy)),
            "window": trial.suggest_categorical("window", _with_window(policy)),
            "risk": trial.suggest_categorical("risk", _with_risk(policy)),
        }
        seen.append(_played(request, policy, choices))
        progress(len(seen), trials)
        return _loss(seen[-1], policy.spec.slo.objective)

    study.optimize(loss, n_trials=trials)
    objective = policy.spec.slo.objective
    return Found(present=seen[0], best=min(seen, key=lambda one: _loss(one, objective)), objective=objective)


def _loss(trial: Trial, objective: float) -> float:
    """Replica-hours; a missed objective is dearer than anything that keeps it, the more the further it is missed."""
    return trial.replica_hours * (1.0 + 100.0 * max(objective - trial.slo_attainment, 0.0) / (1.0 - objective))


def _choices_of(policy: ScalingPolicy) -> dict[str, str]:
    window = policy.spec.behavior.scale_down.stabilization_window
    return {
        "utilization": f"{policy.spec.capacity.utilization.target:g}",
        "window": window if isinstance(window, str) else format_duration(window),
        "risk": str(policy.spec.forecast.risk),
    }


def _with(values: tuple[float, ...], policy: ScalingPolicy) -> list[str]:
    present = policy.spec.capacity.utilization.target
    low = policy.spec.capacity.utilization.low
    return [f"{value:g}" for value in sorted({*values, present}) if value > low]


def _with_window(policy: ScalingPolicy) -> list[str]:
    return list(dict.fromkeys([*WINDOWS, _choices_of(policy)["window"]]))


def _with_risk(policy: ScalingPolicy) -> list[str]:
    return list(dict.fromkeys([*RISKS, _choices_of(policy)["risk"]]))


def _played(request: ReplayRequest, policy: ScalingPolicy, choices: Mapping[str, str]) -> Trial:
    document = policy.document()
    spec = document["spec"]
    spec["capacity"]["utilization"]["target"] = float(choices["utilization"])
    spec["behavior"]["scaleDown"]["stabilizationWindow"] = choices["window"]
    spec["forecast"]["risk"] = choices["risk"] if choices["risk"] == "auto" else float(choices["risk"])
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
