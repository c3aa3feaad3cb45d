"""What a replay leaves on disk: the names and columns are a contract (POLICY: command line)."""

import csv
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import PolicySpec
from scaler.simulator.lane import Outcome
from scaler.simulator.oracle import Clairvoyant
from scaler.simulator.pool_figures import gpu_use, pool_figures
from scaler.simulator.replay import EndpointResult, PoolMembers, ReplayResult

FRONTIER = ("endpoint", "strategy", "knob", "replica_hours", "slo_attainment")
TIMELINE = ("timestamp", "demand", "desired", "starting", "ready", "queue", "wait_seconds")
ASKED = "asked"
"""A further column of timelines where there are pools: what each turn would have ordered if they had no end."""


def summary(result: ReplayResult) -> dict[str, Any]:
    """Per strategy what it cost and what it served; sums (or shares of all demand) over endpoints.

    Example: {"headstart": {"replica_hours": 12.5, ...}, "hpa": {...}, "clairvoyant": {...}}. With pools it ends with
    `pools`: {"a100": {"gpus": 16, "endpoints": [...], "headstart": {"asked_gpu_hours": 210.0, ...}, ...}}.
    """
    each = {label(name): _endpoint_summary(found) for name, found in result.endpoints.items()}
    pools = {pool: _pool_summary(result, members) for pool, members in result.pools.items()}
    beside = {"pools": pools} if pools else {}
    if not result.several:
        return next(iter(each.values())) | beside
    total: dict[str, Any] = {}
    first = next(iter(result.endpoints.values()))
    for strategy in first.outcomes:
        total[strategy] = _together(result, strategy)
    total["clairvoyant"] = _clairvoyants([found.clairvoyant for found in result.endpoints.values()])
    return total | {"endpoints": each} | beside


