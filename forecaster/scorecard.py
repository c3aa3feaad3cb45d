"""How good an endpoint's method lately was: what stands on a stored model's card.

`auto` keeps a ledger of what it said, so its scores are those of what it would have published; any other method is
fitted once more without the last day and scored on that day.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, cast

import numpy as np

from forecaster.auto import FittedAuto
from forecaster.backtest import BacktestResult
from forecaster.calendar import IntArray
from forecaster.catalogue import method_named
from forecaster.errors import ShortHistory
from forecaster.forecast import DEFAULT_LEVELS
from forecaster.forecaster import FittedModel, panel_of
from forecaster.methods.base import FittedMethod
from forecaster.panel import Panel
from forecaster.repair import repaired
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
    clean = {model.key: repaired(series_by_key[model.key]).series for model in models}
    panel = panel_of(clean, models[0].calendar)
    learnt = models[0].learnt
    if isinstance(learnt, FittedAuto):
        origins, leads = _of_ledger(learnt, panel), learnt.ledger.steps_ahead
    else:
        first = panel.n_steps - panel.steps(HELD_OUT)
        origins = np.arange(first, panel.n_steps, panel.steps(EVERY), dtype=np.int64)
        leads = np.unique([panel.steps(lead) for lead in HELD_OUT_LEADS]).astype(np.int64)
        try:
            learnt = method_named(models[0].method).fit(panel.until(max(first, 0)), leads)
        except ShortHistory:
            return [{} for _ in models]
    if len(origins) == 0 or origins[0] < 1:
        return [{} for _ in models]
    told = _issued(models[0], learnt, panel, origins, leads).scores()
    by_key = cast(dict[str, Scores], told["endpoints"])
    return [by_key[model.key] for model in models]


def _of_ledger(learnt: FittedAuto, panel: Panel) -> IntArray:
    """The ledger's origins of the last days as bins of the panel."""
    made = np.round((learnt.ledger.made - panel.start.timestamp()) / panel.step_seconds).astype(np.int64)
    return made[made >= max(panel.n_steps - panel.steps(LEDGER_SHOWN), 1)]


def _issued(
    model: FittedModel, learnt: FittedMethod, panel: Panel, origins: IntArray, leads: IntArray
) -> BacktestResult:
    levels = np.array(DEFAULT_LEVELS)
    targets = origins[:, None] + leads
    known = targets < panel.n_steps
    return BacktestResult(
        method=model.method,
        keys=panel.keys,
        start=panel.start,
        step=panel.step,
        origins=origins,
        steps_ahead=leads,
        levels=levels,
        quantiles=learnt.quantiles(panel, origins, leads, levels),
        actual=np.where(known, panel.values[:, np.minimum(targets, panel.n_steps - 1)], np.nan),
        history=panel.values,
        is_rate=model.unit.is_rate,
    )
