"""headstart backtest, forecast, fit, models."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from scaler.app.cli.options import check_out, duration, durations, progress_bar, show, table
from scaler.errors import SettingsError

if TYPE_CHECKING:
    from forecaster.backtest import BacktestResult

models = typer.Typer(help="List, show and prune the fitted models that are kept.", no_args_is_help=True)
Trace = Annotated[Path, typer.Option(help="Recorded demand: CSV or CSV.gz, see data/README.md.", show_default=False)]


def backtest(
    trace: Trace,
    out: Annotated[Path, typer.Option(help="Folder for forecasts.csv and scores.json.", show_default=False)],
    lead: Annotated[str, typer.Option(help="How far ahead, comma-separated.")] = "5m,1h,6h",
    warmup: Annotated[str, typer.Option(help="History before the first forecast.")] = "7d",
    every: Annotated[str, typer.Option(help="Time between two origins.")] = "30m",
    method: Annotated[str, typer.Option(help="auto, or the name of one method.")] = "auto",
) -> None:
    """Rolling-origin forecasts of a trace, without look-ahead, and how good they were."""
    leads, warm, pace = durations(lead, "--lead"), duration(warmup, "--warmup"), duration(every, "--every")
    folder = check_out(out)
    from forecaster.backtest import backtest as run_backtest
    from forecaster.catalogue import method_named
    from forecaster.errors import ShortHistory
    from scaler.adapters.traces import read_trace

    method_named(method)
    series = read_trace(trace)
    with progress_bar("backtest") as progress:
        try:
            result = run_backtest(series, leads=leads, warmup=warm, every=pace, method=method, progress=progress)
        except ShortHistory as error:
            raise SettingsError(f"--warmup: found {warmup}; {trace}: {error}") from error
    _write_backtest(result, folder, with_endpoint="" not in series)
    _show_scores(result)
    show(f"wrote {folder / 'forecasts.csv'} and {folder / 'scores.json'}")


def _write_backtest(result: "BacktestResult", folder: Path, *, with_endpoint: bool) -> None:
    import json

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "forecasts.csv").open("w", newline="") as file:
        result.write_csv(file, with_endpoint=with_endpoint)
    (folder / "scores.json").write_text(json.dumps(result.scores(), indent=2, sort_keys=True) + "\n")


def _show_scores(result: "BacktestResult") -> None:
    scores = cast(dict[str, dict[str, Any]], result.scores()["endpoints"])
    shown = table("endpoint", "lead", "scored", "WQL", "MASE", "q0.9 covers", "q0.99 covers")
    for key, by_lead in scores.items():
        for lead, score in by_lead.items():
            covers = [score["coverage"].get(level, {}).get("at_most") for level in ("0.9", "0.99")]
            numbers = [
                _cell(score["wql"], ".3f"),
                _cell(score["mase"], ".2f"),
                *(_cell(share, ".1%") for share in covers),
            ]
            shown.add_row(key or "(the trace)", lead, str(score["n_scored"]), *numbers)
    show(shown)


def _cell(value: float | None, how: str) -> str:
    return "–" if value is None else format(value, how)
