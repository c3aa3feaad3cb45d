"""What the notebooks show: tables and plotly figures of a history, its forecasts and their price."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from forecaster.backtest import BacktestResult, backtest
from forecaster.forecast import DemandForecast
from forecaster.scoring import pit
from forecaster.series import DemandSeries
from scaler.app.histories import History, read_histories

SAMPLE_START = datetime(2026, 3, 2, tzinfo=UTC)
SAMPLE_STEP = timedelta(minutes=10)
BANDS = ((0.1, 0.99), (0.1, 0.9))


def histories_to_inspect(environment: Mapping[str, str] | None = None) -> Mapping[str, History]:
    """`namespace/name` -> history: the trace file named by HEADSTART_TRACE, else the endpoints of the policies in
    HEADSTART_POLICIES from the metrics server at HEADSTART_PROMETHEUS_URL, else a generated sample of
    HEADSTART_SAMPLE_DAYS (default 10) days."""
    told = os.environ if environment is None else environment
    if told.get("HEADSTART_TRACE"):
        return read_histories(trace=Path(told["HEADSTART_TRACE"]), policies=None, prometheus_url=None)
    if told.get("HEADSTART_PROMETHEUS_URL"):
        policies = Path(told.get("HEADSTART_POLICIES", "policies"))
        return read_histories(trace=None, policies=policies, prometheus_url=told["HEADSTART_PROMETHEUS_URL"])
    return _sample(int(told.get("HEADSTART_SAMPLE_DAYS", "10")))


def _sample(n_days: int) -> Mapping[str, History]:
    from forecaster.calendar import DemandCalendar
    from scaler.app.demo.traffic import KINDS, generate

    kind = next(iter(KINDS))
    series = generate(kind, seed=7, start=SAMPLE_START, days=n_days).resampled(SAMPLE_STEP)
    return {f"sample/{kind}": History(series=series, calendar=DemandCalendar())}


def compare(
    series: DemandSeries, methods: Sequence[str], leads: Sequence[timedelta], warmup: timedelta
) -> dict[str, BacktestResult]:
    """A backtest of each method over the same origins, by name."""
    return {
        method: backtest({"endpoint": series}, leads=leads, warmup=warmup, method=method, every=timedelta(hours=1))
        for method in methods
    }


def score_table(results: Mapping[str, BacktestResult]) -> pd.DataFrame:
    """One row a method and lead: WQL, MASE of the median, coverage of the .9 and .99 quantiles."""
    rows = []
    for method, result in results.items():
        scores: Any = result.scores()
        for lead, told in scores["endpoints"]["endpoint"].items():
            rows.append(
                {
                    "method": method,
                    "lead": lead,
                    "WQL": told["wql"],
                    "MASE": told["mase"],
                    "at or below q0.9": told["coverage"]["0.9"]["at_most"],
                    "at or below q0.99": told["coverage"]["0.99"]["at_most"],
                }
            )
    return pd.DataFrame(rows).set_index(["lead", "method"]).sort_index()


def price_table(result: BacktestResult, demand_per_replica: float, price_of_missed_unit: float) -> pd.DataFrame:
    """One row a lead and level: replica-hours of holding that quantile, demand above it, and both in one price."""
    scores: Any = result.scores(demand_per_replica=demand_per_replica)
    rows = [
        {
            "lead": lead,
            "quantile": float(level),
            "replica hours": loss["replica_hours"],
            "missed requests": loss["missed_demand"],
            "price": loss["replica_hours"] + price_of_missed_unit * loss["missed_demand"],
        }
        for lead, told in scores["endpoints"]["endpoint"].items()
        for level, loss in told["decision_loss"].items()
    ]
    return pd.DataFrame(rows).set_index(["lead", "quantile"])


def forecast_figure(series: DemandSeries, forecast: DemandForecast, days_shown: float = 3.0) -> Any:
    """Demand of the last days, the forecast's median and its bands."""
    import plotly.graph_objects as go

    shown = series.since(forecast.start - timedelta(days=days_shown))
    figure = go.Figure()
    figure.add_scatter(x=_times(shown.start, shown.step, len(shown)), y=shown.values, name="demand", line_color="#444")
    ahead = _times(forecast.start, forecast.step, len(forecast))
    for low, high in BANDS:
        figure.add_scatter(x=ahead, y=forecast.at_level(low), line_width=0, showlegend=False)
        figure.add_scatter(
            x=ahead,
            y=forecast.at_level(high),
            fill="tonexty",
            line_width=0,
            name=f"{low:g} to {high:g}",
            fillcolor="rgba(31,119,180,0.2)",
        )
    figure.add_scatter(x=ahead, y=forecast.at_level(0.5), name="median", line_color="#1f77b4")
    return figure.update_layout(yaxis_title=f"{series.unit.value} per second", template="plotly_white")


def pit_figure(result: BacktestResult, lead_index: int) -> Any:
    """The histogram of the level at which outcomes fell: flat if the quantiles are right, in ten bins."""
    import plotly.graph_objects as go

    actual = result.actual[0, :, lead_index]
    seen = np.isfinite(actual)
    fell_at = pit(actual[seen], result.quantiles[0, seen, lead_index], result.levels)
    share, edges = np.histogram(fell_at, bins=10, range=(0.0, 1.0))
    figure = go.Figure(go.Bar(x=edges[:-1] + 0.05, y=share / max(seen.sum(), 1), width=0.1))
    figure.add_hline(y=0.1, line_dash="dash")
    return figure.update_layout(xaxis_title="level at which demand fell", yaxis_title="share", template="plotly_white")


def price_figure(table: pd.DataFrame) -> Any:
    """Price against the quantile that is held, one line a lead."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for lead, rows in table.groupby(level="lead"):
        figure.add_scatter(x=rows.index.get_level_values("quantile"), y=rows["price"], name=str(lead))
    return figure.update_layout(
        xaxis_title="quantile held", yaxis_title="price in replica-hours", template="plotly_white"
    )


def _times(start: datetime, step: timedelta, n_steps: int) -> list[datetime]:
    return [start + i * step for i in range(n_steps)]
