"""headstart backtest, forecast, fit, models."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from scaler.app.cli.options import (
    check_out,
    check_out_file,
    duration,
    durations,
    only_errors_are_logged,
    progress_bar,
    show,
    table,
    writing,
)
from scaler.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from forecaster.backtest import BacktestResult
    from forecaster.forecast import DemandForecast
    from forecaster.store import ModelStore


class Engine(StrEnum):
    PROCESSES = "processes"
    RAY = "ray"
    DASK = "dask"


EngineName = Annotated[
    Engine,
    typer.Option(
        "--engine", help="Who works: the processors of this machine, or the workers of a Ray or Dask cluster."
    ),
]

models = typer.Typer(help="List, show and prune the fitted models that are kept.", no_args_is_help=True)
MethodName = Annotated[
    str | None,
    typer.Option(
        "--method", help="auto, or the name of one method.", show_default="forecast.method of the policy, else auto"
    ),
]
Trace = Annotated[Path, typer.Option(help="Recorded demand: CSV or CSV.gz, see data/README.md.", show_default=False)]


def backtest(
    trace: Trace,
    out: Annotated[Path, typer.Option(help="Folder for forecasts.csv and scores.json.", show_default=False)],
    lead: Annotated[
        str | None,
        typer.Option(help="How far ahead, comma-separated.", show_default="5m,1h,6h, or the whole bins above"),
    ] = None,
    warmup: Annotated[str, typer.Option(help="History before the first forecast.")] = "7d",
    every: Annotated[
        str | None, typer.Option(help="Time between two origins.", show_default="30m, or the whole bins about it")
    ] = None,
    method: MethodName = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            help="Whose demand it is: its unit, calendar and method; also score, and weigh the pool, by what its "
            "replicas would cost and miss."
        ),
    ] = None,
    engine: EngineName = Engine.PROCESSES,
) -> None:
    """Rolling-origin forecasts of a trace, without look-ahead, and how good they were."""
    leads = durations(lead, "--lead") if lead is not None else None
    pace = duration(every, "--every") if every is not None else None
    warm = duration(warmup, "--warmup")
    folder = check_out(out)
    from forecaster.errors import ShortHistory
    from forecaster.fleet import backtest_many
    from scaler.adapters.traces import read_trace
    from scaler.app.fitting import scoring_for, workers_of

    only_errors_are_logged()
    scoring = scoring_for(policy, method)
    workers = workers_of(engine.value)
    series = read_trace(trace, scoring.unit)
    with progress_bar("backtest") as bar:
        try:
            result = backtest_many(
                series,
                workers,
                leads=leads,
                warmup=warm,
                every=pace,
                method=scoring.method,
                calendar=scoring.calendar,
                progress=bar,
            )
        except ShortHistory as error:
            raise SettingsError(f"{trace}, --warmup {warmup}: {error}") from error
    _write_backtest(result, folder, with_endpoint="" not in series, per_replica=scoring.demand_per_replica)
    _show_scores(result, warm)
    show(f"wrote {folder / 'forecasts.csv'} and {folder / 'scores.json'}")


def _write_backtest(result: "BacktestResult", folder: Path, *, with_endpoint: bool, per_replica: float | None) -> None:
    import json

    scores = result.scores(demand_per_replica=per_replica)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "forecasts.csv").open("w", newline="") as file:
            result.write_csv(file, with_endpoint=with_endpoint)
        (folder / "scores.json").write_text(json.dumps(scores, indent=2, sort_keys=True) + "\n")


def _show_scores(result: "BacktestResult", warmup: "timedelta") -> None:
    """The leads that have scores as a table, and of each that the trace is too short for: what it would need."""
    from scaler.domain.fields import format_duration

    unscored = result.unscored
    scores = cast(dict[str, dict[str, Any]], result.scores()["endpoints"])
    shown = table("endpoint", "lead", "scored", "WQL", "MASE", "q0.9 covers", "q0.99 covers")
    for key, by_lead in scores.items():
        for steps, (lead, score) in zip(result.steps_ahead, by_lead.items(), strict=True):
            if int(steps) * result.step in unscored:
                continue
            covers = [score["coverage"].get(level, {}).get("at_most") for level in ("0.9", "0.99")]
            numbers = [
                _cell(score["wql"], ".3f"),
                _cell(score["mase"], ".2f"),
                *(_cell(share, ".1%") for share in covers),
            ]
            shown.add_row(key or "(the trace)", lead, str(score["n_scored"]), *numbers)
    show(shown)
    have = format_duration(result.n_steps * result.step)
    for too_far, need in unscored.items():
        show(
            f"not scored at a lead of {format_duration(too_far)}: the trace is {have} long and ends before the first "
            f"target; need more than {format_duration(need)} with a warm-up of {format_duration(warmup)}: a longer "
            "trace, or a shorter --warmup"
        )


def _cell(value: float | None, how: str) -> str:
    return "–" if value is None else format(value, how)


Source = Annotated[Path | None, typer.Option("--trace", help="Recorded demand: CSV or CSV.gz.")]
Policies = Annotated[
    str | None,
    typer.Option("--policies", help="Instead: endpoints with history in Prometheus; a folder, a file, or cluster."),
]
PolicyOfTrace = Annotated[
    Path | None,
    typer.Option("--policy", help="Whose demand the trace is: its calendar, unit, method and horizon."),
]
Prometheus = Annotated[str | None, typer.Option("--prometheus-url", help="Where that history comes from.")]
Models = Annotated[str, typer.Option("--models", help="Folder or bucket of fitted models.")]


def forecast(
    trace: Source = None,
    policy: PolicyOfTrace = None,
    policies: Policies = None,
    prometheus_url: Prometheus = None,
    method: MethodName = None,
    horizon: Annotated[
        str | None,
        typer.Option(help="How far ahead.", show_default="forecast.horizon of the policy, else 24h"),
    ] = None,
    stored: Annotated[
        bool,
        typer.Option("--stored", help="By the fitted models that are kept, not fitted anew."),
    ] = False,
    models_url: Models = "models",
    out: Annotated[Path | None, typer.Option(help="CSV of all steps; without it a table of hours.")] = None,
) -> None:
    """The next day's quantiles of demand, from the end of the history on."""
    span = duration(horizon, "--horizon") if horizon is not None else None
    file = check_out_file(out) if out is not None else None
    if stored and method is not None:
        raise SettingsError(f"--method: found {method} with --stored, which takes what is kept; need one of the two")
    from forecaster.catalogue import method_named
    from scaler.app.fitting import forecast_all
    from scaler.app.histories import read_histories

    if method is not None:
        method_named(method)
    store = _model_store(models_url)
    only_errors_are_logged()
    histories = read_histories(trace=trace, policy=policy, policies=policies, prometheus_url=prometheus_url)
    with progress_bar("forecast") as bar:
        report = forecast_all(histories, store, method, span, bar, stored=stored)
    if file is None:
        for key, one in report.forecasts.items():
            _show_forecast(key, one)
    elif report.forecasts:
        _write_forecasts(file, report.forecasts)
        show(f"wrote {file}")
    _end_with("not forecast", report.problems)


