"""headstart replay, test, tune."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaler.app.cli.options import check_out, check_out_file, duration, progress_bar, show, table, writing
from scaler.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_BASELINES = "hpa,keda,knative,static,keepalive"
OTHER_BASELINES = (
    "reactive, hybrid-histogram, aws, gcp, dynamo-constant, dynamo-arima, dynamo-kalman, llmd, aibrix, "
    "aibrix-unguarded, ahpa"
)
"""In words, because asking the registry for them would cost `--help` a second."""
Trace = Annotated[Path, typer.Option(help="Recorded demand: CSV or CSV.gz, see data/README.md.", show_default=False)]


def replay(
    trace: Trace,
    out: Annotated[Path, typer.Option(help="Folder for the results; made if absent.", show_default=False)],
    policy: Annotated[Path | None, typer.Option(help="The policy to replay under.")] = None,
    policies: Annotated[Path | None, typer.Option(help="Folder: each endpoint under the policy of its name.")] = None,
    warmup: Annotated[str, typer.Option(help="History before the first decision.")] = "7d",
    seed: Annotated[int, typer.Option(help="Of arrivals inside bins and of start-up times.", min=0)] = 0,
    baseline: Annotated[
        str, typer.Option(help=f"Comma-separated; also: {OTHER_BASELINES}. Empty: none.")
    ] = DEFAULT_BASELINES,
    frontier: Annotated[bool, typer.Option("--frontier", help="Sweep each baseline's knob.")] = False,
    fault: Annotated[list[str] | None, typer.Option(help="Such as forecast-noise or metrics-outage:1d8h/10m.")] = None,
    pools: Annotated[
        str, typer.Option(help="GPUs of each pool: a100=64,h100=16. Its endpoints are played together within them.")
    ] = "",
) -> None:
    """The real cycle on recorded demand, beside baselines and the clairvoyant bound."""
    from dataclasses import replace

    warm, folder = duration(warmup, "--warmup"), check_out(out)
    from scaler.app.replays import read_request, replayed
    from scaler.app.settings import read_pools
    from scaler.simulator.faults import parse_faults
    from scaler.simulator.report import report
    from scaler.simulator.results import summary, write_replay

    gpus = read_pools(pools, "--pools")
    request = read_request(
        policy=policy, policies=policies, trace=trace, warmup=warm, seed=seed, faults=parse_faults(fault or [])
    )
    names = tuple(name.strip() for name in baseline.split(",") if name.strip())
    asked = replace(request, baselines=names, frontier=frontier, pools=gpus)
    with progress_bar("replay") as bar:
        result = replayed(asked, lambda what, done, total: bar(done, total, what))
    with writing(folder):
        write_replay(result, folder, report(result))
    figures = summary(result)
    _show_summary(figures)
    if "pools" in figures:
        _show_pools(figures["pools"])
    show(f"wrote summary.json, timeline-<strategy>.csv, decisions.jsonl and report.html into {folder}")


def _show_summary(found: "Mapping[str, Any]") -> None:
    from scaler.simulator.results import strategies

    shown = table("strategy", "replica-hours", "GPU-hours", "in time", "cold requests", "starts", "p95 wait")
    for name, row in strategies(found).items():
        shown.add_row(
            name,
            f"{row['replica_hours']:.1f}",
            f"{row['gpu_hours']:.1f}",
            f"{row['slo_attainment']:.3%}",
            f"{row['cold_requests']:.0f}",
            str(row["starts"]),
            f"{row['p95_wait_seconds']:.1f} s",
        )
    for kind, hours in found["clairvoyant"].items():
        words = kind.removesuffix("_replica_hours").replace("_", " ")
        shown.add_row(f"clairvoyant, {words}", "–" if hours is None else f"{hours:.1f}", "", "", "", "", "")
    show(shown)


def _show_pools(pools: "Mapping[str, Any]") -> None:
    from scaler.simulator.results import pool_rows

    shown = table("pool", "GPUs", "strategy", "GPU-hours asked", "granted", "most GPUs asked", "hours cut")
    for pool, found in pools.items():
        for name, row in pool_rows(found).items():
            figures = [row["asked_gpu_hours"], row["granted_gpu_hours"], row["most_gpus_asked"], row["cut_hours"]]
            shown.add_row(pool, str(found["gpus"]), name, *("–" if one is None else f"{one:.6g}" for one in figures))
    show(shown)
    show("Other scalers' replicas wait until GPUs are free, first come first served; the clairvoyant knows of no pool.")


def run_tests(
    folder: Annotated[Path, typer.Argument(help="Folder (or file) of PolicyTest documents.", metavar="DIR")],
    junit: Annotated[Path | None, typer.Option(help="Write the outcomes there as JUnit XML.")] = None,
) -> None:
    """Run policy tests: one line each, expected and seen where they differ; exit code 1 on failure."""
    from scaler.app.replays import read_policy_tests, run_test
    from scaler.simulator.policy_tests import junit as junit_xml

    if junit is not None:
        check_out_file(junit, "--junit")
    tests = read_policy_tests(folder)
    outcomes = []
    with progress_bar("policy tests") as bar:
        for done, (file, one) in enumerate(tests):
            bar(done, len(tests), one.metadata.name)
            outcomes.append(run_test(file, one))
            typer.echo(outcomes[-1].line())
            if not outcomes[-1].passed and not outcomes[-1].error:
                typer.echo(outcomes[-1].diff())
    if junit is not None:
        with writing(junit, "--junit"):
            junit.parent.mkdir(parents=True, exist_ok=True)
            junit.write_text(junit_xml(outcomes))
    if not all(outcome.passed for outcome in outcomes):
        raise typer.Exit(1)


def tune(
    policy: Annotated[Path, typer.Option(help="The policy whose choices are searched.", show_default=False)],
    trace: Trace,
    warmup: Annotated[str, typer.Option(help="History before the first decision.")] = "7d",
    trials: Annotated[int, typer.Option(help="How many replays.", min=2, max=1000)] = 20,
    seed: Annotated[int, typer.Option(help="Of the search and of the replays.", min=0, max=2**32 - 1)] = 0,
) -> None:
    """Search the policy's own choices on the endpoint's history, and say what would have changed. Writes nothing."""
    try:
        import optuna  # noqa: F401  (the extra [tune])
    except ImportError as error:
        raise SettingsError("tune needs optuna: install headstart[tune]") from error
    from scaler.app.replays import read_request
    from scaler.app.tuning import search
    from scaler.simulator.faults import Faults

    request = read_request(
        policy=policy, policies=None, trace=trace, warmup=duration(warmup, "--warmup"), seed=seed, faults=Faults()
    )
    with progress_bar("tune") as bar:
        found = search(request, trials=trials, seed=seed, progress=lambda done, total: bar(done, total))
    shown = table("", "replica-hours", "in time", "choices")
    for label, trial in (("as it is", found.present), ("best found", found.best)):
        words = ", ".join(f"{name} = {value}" for name, value in trial.choices.items())
        shown.add_row(label, f"{trial.replica_hours:.1f}", f"{trial.slo_attainment:.3%}", words)
    show(shown)
    show(found.sentence())
