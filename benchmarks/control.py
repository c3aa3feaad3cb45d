"""Busy endpoints: replica-hours and attained share against the feasible clairvoyant and the best tuned baselines.

    HEADSTART_TRACES=/path/to/traces python benchmarks/control.py [--only NAME] [--faults] [--baselines] [--sensitivity]

Start-up 150 s, promised wait 10 s, capacity such that 16 replicas carry the 99.9th percentile of minutes; the last five
days are the test, up to nine days before them the warm-up; 1-min bins fall over their 15-s steps with a fixed seed. The
same constants for every trace. Traces: all 1-min ones of seven days or more with at least 10 requests a minute.

ratio      replica-hours / those of the feasible clairvoyant at the same objective (scaler.simulator.oracle)
baseline   the cheapest of static, hpa, keda, knative whose knob, tuned in hindsight on the test itself, reaches the
           objective; "-": none does
reached    attained share within 0.2 points of the objective (0.99), 0.05 (0.999)

The played path is the advisor's own (plan, demotion, surprise), replayed compiled: its orders equal those of the whole
cycle (tests/simulator/test_fast_replay_equals_cycle.py). Without HEADSTART_TRACES: two generated endpoints.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from forecaster.series import DemandSeries, DemandUnit
from scaler.cycle import TURN, prior_profile
from scaler.domain.policy import ScalingPolicy
from scaler.simulator.baselines.base import play, site_of
from scaler.simulator.baselines.registry import BASELINES
from scaler.simulator.compiled import Outcomes, Signals
from scaler.simulator.lane import Lane, outcome_of
from scaler.simulator.oracle import Task, feasible
from scaler.simulator.selfreplay.family import COLUMN_LEVELS
from scaler.simulator.selfreplay.played import OWN, SHADOW, BlockOutcome, PlayedPaths
from scaler.simulator.selfreplay.replayer import EndpointReplay
from scaler.simulator.selfreplay.rows import FIRST_FIT, RowMaker
from scaler.simulator.selfreplay.signals import BaseRows
from scaler.simulator.selfreplay.spoil import Spoil
from scaler.simulator.startups import StartupModel

TOLERANCE = {0.99: 0.002, 0.999: 0.0005}
TEST_DAYS, MOST_DAYS, LEAST_DAYS = 5, 14, 7
LEAST_PER_MINUTE = 10.0
REPLICAS_AT_PEAK, PEAK_QUANTILE = 16, 0.999
STEPS_A_DAY, BLOCK = 5760, 240
BASELINE_NAMES = ("static", "hpa", "keda", "knative")
SPOILS = {
    "noise": Spoil(kind="noise"),
    "zero": Spoil(kind="zero"),
    "shift 6 h": Spoil(kind="shift", shift=timedelta(hours=6)),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One endpoint: `work` units per 15-s step (what really arrives), `seen` what the metrics show (NaN: no data)."""

    name: str
    start: datetime
    work: np.ndarray
    seen: np.ndarray
    per_replica: float
    startup: timedelta = timedelta(seconds=150)

    @property
    def test(self) -> slice:
        return slice(len(self.work) - TEST_DAYS * STEPS_A_DAY, len(self.work))

    def policy(self, objective: float) -> ScalingPolicy:
        return ScalingPolicy.model_validate(
            {
                "metadata": {"name": "busy"},
                "spec": {
                    "slo": {"queueWait": "10s", "objective": objective},
                    "capacity": {"perReplica": self.per_replica},
                    "startup": {"expected": f"{self.startup.total_seconds():g}s"},
                    "replicas": {"min": 0, "max": 4 * REPLICAS_AT_PEAK},
                    "scaleToZero": {"enabled": True, "minIdle": "0s"},
                },
            }
        )

    def series(self) -> DemandSeries:
        return DemandSeries(unit=DemandUnit.REQUESTS, start=self.start, step=TURN, values=self.seen / 15.0)


def cases() -> Iterator[Case]:
    """The busy traces of HEADSTART_TRACES, or two generated endpoints."""
    folder = os.environ.get("HEADSTART_TRACES")
    if not folder:
        yield from generated()
        return
    for path in sorted(Path(folder).glob("*_1min*.csv.gz")):
        table = pd.read_csv(path)
        if len(table) >= LEAST_DAYS * 1440 and table["requests"].mean() >= LEAST_PER_MINUTE:
            yield case_of(path.name.split("_1min")[0], table)


