"""Forecast accuracy, coverage and cost, printed as tables.

    HEADSTART_TRACES=/path/to/traces python -m benchmarks.forecasting [--only NAME ...] [--shift] [--cost] [--json FILE]

Accuracy: every 1-min and 10-min series of at least six days in HEADSTART_TRACES (`index.csv` names them), warm-up 5
days, origins every 30 min; the mean pinball loss over levels .1 .5 .8 .9 .95 .99 as a ratio to the best of four simple
methods (in hindsight, per series and lead), each wrapped in the empirical quantiles of its own errors. As both losses
are divided by the same demand it is also the ratio of the weighted quantile losses. Series whose minutes are simulated
inside real 10-min totals (`*_1min_disagg`) are left out of the main table, as their source asks; `--disagg` prints
them.

Coverage is the share of outcomes at or below a quantile; where whole counts tie with it, the nearest share consistent
with the tie (scoring.Coverage.deviation). `--shift` multiplies demand by three from one day into the test and scores
the forecasts that were issued in the 24 hours after; a series too short for a lead is left out of that lead's means.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from forecaster.backtest import BacktestResult, backtest
from forecaster.fleet import FitJob, Workers, fit_many, forecast_day_by_minute
from forecaster.forecaster import Forecaster
from forecaster.lead import fit_lead_model
from forecaster.leadfeatures import DemandTape
from forecaster.methods.registry import SIMPLE
from forecaster.methods.statistical import MODELS
from forecaster.panel import Panel
from forecaster.scoring import coverage, pinball
from forecaster.series import DemandSeries, DemandUnit

LEADS = {"10 min": 10, "1 h": 60, "6 h": 360, "24 h": 1440}
GOALS = {"10 min": 0.88, "1 h": 0.85, "6 h": 0.75, "24 h": 0.80}
COVERED = (0.9, 0.95, 0.99)
WARMUP = timedelta(days=5)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=None, help="names of series, without .csv.gz")
    parser.add_argument("--disagg", action="store_true", help="the series with simulated minutes instead")
    parser.add_argument("--shift", action="store_true", help="inject a 3x level shift one day into the test")
    parser.add_argument("--cost", action="store_true", help="only the cost of a fleet")
    parser.add_argument("--json", type=Path, default=None, help="write the figures there")
    asked = parser.parse_args()
    if asked.cost:
        return _print_costs()
    traces = Path(os.environ.get("HEADSTART_TRACES", ""))
    if not (traces / "index.csv").is_file():
        print("HEADSTART_TRACES must name the folder of traces that holds index.csv", file=sys.stderr)
        return 2
    names = asked.only or series_names(traces, disagg=asked.disagg)
    figures = {}
    print(
        f"{'series':36s} "
        + " ".join(f"{lead:>7s}" for lead in LEADS)
        + "   coverage deviation in points at .9/.95/.99  seconds"
    )
    for name in names:
        began = time.monotonic()
        figures[name] = score(load(traces / f"{name}.csv.gz"), shift=asked.shift)
        ratios = " ".join(f"{value:7.3f}" for value in figures[name]["ratio"])
        covered = "  ".join("/".join(f"{100 * d:+.1f}" for d in row) for row in figures[name]["deviation"])
        print(f"{name:36s} {ratios}   {covered}  {time.monotonic() - began:.0f}", flush=True)
    _print_summary(figures)
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1))
    return 0


def series_names(traces: Path, *, disagg: bool) -> list[str]:
    index = pd.read_csv(traces / "index.csv")
    long = index[index["bin"].isin([60, 600]) & (index["span_days"] >= 6) & ~index["file"].str.contains("/")]
    return [name.removesuffix(".csv.gz") for name in long["file"] if name.endswith("_disagg.csv.gz") == disagg]


def load(path: Path) -> DemandSeries:
    table = pd.read_csv(path)
    stamps = table["timestamp"].to_numpy()
    step = int(stamps[1] - stamps[0])
    values = table["requests"].to_numpy(dtype=float) / step
    if "missing" in table:
        values = np.where(table["missing"].to_numpy() == 1, np.nan, values)
    start = datetime.fromtimestamp(int(stamps[0]), UTC)
    return DemandSeries(unit=DemandUnit.REQUESTS, start=start, step=timedelta(seconds=step), values=values)


def score(series: DemandSeries, *, shift: bool) -> dict[str, list]:
    """The ratio to the best simple method at each lead, which method that was, and coverage deviations."""
    if shift:
        last_target = WARMUP + timedelta(days=3) + series.step
        series = with_shift(series, WARMUP + timedelta(days=1)).until(series.start + last_target)
    leads = [timedelta(minutes=minutes) for minutes in LEADS.values()]
    results = {
        method: backtest({"series": series}, leads=leads, warmup=WARMUP, method=method) for method in (*SIMPLE, "auto")
    }
    scored = slice(None)
    if shift:
        day = round(timedelta(days=1) / series.step)
        origins = results["auto"].origins
        first = round(WARMUP / series.step) + day
        scored = (origins >= first) & (origins < first + day)
    losses = {method: mean_loss(result, scored) for method, result in results.items()}
    simple = np.array([losses[method] for method in SIMPLE])
    auto = results["auto"]
    deviations = [
        [
            coverage(auto.actual[0, scored, k], auto.quantiles[0, scored, k, i], float(level)).deviation
            for i, level in enumerate(auto.levels)
            if level in COVERED
        ]
        for k in range(len(LEADS))
    ]
    return {
        "ratio": (losses["auto"] / simple.min(axis=0)).tolist(),
        "best_simple": [SIMPLE[i] for i in simple.argmin(axis=0)],
        "deviation": deviations,
    }


def mean_loss(result: BacktestResult, scored: slice | np.ndarray) -> np.ndarray:
    losses = pinball(result.actual[0, scored], result.quantiles[0, scored], result.levels)
    seen = np.isfinite(losses)
    return np.where(seen, losses, 0.0).sum(axis=(0, 2)) / np.where(seen.any(axis=(0, 2)), seen.sum(axis=(0, 2)), np.nan)


def with_shift(series: DemandSeries, after: timedelta) -> DemandSeries:
    values = series.values.copy()
    values[round(after / series.step) :] *= 3.0
    return DemandSeries(unit=series.unit, start=series.start, step=series.step, values=values)


def _print_summary(figures: dict[str, dict[str, list]]) -> None:
    ratios = np.array([figure["ratio"] for figure in figures.values()])
    deviations = np.array([figure["deviation"] for figure in figures.values()])
    print(f"\n{len(figures)} series" + " " * 26 + " ".join(f"{lead:>7s}" for lead in LEADS))
    for words, row in (
        ("mean ratio", np.nanmean(ratios, axis=0)),
        ("median ratio", np.nanmedian(ratios, axis=0)),
        ("worst", np.nanmax(ratios, axis=0)),
    ):
        print(f"{words:36s} " + " ".join(f"{value:7.3f}" for value in row))
    print(f"{'asked for (mean)':36s} " + " ".join(f"{goal:7.2f}" for goal in GOALS.values()))
    print("coverage deviation in points at .9/.95/.99: mean over series and leads, mean size, worst")
    for words, row in (
        ("mean", np.nanmean(deviations, axis=(0, 1))),
        ("mean size", np.nanmean(np.abs(deviations), axis=(0, 1))),
        ("worst (mean over leads of a series)", np.abs(np.nanmean(deviations, axis=1)).max(axis=0)),
        ("worst (one series, one lead)", np.nanmax(np.abs(deviations), axis=(0, 1))),
    ):
        print(f"{words:36s} " + " ".join(f"{100 * value:7.2f}" for value in row))
    print("mean deviation by lead, at .9/.95/.99")
    for lead, row in zip(LEADS, np.nanmean(deviations, axis=0), strict=True):
        print(f"{lead:36s} " + " ".join(f"{100 * value:7.2f}" for value in row))


def _print_costs() -> int:
    rng = np.random.default_rng(0)
    n_series = 10_000
    slots = np.arange(14 * 288)
    shape = 1.0 + 0.6 * np.sin(2 * np.pi * slots / 288)
    level = rng.lognormal(0.0, 1.5, n_series)
    values = rng.poisson(level[:, None] * shape * 20).astype(np.float64) / 300
    panel = Panel(
        keys=tuple(map(str, range(n_series))),
        start=datetime(2026, 1, 5, tzinfo=UTC),
        step=timedelta(minutes=5),
        values=values,
    )
    levels = np.array([0.5, 0.8, 0.9, 0.95, 0.99])
    n_values = 0
    with timed(f"24 h x 1 min x 5 quantiles for {n_series} endpoints from 14 days of 5 min"):
        for part in forecast_day_by_minute(panel, levels):
            n_values += part.size
    print(f"  {n_values:,} values")
    del panel, values
    _print_lead_cost(n_series)
    _print_statistical_cost()
    peaks = [resource.getrusage(who).ru_maxrss / 1e6 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(f"peak memory: {peaks[0]:.2f} GB, of the largest of its processes {peaks[1]:.2f} GB")
    return 0


def _print_lead_cost(n_series: int, n_tapes: int = 40, n_models: int = 4) -> None:
    """What one minute asks of the lead-time models of a fleet: the new bins taken up, the newest row forecast. Some
    endpoints stand for all, in turn: their eight days on the control grid would fill the memory of a small machine."""
    rng, step_seconds, n_steps = np.random.default_rng(2), 15.0, 8 * 5760
    shape = 1.0 + 0.6 * np.sin(2 * np.pi * np.arange(n_steps) / 5760)
    levels = rng.lognormal(0.0, 1.5, n_tapes)
    tapes = [DemandTape(rng.poisson(level * shape * 15) / 15, 0.0, step_seconds) for level in levels]
    with timed(f"{n_models} lead-time models fitted"):
        models = [fit_lead_model([tape], 10, 240.0) for tape in tapes[:n_models]]
    models[0].predict(tapes[0], n_steps, n_steps + 1)  # compiles
    minute = rng.poisson(levels[:, None] * 15, (n_tapes, 4)) / 15
    with timed(f"lead-time refresh of {n_series} endpoints (each minute)"):
        for i in range(n_series):
            tape = tapes[i % n_tapes]
            tape.append(minute[i % n_tapes])
            models[i % n_models].predict(tape, len(tape), len(tape) + 1)


def _print_statistical_cost() -> None:
    rng = np.random.default_rng(1)
    n_series, n_hours = 1000, 28 * 24
    shape = 1.0 + 0.6 * np.sin(2 * np.pi * np.arange(n_hours) / 24)
    hours = rng.poisson(rng.lognormal(3.0, 1.0, n_series)[:, None] * shape).astype(np.float64)
    start, step = datetime(2026, 1, 5, tzinfo=UTC), timedelta(hours=1)
    series = [DemandSeries(unit=DemandUnit.REQUESTS, start=start, step=step, values=row / 3600) for row in hours]
    with timed(f"{n_series} endpoints refitted by each of {', '.join(MODELS)}: 28 days hourly, two processes"):
        for method in MODELS:
            forecaster = Forecaster(method=method)
            jobs = [FitJob(key=f"n/e{i}", series=one, forecaster=forecaster) for i, one in enumerate(series)]
            n_fitted = sum(1 for _ in fit_many(jobs, Workers(processes=2), with_scores=False))
            print(f"  {method}: {n_fitted}", flush=True)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Prints wall and processor seconds of the block, those of its child processes included: on a shared machine they
    differ."""
    wall, cpu = time.perf_counter(), processor_seconds()
    yield
    print(f"{what}: {time.perf_counter() - wall:.2f} s, {processor_seconds() - cpu:.2f} s of processor time")


def processor_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    sys.exit(main())
