"""How good an endpoint's method lately was: what stands on a stored model's card.

Scored on what came, issued from the past as it looked at each origin: an outage was not yet told from silence then
(forecaster.backtest). `auto` keeps a ledger of what its members said, so its scores are those of what it would have
published; on the first fit of an endpoint, which forecasts the days before it after the event, the members see what
was broken in them as the fit does. Any other method is fitted once more without the last day and scored on that day.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import numpy as np

from forecaster.auto import FittedAuto
from forecaster.backtest import BacktestResult, backtest, seen_alike
from forecaster.calendar import IntArray
from forecaster.errors import ShortHistory
from forecaster.forecast import DEFAULT_LEVELS
from forecaster.forecaster import FittedModel, panel_of
from forecaster.panel import LOOK_AHEAD, Panel
from forecaster.series import DemandSeries

Scores = Mapping[str, Any]
"""By lead in seconds: WQL, MASE, mean of the PIT and coverage with its band, see backtest.BacktestResult.scores."""

EVERY = timedelta(minutes=30)
LEDGER_SHOWN = timedelta(days=3)
HELD_OUT = timedelta(days=1)
HELD_OUT_LEADS = (timedelta(minutes=10), timedelta(hours=1), timedelta(hours=6))


def scores_of(models: Sequence[FittedModel], series_by_key: Mapping[str, DemandSeries]) -> list[Scores]:
    """The scores of each model, which were fitted on these series by one method; {} where there is too little past."""
    methods = {model.method for model in models}
    if len(methods) > 1 or (methods == {"auto"} and len(models) > 1):
        return [scores_of([model], {model.key: series_by_key[model.key]})[0] for model in models]
    series = {model.key: series_by_key[model.key] for model in models}
    told = _ledger_told(models[0], series) if methods == {"auto"} else _held_out(models[0], series)
    if told is None:
        return [{} for _ in models]
    by_key = cast(dict[str, Scores], told.scores()["endpoints"])
    return [by_key[model.key] for model in models]


def _held_out(model: FittedModel, series: Mapping[str, DemandSeries]) -> BacktestResult | None:
    """The last day as the model's method, fitted before it, forecasts it; None if that is too little to fit."""
    panel = Panel.of(series)
    held_out = max(panel.steps(HELD_OUT), 2)  # at least one bin ends a lead later
    leads = sorted({panel.steps(lead) * panel.step for lead in HELD_OUT_LEADS})
    if leads[-1] > LOOK_AHEAD:  # in bins as long as that no lead is backtested
        return None
    try:
        return backtest(
            series,
            leads=leads,
            warmup=(panel.n_steps - held_out) * panel.step,
            every=panel.steps(EVERY) * panel.step,
            method=model.method,
            calendar=model.calendar,
            refit=(held_out + 1) * panel.step,  # one fit serves all origins, that at the end too
        )
    except ShortHistory:
        return None


def _ledger_told(model: FittedModel, series: Mapping[str, DemandSeries]) -> BacktestResult | None:
    """What `auto` published at the ledger's origins of the last days; None without any."""
    learnt = cast(FittedAuto, model.learnt)
    panel, cleared = Panel.of(series, model.calendar), panel_of(series, model.calendar)
    origins, leads = _of_ledger(learnt, panel), learnt.ledger.steps_ahead
    if len(origins) == 0:
        return None
    levels = np.array(DEFAULT_LEVELS)
    told = []
    for alike, past in seen_alike(panel, cleared, series, origins):
        # Nothing that is told at an origin reads the bins after it; the ledger goes on to the end of the panel.
        values = np.concatenate([past.values, cleared.values[:, past.n_steps :]], axis=1)
        told.append(learnt.quantiles(replace(cleared, values=values), alike, leads, levels))
    targets = origins[:, None] + leads
    factors = model.calendar.factors(panel.start, panel.step, int(targets.max()) + 1)
    known = targets < panel.n_steps
    return BacktestResult(
        method=model.method,
        keys=panel.keys,
        start=panel.start,
        step=panel.step,
        origins=origins,
        steps_ahead=leads,
        levels=levels,
        quantiles=np.concatenate(told, axis=1) * factors[targets][:, :, None],
        actual=np.where(known, panel.values[:, np.minimum(targets, panel.n_steps - 1)], np.nan),
        history=panel.values,
        is_rate=model.unit.is_rate,
    )


def _of_ledger(learnt: FittedAuto, panel: Panel) -> IntArray:
    """The ledger's origins of the last days as bins of the panel."""
    made = np.round((learnt.ledger.made - panel.start.timestamp()) / panel.step_seconds).astype(np.int64)
    return made[made >= max(panel.n_steps - panel.steps(LEDGER_SHOWN), 1)]