def case_of(name: str, table: pd.DataFrame) -> Case:
    table = table.iloc[-MOST_DAYS * 1440 :]
    counts = np.rint(table["requests"].to_numpy(float)).astype(int)
    work = np.random.default_rng(0).multinomial(counts, [0.25] * 4).reshape(-1).astype(float)
    blind = table["missing"].to_numpy() == 1 if "missing" in table else np.zeros(len(table), dtype=bool)
    seen = np.where(np.repeat(blind, 4), np.nan, work)
    start = datetime.fromtimestamp(float(table["timestamp"].iloc[0]), UTC)
    return Case(name=name, start=start, work=work, seen=seen, per_replica=capacity(work))


def capacity(work: np.ndarray) -> float:
    return float(np.quantile(work.reshape(-1, 4).sum(axis=1) / 60.0, PEAK_QUANTILE)) / REPLICAS_AT_PEAK


def generated() -> Iterator[Case]:
    rng = np.random.default_rng(7)
    minutes = np.arange(8 * 1440)
    day = 1.0 + 0.8 * np.sin(2 * np.pi * minutes / 1440)
    for name, rate in (("diurnal", 100.0 * day), ("bursty", 60.0 * day * (1 + 4 * (minutes % 60 < 7)))):
        work = rng.multinomial(rng.poisson(rate), [0.25] * 4).reshape(-1).astype(float)
        start = datetime(2026, 3, 2, tzinfo=UTC)
        yield Case(name=name, start=start, work=work, seen=work, per_replica=capacity(work))


class RecordedRows(RowMaker):
    """Rows that were made before: nothing is fitted again."""

    def record(self, rows: BaseRows) -> None:
        self.recorded = rows

    def make(self, last: int) -> None:
        if last > self.made:
            part = slice(self.made, last)
            r = self.recorded
            rows = BaseRows(now=r.now[part], ahead=r.ahead[:, part], peaks=r.peaks[:, part], floors=r.floors[:, part])
            self._add(rows, self.tape, 0)

    def refit(self, end: int) -> None:
        if end >= FIRST_FIT // self.step:
            self._model = object()  # so that the watches look at the rows from here on


@dataclass
class Tally:
    """Sums over the test of one run of paths."""

    paths: PlayedPaths
    cost: np.ndarray
    bad: np.ndarray
    arrived: float = 0.0
    starts: int = 0

    def take(self, outcome: BlockOutcome) -> None:
        self.starts += int(outcome.starts[OWN])
        self.cost += outcome.cost
        self.bad += outcome.bad
        self.arrived += outcome.arrived

    def hours(self, path: int) -> float:
        return float(self.cost[path]) * 15.0 / 3600.0

    def attained(self, path: int) -> float:
        return 1.0 - float(self.bad[path]) / self.arrived


def replayed(
    case: Case, objectives: list[float], recorded: BaseRows | None = None, spoil: Spoil | None = None
) -> tuple[dict[float, Tally], BaseRows, float]:
    """(tally per objective over the test, the rows, seconds): the advisor's paths, walk forward."""
    began = time.perf_counter()
    policy = case.policy(objectives[0])
    replay = EndpointReplay(policy, prior_profile(policy), case.start, TURN)
    if recorded is not None:
        rows = RecordedRows(policy, replay.rules, replay.family, case.start, TURN)
        rows.record(recorded)
        rows.spoil, rows.spoil_from = spoil, case.test.start
        replay.rows = rows
        replay.paths = replay.new_paths(policy)
    tallies = {
        objective: Tally(replay.new_paths(case.policy(objective)), np.zeros(3), np.zeros(3)) for objective in objectives
    }
    kept: list[BaseRows] = []

    def on_block(first: int, last: int, signals: Signals, outcomes: Outcomes) -> None:
        # What arrived while nothing was seen still has to be served.
        real = signals._replace(arrivals=case.work[first:last])
        held = signals.ahead[: len(COLUMN_LEVELS)]
        ahead = np.where(np.isneginf(held), np.nan, held)  # a hold of nothing known is -inf, a row of it NaN
        kept.append(BaseRows(now=signals.now, ahead=ahead, peaks=signals.peaks, floors=signals.floors))
        for tally in tallies.values():
            outcome = tally.paths.play(real, outcomes, first, last)
            tally.paths.choose()
            if first >= case.test.start:
                tally.take(outcome)

    replay.rows.append(case.series())
    replay.catch_up(len(case.work), BLOCK, on_block)
    parts = [np.concatenate([getattr(k, f) for k in kept], axis=-1) for f in ("now", "ahead", "peaks", "floors")]
    return tallies, BaseRows(*parts), time.perf_counter() - began


