"""What the notebooks show: tables and plotly figures of a history, its forecasts and their price."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from forecaster.arrivals.hazard import elapsed_at, survival
from forecaster.arrivals.learning import observe_steps
from forecaster.arrivals.start import new_law
from forecaster.backtest import BacktestResult, backtest
from forecaster.calendar import DAY_SECONDS, DemandCalendar
from forecaster.errors import ShortHistory
from forecaster.forecast import DEFAULT_LEVELS, DemandForecast
from forecaster.forecaster import Forecaster
from forecaster.repair import repaired
from forecaster.scoring import coverage, pit
from forecaster.series import DemandSeries, DemandUnit, FloatArray
from scaler.app.histories import History, read_histories, stored_histories
from scaler.core.idle import requests_per_step
from scaler.errors import SettingsError

SAMPLE_START = datetime(2026, 3, 2, tzinfo=UTC)
SAMPLE_STEP = timedelta(minutes=10)
BANDS = ((0.1, 0.99), (0.1, 0.95), (0.1, 0.9))
INK, BLUE, BAND = "#444", "#1f77b4", "rgba(0,0,0,0.08)"
N_PIT_BINS = 10
STARTUP_SHOWN = timedelta(seconds=150)
LONGER_HISTORY = (
    "Name a longer one: HEADSTART_TRACE, HEADSTART_PROMETHEUS_URL with HEADSTART_POLICIES, or HEADSTART_STORE."
)


def histories_to_inspect(environment: Mapping[str, str] | None = None) -> Mapping[str, History]:
    """`namespace/name` -> history from the first of these that is set: the trace file HEADSTART_TRACE; the endpoints of
    the policies in HEADSTART_POLICIES from the metrics server at HEADSTART_PROMETHEUS_URL; what the decisions in the
    store HEADSTART_STORE read; else a generated sample of HEADSTART_SAMPLE_DAYS (default 10) days."""
    told = os.environ if environment is None else environment
    if told.get("HEADSTART_TRACE"):
        return read_histories(trace=Path(told["HEADSTART_TRACE"]), policies=None, prometheus_url=None)
    if told.get("HEADSTART_PROMETHEUS_URL"):
        policies = told.get("HEADSTART_POLICIES", "policies")
        found = read_histories(trace=None, policies=policies, prometheus_url=told["HEADSTART_PROMETHEUS_URL"])
        return {key: history for key, history in found.items() if np.isfinite(history.series.values).any()}
    if told.get("HEADSTART_STORE"):
        return stored_histories(told["HEADSTART_STORE"])
    return _sample(int(told.get("HEADSTART_SAMPLE_DAYS", "10")))


def _sample(n_days: int) -> Mapping[str, History]:
    from scaler.app.demo.traffic import KINDS, generate

    kind = next(iter(KINDS))
    series = generate(kind, seed=7, start=SAMPLE_START, days=n_days).resampled(SAMPLE_STEP)
    return {f"sample/{kind}": History(series=series, calendar=DemandCalendar())}


def overview(histories: Mapping[str, History]) -> pd.DataFrame:
    """One row an endpoint: what was seen, how much, how idle, how bursty."""
    rows = {}
    for key, history in histories.items():
        series = history.series
        seen = series.values[np.isfinite(series.values)]
        mean = float(seen.mean()) if len(seen) else np.nan
        rows[key] = {
            "from (UTC)": f"{series.start:%Y-%m-%d %H:%M}",
            "days": round(len(series) * series.step / timedelta(days=1), 1),
            "step": f"{series.step_seconds / 60:g} min",
            "seen": len(seen) / max(len(series), 1),
            f"mean {unit_name(series)}": mean,
            "peak / mean": float(seen.max()) / mean if mean > 0 else np.nan,
            "idle bins": float(np.mean(seen == 0)) if len(seen) else np.nan,
        }
    return pd.DataFrame.from_dict(rows, orient="index").round(3)


def unit_name(series: DemandSeries) -> str:
    """What the values of the series are, for axes."""
    return f"{series.unit.value} per second" if series.unit is not DemandUnit.CONCURRENCY else "requests at once"


def compare(
    series: DemandSeries,
    methods: Sequence[str],
    leads: Sequence[timedelta],
    warmup: timedelta,
    levels: Sequence[float] = DEFAULT_LEVELS,
) -> dict[str, BacktestResult]:
    """A backtest of each method over the same origins, an hour or the bins that make one apart, by name. Raises
    SettingsError where the history is too short for one."""
    every = -(-timedelta(hours=1) // series.step) * series.step
    try:
        return {
            method: backtest(
                {"endpoint": series}, leads=leads, warmup=warmup, method=method, every=every, levels=levels
            )
            for method in methods
        }
    except ShortHistory as error:
        raise SettingsError(f"{error}. {LONGER_HISTORY}") from error


def score_table(results: Mapping[str, BacktestResult]) -> pd.DataFrame:
    """One row a lead and method: WQL, MASE of the median, coverage of the .9 and .99 quantiles."""
    rows = []
    for method, result in results.items():
        scores: Any = result.scores()
        for seconds, told in zip(result.lead_seconds, scores["endpoints"]["endpoint"].values(), strict=True):
            rows.append(
                {
                    "seconds": seconds,
                    "lead": lead_name(seconds),
                    "method": method,
                    "WQL": told["wql"],
                    "MASE": told["mase"],
                    "at or below q0.9": told["coverage"]["0.9"]["at_most"],
                    "at or below q0.99": told["coverage"]["0.99"]["at_most"],
                }
            )
    ordered = pd.DataFrame(rows).sort_values(["seconds", "WQL"]).set_index(["lead", "method"])
    return ordered.drop(columns="seconds").round(3)


def lead_name(seconds: float) -> str:
    """30 s, 10 min, 6 h."""
    if seconds < 60:
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min" if seconds < 3600 else f"{seconds / 3600:g} h"


def weight_table(summary: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Members by lead, from the summary of a fitted pool (FittedAuto.summary, the card's `leads`)."""
    return pd.DataFrame({lead_name(float(lead[:-1])): told["weights"] for lead, told in summary.items()})