def strategies(figures: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows of a summary that are of a strategy which could be run."""
    return {key: row for key, row in figures.items() if key not in ("clairvoyant", "endpoints", "pools")}


def pool_rows(of_pool: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows of one of a summary's `pools`, the clairvoyant's among them."""
    return {key: row for key, row in of_pool.items() if key not in ("gpus", "endpoints")}


def _endpoint_summary(found: EndpointResult) -> dict[str, Any]:
    rows: dict[str, Any] = {name: figures(outcome, found) for name, outcome in found.outcomes.items()}
    rows["clairvoyant"] = _clairvoyants([found.clairvoyant])
    return rows


def figures(outcome: Outcome, found: EndpointResult) -> dict[str, float]:
    """The figures of one strategy on one endpoint. `slo_attainment` is the share of demand in steps whose
    `wait_seconds` is within slo.queueWait; `cold_requests` the demand of steps that ended without a ready replica;
    `cancelled_starts` those of `starts` that were let go before they were ready; `wasted_replica_hours` those of ready
    replicas in steps that used less than utilization.low of what they carry. In a pool, `asked_gpu_hours` is
    what it asked for, and `cut_hours` the time in which it had less."""
    spec = found.policy.spec
    hours = outcome.replica_hours
    rows = {
        "replica_hours": _rounded(hours),
        "gpu_hours": _rounded(hours * spec.target.gpus_per_replica),
        "slo_attainment": _rounded(outcome.attainment(spec.slo.queue_wait.total_seconds())),
        "cold_requests": _rounded(outcome.cold_requests),
        "starts": outcome.starts,
        "cancelled_starts": outcome.cancelled_starts,
        "p95_wait_seconds": _rounded(outcome.p95_wait_seconds()),
        "wasted_replica_hours": _rounded(outcome.wasted_replica_hours(_wasted_below(spec, outcome.step_seconds))),
    }
    if outcome.asked is not None:
        use = gpu_use([(found, outcome)])
        rows |= {"asked_gpu_hours": use.asked_gpu_hours, "cut_hours": use.cut_hours}
    return rows


def _pool_summary(result: ReplayResult, members: PoolMembers) -> dict[str, Any]:
    found = [result.endpoints[name] for name in members.endpoints]
    endpoints = [label(name) for name in members.endpoints]
    return {"gpus": members.gpus, "endpoints": endpoints} | pool_figures(found)


def _wasted_below(spec: PolicySpec, step_seconds: float) -> float:
    """The least demand of a step, in the timeline's unit, that makes one ready replica no waste."""
    least = spec.capacity.utilization.low * spec.capacity.per_replica
    return least * step_seconds if spec.demand.unit.is_rate else least


def _together(result: ReplayResult, strategy: str) -> dict[str, float]:
    """Sums over endpoints; attainment weighs endpoints by demand; the wait is the worst endpoint's 95th percentile."""
    rows = [(figures(found.outcomes[strategy], found), found.outcomes[strategy]) for found in result.endpoints.values()]
    demand = [float(outcome.demand.sum()) for _, outcome in rows]
    served = sum(row["slo_attainment"] * weight for (row, _), weight in zip(rows, demand, strict=True))
    summed = ("replica_hours", "gpu_hours", "cold_requests", "starts", "cancelled_starts", "wasted_replica_hours")
    sums = {key: sum(row[key] for row, _ in rows) for key in summed}
    return {
        "replica_hours": _rounded(sums["replica_hours"]),
        "gpu_hours": _rounded(sums["gpu_hours"]),
        "slo_attainment": _rounded(served / sum(demand)) if sum(demand) > 0 else 1.0,
        "cold_requests": _rounded(sums["cold_requests"]),
        "starts": int(sums["starts"]),
        "cancelled_starts": int(sums["cancelled_starts"]),
        "p95_wait_seconds": max(row["p95_wait_seconds"] for row, _ in rows),
        "wasted_replica_hours": _rounded(sums["wasted_replica_hours"]),
    }


def _clairvoyants(found: list[Clairvoyant | None]) -> dict[str, float | None]:
    """Sums over endpoints; null where one has none."""
    bounds = [item.lower_bound_replica_hours if item else None for item in found]
    paths = [item.feasible_replica_hours if item else None for item in found]
    return {"lower_bound_replica_hours": _sum(bounds), "feasible_replica_hours": _sum(paths)}


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _rounded(sum(known)) if len(known) == len(values) else None


def _rounded(value: float) -> float:
    return round(float(value), 6)


def timeline_rows(result: ReplayResult, strategy: str) -> Iterator[list[object]]:
    """The timeline of one strategy, header first; the endpoint leads each row when there are several. Time stamps are
    epoch seconds."""
    yield [*(["endpoint"] if result.several else []), *TIMELINE, *([ASKED] if result.pools else [])]
    for name, found in result.endpoints.items():
        outcome = found.outcomes[strategy]
        start, step = found.start, timedelta(seconds=outcome.step_seconds)
        columns = zip(
            outcome.demand.tolist(),
            outcome.desired.tolist(),
            outcome.starting.tolist(),
            outcome.ready.tolist(),
            outcome.queue.tolist(),
            outcome.wait_seconds.tolist(),
            (outcome.desired if outcome.asked is None else outcome.asked).tolist(),
            strict=True,
        )
        begin, width = start.timestamp(), step.total_seconds()
        lead: list[object] = [label(name)] if result.several else []
        for k, (demand, desired, starting, ready, queue, wait, asked) in enumerate(columns):
            yield [
                *lead,
                f"{begin + k * width:.15g}",
                f"{demand:.10g}",
                int(desired),
                int(starting),
                int(ready),
                f"{queue:.10g}",
                f"{wait:.10g}",
                *([int(asked)] if result.pools else []),
            ]


def _frontier_rows(result: ReplayResult) -> Iterator[list[object]]:
    for name, found in result.endpoints.items():
        for strategy, points in found.frontier.items():
            for point in points:
                hours, share = _rounded(point.replica_hours), _rounded(point.slo_attainment)
                yield [label(name), strategy, point.knob, hours, share]


def label(name: EndpointId) -> str:
    """How an endpoint is called in files: the trace's own name for it."""
    return name.name


def write_replay(result: ReplayResult, out_dir: Path | str, report: str | None = None) -> None:
    """`summary.json`, one `timeline-<strategy>.csv` each, `decisions.jsonl`, `frontier.csv` where one was asked for,
    and (given its text) `report.html` stand in `out_dir` afterwards, all of them new.

    Everything is written beside it first and moved there at the end, so that a run that fails leaves nothing half done.
    `decisions.jsonl` holds the turns that changed an order and the first turn of every hour.
    """
    out = Path(out_dir)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as workshop:
        made = Path(workshop)
        _write_files(result, report, made)
        out.mkdir(exist_ok=True)
        for file in sorted(made.iterdir()):
            os.replace(file, out / file.name)


def _write_files(result: ReplayResult, report: str | None, folder: Path) -> None:
    (folder / "summary.json").write_text(json.dumps(summary(result), indent=2, allow_nan=False) + "\n", "utf-8")
    first = next(iter(result.endpoints.values()))
    for strategy in first.outcomes:
        _write_table(folder / f"timeline-{strategy}.csv", timeline_rows(result, strategy))
    points = list(_frontier_rows(result))
    if points:
        _write_table(folder / "frontier.csv", [FRONTIER, *points])
    with (folder / "decisions.jsonl").open("w", encoding="utf-8", newline="") as file:
        for found in result.endpoints.values():
            file.writelines(json.dumps(row, allow_nan=False) + "\n" for row in found.decisions)
    if report is not None:
        (folder / "report.html").write_text(report, "utf-8")


def _write_table(path: Path, rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