def clairvoyant_hours(case: Case, objective: float) -> float:
    work = case.work[case.test]
    task = Task(
        work=work,
        step_seconds=15.0,
        capacity_per_second=case.per_replica,
        startup=StartupModel(typical=case.startup),
        queue_wait_seconds=10.0,
        objective=objective,
        lowest=0,
        highest=4 * REPLICAS_AT_PEAK,
        first=int(np.ceil(work[0] / 15.0 / case.per_replica)),
    )
    outcome = feasible(task)
    return outcome.replica_hours if outcome is not None else np.nan


def baseline_hours(case: Case, objectives: list[float]) -> dict[float, tuple[float, str]]:
    """The cheapest tuned baseline that reaches each objective (within its tolerance), and its name."""
    best = dict.fromkeys(objectives, (np.nan, "-"))
    for name in BASELINE_NAMES:
        seen: dict[float, tuple[float, float]] = {}
        for objective in objectives:
            hours = tuned(case, name, objective - TOLERANCE[objective], seen)
            if hours is not None and not hours >= best[objective][0]:
                best[objective] = (hours, name)
    return best


def tuned(case: Case, name: str, least: float, seen: dict[float, tuple[float, float]]) -> float | None:
    """Hours of the cheapest knob value whose attained share is at least `least`, by bisection over the knob's values.

    More caution attains more: values are ordered from bold to cautious first.
    """
    baseline = BASELINES[name]
    values = sorted(baseline.knob_values, reverse=name != "static")
    low, high = 0, len(values) - 1
    if outcome_with(case, name, values[high], seen)[1] < least:
        return None
    while low < high:
        middle = (low + high) // 2
        if outcome_with(case, name, values[middle], seen)[1] >= least:
            high = middle
        else:
            low = middle + 1
    return outcome_with(case, name, values[high], seen)[0]


def outcome_with(case: Case, name: str, knob: float, seen: dict[float, tuple[float, float]]) -> tuple[float, float]:
    """(replica hours, attained share) of one knob value on the test."""
    if knob not in seen:
        test = case.test
        policy = case.policy(0.99)
        site = site_of(policy, case.work[: test.start], 15.0, (case.start + test.start * TURN).timestamp())
        lane = Lane(
            case.work[test],
            step_seconds=15.0,
            capacity_per_second=case.per_replica,
            startup=StartupModel(typical=case.startup),
            rng=np.random.default_rng(0),
            ready=1,
        )
        play(BASELINES[name].make(site, knob), lane, site)
        outcome = outcome_of(lane, is_rate=True)
        seen[knob] = (outcome.replica_hours, outcome.attainment(10.0))
    return seen[knob]


def run_case(case: Case, arguments: argparse.Namespace) -> dict:
    objectives = sorted(TOLERANCE)
    tallies, rows, seconds = replayed(case, objectives)
    baselines = baseline_hours(case, objectives) if arguments.baselines else {}
    result: dict = {"name": case.name, "seconds": round(seconds, 1)}
    for objective, tally in tallies.items():
        oracle = clairvoyant_hours(case, objective)
        hours, who = baselines.get(objective, (np.nan, "-"))
        result[str(objective)] = {
            "ratio": tally.hours(OWN) / oracle,
            "attained": tally.attained(OWN),
            "starts": tally.starts,
            "shadow_ratio": tally.hours(SHADOW) / oracle,
            "shadow_attained": tally.attained(SHADOW),
            "to_baseline": tally.hours(OWN) / hours,
            "baseline": who,
        }
    if arguments.faults:
        result["faults"] = {name: spoilt(case, rows, spoil) for name, spoil in SPOILS.items()}
    return result


def spoilt(case: Case, rows: BaseRows, spoil: Spoil) -> dict:
    """With the forecast broken from the start of the test on: cost and attained share against the shadow's."""
    tallies, _, _ = replayed(case, [0.99], rows, spoil)
    tally = tallies[0.99]
    return {
        "to_shadow": tally.hours(OWN) / tally.hours(SHADOW),
        "attained": tally.attained(OWN),
        "shadow_attained": tally.attained(SHADOW),
    }