def price_table(result: BacktestResult, demand_per_replica: float, price_of_missed_unit: float) -> pd.DataFrame:
    """One row a lead and level: replica-hours of holding that quantile, demand above it, and both in one price."""
    scores: Any = result.scores(demand_per_replica=demand_per_replica)
    rows = [
        {
            "lead": lead_name(seconds),
            "quantile": float(level),
            "replica hours": loss["replica_hours"],
            "missed requests": loss["missed_demand"],
            "price": loss["replica_hours"] + price_of_missed_unit * loss["missed_demand"],
        }
        for seconds, told in zip(result.lead_seconds, scores["endpoints"]["endpoint"].values(), strict=True)
        for level, loss in told["decision_loss"].items()
    ]
    return pd.DataFrame(rows).set_index(["lead", "quantile"]).round(2)


def demand_figure(history: History) -> Any:
    """Demand by local day and time of day; what looks broken is left out, as it is not learnt."""
    import plotly.graph_objects as go

    series = repaired(history.series).series
    days, slots, grid = _by_day(series, history.calendar)
    heat = go.Heatmap(x=slots, y=days, z=grid, colorscale="Blues", colorbar_title=unit_name(series))
    figure = go.Figure(heat).update_yaxes(autorange="reversed", title="day")
    figure.update_xaxes(title=f"time of day ({history.calendar.timezone})", tickvals=list(range(0, 25, 3)))
    return _laid_out(figure, "Demand by day", height=120 + 24 * min(len(days), 28))


def _by_day(series: DemandSeries, calendar: DemandCalendar) -> tuple[list[str], FloatArray, FloatArray]:
    """Names of local days, hours of the day of each slot, and values (n_days, n_slots), NaN where not seen."""
    local = calendar.local_seconds(series.start, series.step, len(series))
    day, slot = local // DAY_SECONDS, ((local % DAY_SECONDS) // series.step_seconds).astype(np.int64)
    n_slots = int(DAY_SECONDS // series.step_seconds)
    grid = np.full((int(day[-1] - day[0]) + 1, n_slots), np.nan)
    grid[day - day[0], np.minimum(slot, n_slots - 1)] = series.values
    names = [
        f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=int(number)):%a %d %b}"
        for number in range(int(day[0]), int(day[-1]) + 1)
    ]
    return names, np.arange(n_slots) * series.step_seconds / 3600, grid


def forecast_figure(series: DemandSeries, forecast: DemandForecast, days_shown: float = 3.0) -> Any:
    """Demand of the last days (and what came after the forecast was issued, if the series knows), the forecast's median
    and its bands."""
    import plotly.graph_objects as go

    shown = series.since(forecast.start - timedelta(days=days_shown)).until(forecast.end)
    figure = go.Figure()
    ahead = _times(forecast.start, forecast.step, len(forecast))
    for low, high in BANDS:
        figure.add_scatter(x=ahead, y=forecast.at_level(low), line_width=0, showlegend=False, hoverinfo="skip")
        figure.add_scatter(
            x=ahead,
            y=forecast.at_level(high),
            fill="tonexty",
            line_width=0,
            name=f"{low:g} to {high:g} quantile",
            fillcolor="rgba(31,119,180,0.18)",
        )
    figure.add_scatter(x=ahead, y=forecast.at_level(0.5), name="median", line_color=BLUE)
    times = _times(shown.start, shown.step, len(shown))
    figure.add_scatter(x=times, y=shown.values, name="demand", line_color=INK, line_width=1)
    figure.add_vline(x=forecast.issued_at, line_dash="dot", line_color=INK)
    figure.update_yaxes(title=unit_name(series), rangemode="tozero")
    return _laid_out(figure, f"Forecast by {forecast.method}, issued {forecast.issued_at:%a %d %b %H:%M} UTC")