def _write_forecasts(out: Path, made: "Mapping[str, DemandForecast]") -> None:
    import csv

    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("w", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            levels = next(iter(made.values())).quantile_levels
            rows.writerow(["endpoint", "origin", "target", *(f"q{level:g}" for level in levels)])
            for key, one in made.items():
                for step, values in enumerate(one.values):
                    target = (one.start + step * one.step).timestamp()
                    quantiles = (f"{value:.6g}" for value in values)
                    rows.writerow([key, f"{one.issued_at.timestamp():.0f}", f"{target:.0f}", *quantiles])


def _show_forecast(key: str, one: "DemandForecast") -> None:
    from datetime import timedelta

    method = _method(one.method, one.fell_back_from)
    show(f"{key}: by {method}, issued {one.issued_at:%Y-%m-%d %H:%M} UTC, units per second, means over the time shown")
    shown = table("from (UTC)", "to", *(f"q{level:g}" for level in one.quantile_levels))
    per_hour = max(round(timedelta(hours=1) / one.step), 1)
    for first in range(0, len(one), per_hour):
        some = one.values[first : first + per_hour]
        begin, end = one.start + first * one.step, one.start + (first + len(some)) * one.step
        shown.add_row(f"{begin:%a %H:%M}", f"{end:%H:%M}", *(f"{value:.4g}" for value in some.mean(axis=0)))
    show(shown)


def _method(name: str, fell_back_from: str) -> str:
    return f"{name} (fell back from {fell_back_from})" if fell_back_from else name


def fit(
    trace: Source = None,
    policy: PolicyOfTrace = None,
    policies: Policies = None,
    prometheus_url: Prometheus = None,
    method: MethodName = None,
    models_url: Models = "models",
    engine: EngineName = Engine.PROCESSES,
) -> None:
    """Fit every endpoint's model and keep it: a card and arrays each, the last versions stay. Each is kept as soon as
    it is fitted: a run that was broken off goes on where it stopped. History from a metrics server ends with the last
    whole hour, a trace's with its last bin."""
    from forecaster.catalogue import method_named
    from scaler.app.fitting import fit_and_keep
    from scaler.app.histories import read_histories

    if method is not None:
        method_named(method)
    store = _model_store(models_url)
    only_errors_are_logged()
    histories = read_histories(
        trace=trace, policy=policy, policies=policies, prometheus_url=prometheus_url, whole_hours=True
    )
    shown = table("endpoint", "method", "WQL at 1 h", "q0.9 covers", "version", "fitted until (UTC)")
    with progress_bar("fit") as bar:
        report = fit_and_keep(histories, store, method, engine.value, bar)
    for card in report.cards:
        score = card["scores"].get("3600s", {"wql": None, "coverage": {}})
        covers = score["coverage"].get("0.9", {}).get("at_most")
        numbers = [_cell(score["wql"], ".3f"), _cell(covers, ".1%")]
        method = _method(card["method"], card["fell_back_from"])
        shown.add_row(card["key"], method, *numbers, card["version"], str(card["fitted_until"]))
    if report.cards:
        show(shown)
    if report.unchanged:
        show(f"{report.unchanged} left as they are: the same history, method and code as of the model that is kept")
    failed = f", {len(report.problems)} failed" if report.problems else ""
    show(f"{len(report.cards)} kept under {models_url}{failed}")
    _end_with("failed", report.problems)


@models.command("list")
def list_models(models_url: Models = "models") -> None:
    """Every endpoint that has a model, with its newest version."""
    store = _model_store(models_url, must_exist=True)
    shown = table("endpoint", "method", "version", "versions kept")
    cards, problems = store.cards()
    for key, card in cards.items():
        method = _method(card["method"], card["fell_back_from"])
        shown.add_row(key, method, card["version"], str(len(store.versions(key))))
    show(shown)
    _end_with("cannot be listed", problems)


@models.command("show")
def show_model(
    key: Annotated[str, typer.Argument(help="NAMESPACE/NAME", metavar="ENDPOINT")], models_url: Models = "models"
) -> None:
    """The card of the newest model as JSON."""
    import json

    typer.echo(json.dumps(_model_store(models_url).card(key), indent=2))


@models.command("prune")
def prune_models(
    keep: Annotated[int, typer.Option(help="Versions that stay, for each endpoint.", min=1)] = 1,
    models_url: Models = "models",
) -> None:
    """Remove old versions."""
    from forecaster.errors import StoreError

    store = _model_store(models_url, must_exist=True)
    cards, problems = store.cards()
    removed = 0
    for key in cards:
        try:
            removed += len(store.prune(key, keep))
        except StoreError as error:
            problems[key] = str(error)
    show(f"removed {removed} versions")
    _end_with("left as it is", problems)


def _model_store(url: str, *, must_exist: bool = False) -> "ModelStore":
    """Raises SettingsError for a URL that no models can be under, or, if they must be there, that nothing is under."""
    from forecaster.errors import StoreError
    from forecaster.store import ModelStore

    try:
        store = ModelStore(url)
    except StoreError as error:
        raise SettingsError(f"--models: {error}") from error
    if Path(url).is_file():
        raise SettingsError(f"--models: {url} is a file; need a folder or a bucket")
    if must_exist and not store.exists():
        raise SettingsError(f"--models: {url} does not exist; need the folder or bucket that `headstart fit` wrote to")
    return store


def _end_with(what: str, problems: "Mapping[str, str]") -> None:
    """Name each endpoint of which this is true, and why; exit code 1 if there is any."""
    from rich.text import Text

    for key, problem in problems.items():
        show(Text.assemble((what, "red"), f" {key}: {problem}"))
    if problems:
        raise typer.Exit(1)