def show(result: dict) -> None:
    for objective in sorted(TOLERANCE):
        r = result[str(objective)]
        mark = " " if r["attained"] >= objective - TOLERANCE[objective] else "!"
        own, shadow = f"{r['ratio']:5.2f} {100 * r['attained']:6.2f}{mark}", f"{r['shadow_ratio']:5.2f}"
        print(
            f"{objective:<6} {result['name'][:34]:34s} ratio, attained {own} shadow {shadow} "
            f"{100 * r['shadow_attained']:6.2f}  to best baseline {r['to_baseline']:5.2f} ({r['baseline']})",
            flush=True,
        )
    for name, f in result.get("faults", {}).items():
        print(
            f"       forecast {name:9s} to shadow {f['to_shadow']:5.2f}  attained {100 * f['attained']:6.2f} "
            f"shadow {100 * f['shadow_attained']:6.2f}",
            flush=True,
        )


def summarise(results: list[dict]) -> None:
    for objective in sorted(TOLERANCE):
        rows = [r[str(objective)] for r in results]
        ratios = np.array([r["ratio"] for r in rows])
        reached = sum(r["attained"] >= objective - TOLERANCE[objective] for r in rows)
        to_baseline = np.array([r["to_baseline"] for r in rows])
        print(
            f"{objective}: reached {reached} of {len(rows)}, median ratio {np.median(ratios):.3f}, geometric mean "
            f"{np.exp(np.log(ratios).mean()):.3f}; to the best tuned baseline: mean {np.nanmean(to_baseline):.2f}, "
            f"most {np.nanmax(to_baseline):.2f} over {np.isfinite(to_baseline).sum()}"
            if np.isfinite(to_baseline).any()
            else f"{objective}: reached {reached} of {len(rows)}, median ratio {np.median(ratios):.3f}, geometric mean "
            f"{np.exp(np.log(ratios).mean()):.3f}"
        )
    for name in results[0].get("faults", {}):
        faults = [r["faults"][name] for r in results]
        lower = [100 * (f["shadow_attained"] - f["attained"]) for f in faults]
        print(
            f"forecast {name}: cost to shadow mean {np.mean([f['to_shadow'] for f in faults]):.3f}, most "
            f"{max(f['to_shadow'] for f in faults):.3f}; attained lower by at most {max(lower):.2f} points"
        )


SENSITIVITY = {
    "start-up 10 s": lambda case: replace(case, startup=timedelta(seconds=10)),
    "start-up 60 s": lambda case: replace(case, startup=timedelta(seconds=60)),
    "start-up 5 min": lambda case: replace(case, startup=timedelta(minutes=5)),
    "start-up 10 min": lambda case: replace(case, startup=timedelta(minutes=10)),
    "5x spike": lambda case: with_spike(case),
    "outage 10 min at the ramp": lambda case: with_outage(case),
}


def with_spike(case: Case) -> Case:
    """An unannounced half hour of five times the demand, at the busiest hour of the third test day."""
    at = busiest_hour(case)
    work, seen = case.work.copy(), case.seen.copy()
    work[at : at + 120] *= 5.0
    seen[at : at + 120] *= 5.0
    return replace(case, work=work, seen=seen)


def with_outage(case: Case) -> Case:
    """No metrics for ten minutes, two hours before the busiest hour of the third test day."""
    at = busiest_hour(case) - 480
    seen = case.seen.copy()
    seen[at : at + 40] = np.nan
    return replace(case, seen=seen)


def busiest_hour(case: Case) -> int:
    first = case.test.start + 2 * STEPS_A_DAY
    hours = case.work[first : first + STEPS_A_DAY].reshape(24, BLOCK).sum(axis=1)
    return first + int(np.argmax(hours)) * BLOCK


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="a trace's name (repeatable)")
    parser.add_argument("--faults", action="store_true", help="also with broken forecasts")
    parser.add_argument("--baselines", action="store_true", help="also the baselines tuned in hindsight (slow)")
    parser.add_argument("--sensitivity", action="store_true", help="the sensitivity table instead")
    parser.add_argument("--json", type=Path, help="also write the results there")
    arguments = parser.parse_args()
    chosen = [case for case in cases() if not arguments.only or case.name in arguments.only]
    results = []
    if arguments.sensitivity:
        arguments.faults = arguments.baselines = False
        for label, change in SENSITIVITY.items():
            print(label)
            changed = [run_case(change(case), arguments) for case in chosen]
            for result in changed:
                show(result)
            summarise(changed)
            results.append({"label": label, "results": changed})
    else:
        for case in chosen:
            results.append(run_case(case, arguments))
            show(results[-1])
            print(f"       {results[-1]['seconds']} s for fitting and replaying", flush=True)
        summarise(results)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