def hindsight_figure(forecaster: Forecaster, series: DemandSeries, ago: timedelta) -> Any:
    """The forecast as it would have been issued `ago` before the end of the series, beside what came; a sentence where
    no demand was seen before that."""
    before = series.until(series.end - ago)
    if not np.isfinite(before.values).any():
        return (
            f"No forecast of {lead_name(ago.total_seconds())} ago: the history is "
            f"{lead_name((series.end - series.start).total_seconds())} long and holds no demand from before that. "
            f"{LONGER_HISTORY}"
        )
    model = forecaster.fit("endpoint", before)
    return forecast_figure(series, forecaster.forecast(model, before, issued_at=before.end, horizon=ago))


def next_request_figure(history: History) -> Any:
    """For an endpoint that is idle most of the time: the chance that nothing comes within a span from now on, and how
    much likelier a session begins by half hour of the local day."""
    from plotly.subplots import make_subplots

    series, timezone = history.series, history.calendar.timezone
    law = new_law(STARTUP_SHOWN.total_seconds(), timezone=timezone)
    observe_steps(law, series.start.timestamp(), series.step_seconds, requests_per_step(series))
    elapsed = elapsed_at(law, series.end.timestamp())
    minutes = np.concatenate([[0.0], np.geomspace(1.0, 1440.0, 60)])
    figure = make_subplots(cols=2, subplot_titles=["No request within ...", f"Season ({timezone})"])
    figure.add_scatter(x=minutes, y=survival(law, elapsed, minutes * 60.0), line_color=BLUE, col=1, row=1)
    figure.add_bar(x=np.arange(len(law.season_factor)) / 2, y=law.season_factor, marker_color=BLUE, col=2, row=1)
    figure.update_xaxes(title="minutes from now", type="log", col=1).update_yaxes(title="chance", range=[0, 1], col=1)
    figure.update_xaxes(title="hour of the day", tickvals=list(range(0, 25, 3)), col=2)
    figure.update_yaxes(title="sessions, 1 is usual", col=2).update_layout(showlegend=False)
    return _laid_out(figure, f"The next request: idle for {elapsed / 60:.0f} min")


def is_mostly_idle(series: DemandSeries) -> bool:
    """Whether more than half of the bins that were seen had no demand."""
    seen = series.values[np.isfinite(series.values)]
    return bool(len(seen)) and float(np.mean(seen == 0)) > 0.5


def weight_figure(table: pd.DataFrame) -> Any:
    """How much each member counts at each lead."""
    import plotly.graph_objects as go

    heat = go.Heatmap(
        x=list(table.columns),
        y=list(table.index),
        z=table.to_numpy(),
        colorscale="Blues",
        zmin=0,
        texttemplate="%{z:.2f}",
        showscale=False,
    )
    return _laid_out(go.Figure(heat).update_xaxes(title="lead"), "Weight of each member", height=420)


def score_figure(results: Mapping[str, BacktestResult]) -> Any:
    """WQL of each method by lead: lower is better."""
    import plotly.graph_objects as go

    table, figure = score_table(results)["WQL"], go.Figure()
    leads = list(dict.fromkeys(table.index.get_level_values("lead")))
    for number, method in enumerate(results):
        figure.add_bar(x=leads, y=[table[lead, method] for lead in leads], name=method, marker_color=_colour(number))
    figure.update_layout(barmode="group").update_yaxes(title="WQL").update_xaxes(title="lead")
    return _laid_out(figure, "Weighted quantile loss: lower is better")


def coverage_figure(results: Mapping[str, BacktestResult]) -> Any:
    """By lead: how much more or less often demand stayed at or below each quantile than it says, in points, with the
    band within which a right one strays (95 %, as if outcomes were independent)."""
    from plotly.subplots import make_subplots

    leads = next(iter(results.values())).lead_seconds
    figure = make_subplots(cols=len(leads), shared_yaxes=True, subplot_titles=[lead_name(lead) for lead in leads])
    for k in range(len(leads)):
        for number, (method, result) in enumerate(results.items()):
            shares = [
                coverage(result.actual[0, :, k], result.quantiles[0, :, k, i], float(level))
                for i, level in enumerate(result.levels)
            ]
            names = [f"{share.level:g}" for share in shares]
            if number == 0:
                band = [100 * share.band for share in shares]
                figure.add_scatter(
                    x=names + names[::-1],
                    y=band + [-b for b in reversed(band)],
                    mode="lines",
                    fill="toself",
                    line_width=0,
                    fillcolor=BAND,
                    name="band",
                    showlegend=k == 0,
                    col=k + 1,
                    row=1,
                )
            figure.add_scatter(
                x=names,
                y=[100 * share.deviation for share in shares],
                name=method,
                legendgroup=method,
                showlegend=k == 0,
                line_color=_colour(number),
                col=k + 1,
                row=1,
            )
    figure.update_xaxes(title="quantile", type="category").update_yaxes(title="points", col=1)
    return _laid_out(figure, "Coverage: observed less promised")


def pit_figure(results: Mapping[str, BacktestResult], lead_index: int) -> Any:
    """By method: the level at which outcomes fell, in ten bins with the band of a right forecast: flat is right."""
    from plotly.subplots import make_subplots

    figure = make_subplots(cols=len(results), shared_yaxes=True, subplot_titles=list(results))
    for number, result in enumerate(results.values()):
        actual = result.actual[0, :, lead_index]
        seen = np.isfinite(actual)
        fell_at = pit(actual[seen], result.quantiles[0, seen, lead_index], result.levels)
        share, edges = np.histogram(fell_at, bins=N_PIT_BINS, range=(0.0, 1.0))
        n_seen, width = max(int(seen.sum()), 1), 1.0 / N_PIT_BINS
        figure.add_bar(
            x=edges[:-1] + width / 2,
            y=share / n_seen,
            width=0.9 * width,
            marker_color=_colour(number),
            showlegend=False,
            col=number + 1,
            row=1,
        )
        band = 1.96 * np.sqrt(width * (1 - width) / n_seen)
        figure.add_hrect(
            y0=width - band, y1=width + band, line_width=0, fillcolor=BAND, layer="below", col=number + 1, row=1
        )
    lead = lead_name(next(iter(results.values())).lead_seconds[lead_index])
    figure.update_xaxes(title="level", tickvals=[0, 0.5, 1]).update_yaxes(title="share of outcomes", col=1)
    return _laid_out(figure, f"Where demand fell among the quantiles, {lead} ahead")


def price_figure(table: pd.DataFrame) -> Any:
    """Price against the quantile that is held, one line a lead; the cheapest is marked."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for number, lead in enumerate(dict.fromkeys(table.index.get_level_values("lead"))):
        prices = table.loc[lead, "price"]
        levels = [f"{level:g}" for level in prices.index]
        figure.add_scatter(x=levels, y=prices, name=f"{lead} ahead", line_color=_colour(number))
        best = int(np.argmin(prices.to_numpy()))
        figure.add_scatter(
            x=[levels[best]],
            y=[prices.iloc[best]],
            mode="markers",
            marker={"color": _colour(number), "size": 12, "symbol": "star"},
            showlegend=False,
        )
    figure.update_xaxes(title="quantile held", type="category").update_yaxes(title="price in replica-hours")
    return _laid_out(figure, "Price of holding a quantile (star: the cheapest)")


def frontier_figure(table: pd.DataFrame, demand: float) -> Any:
    """Replica-hours against the share of `demand` (units) that was missed: what a promise costs at each lead."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for number, lead in enumerate(dict.fromkeys(table.index.get_level_values("lead"))):
        rows = table.loc[lead]
        figure.add_scatter(
            x=100 * rows["missed requests"] / demand,
            y=rows["replica hours"],
            hovertext=[f"q{level:g}" for level in rows.index],
            mode="lines+markers",
            name=f"{lead} ahead",
            line_color=_colour(number),
        )
    figure.update_xaxes(title="demand missed, percent").update_yaxes(title="replica-hours")
    return _laid_out(figure, "What a promise costs: the same promise is dearer further ahead")


def _colour(number: int) -> str:
    from plotly.colors import qualitative

    return str(qualitative.D3[number % len(qualitative.D3)])


def _laid_out(figure: Any, title: str, height: int = 380) -> Any:
    return figure.update_layout(title=title, template="plotly_white", height=height, margin={"t": 60, "b": 50})


def _times(start: datetime, step: timedelta, n_steps: int) -> list[datetime]:
    return [start + i * step for i in range(n_steps)]
