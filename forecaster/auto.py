"""`auto`: the weighted, calibrated pool of methods.

All members forecast; a ledger keeps what they said at past origins and what came; each counts by how well it lately
did at that lead for that endpoint (selection.py); the weighted mean of their quantiles is shifted until it covers what
it says (calibration.py). Members are fitted anew each day; weights and offsets move with every outcome, without any
refit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecaster.calendar import IntArray
from forecaster.calibration import (
    AlarmRule,
    Published,
    TrackingRule,
    alarmed,
    on_lattice,
    spread,
    tracked_offsets,
)
from forecaster.errors import ShortHistory, StoreError
from forecaster.ledger import Ledger, ahead_hours, bins_of, digest, empty_ledger, outcomes
from forecaster.levelchange import believing, level_change, wider_above
from forecaster.methods.base import Arrays, FittedMethod
from forecaster.methods.registry import METHODS
from forecaster.methods.residual import interpolate_leads, typical_demand
from forecaster.panel import Panel
from forecaster.selection import (
    OperatingPoint,
    WeightRule,
    known_losses,
    mean_pinball,
    method_weights,
    told_sooner,
    vincentised,
)
from forecaster.series import FloatArray
from forecaster.width import HALF_LIFE, stretch_factors, stretch_losses, stretched

POOL = (
    "persistence",
    "moving_mean",
    "seasonal_naive_day",
    "seasonal_naive_week",
    "same_day_type",
    "same_weekday",
    "climate_bent",
    "climate_scaled",
    "climate_moved",
    "recent",
    "analogues_level",
    "analogues_change",
    "analogues_profile",
)
POOL_LEVELS = np.array([0.1, 0.5, 0.8, 0.9, 0.95, 0.99])
LEDGER_EVERY = timedelta(minutes=30)
LEDGER_SPAN = timedelta(days=14)
MEMBERS_LIVE = timedelta(days=1)  # members are kept that long before they are fitted anew, and longer
SHARE_UNSEEN = 14  # while what they have not seen is less than one part in fourteen of the history
FIRST_HISTORY = timedelta(days=2)  # a member must have seen two days before its forecasts enter the ledger
CHECKPOINTS = 3  # days of the past that are forecast when there is no ledger yet
FEW_REQUESTS = 30.0
ALARM_LASTS = timedelta(hours=24)
ALARM_LEAD = timedelta(hours=1)
FRESH_LEAD = timedelta(hours=1)
TOLD_PRIOR = 0.8  # trust in a new level before any change of level was seen to last or not
TOLD_RULE = WeightRule(sharpness=5.0, half_life_days=7.0, prior_forecasts=3.0)
MANY_LEADS = 40
PATH_MINUTES = 15


@dataclass(frozen=True)
class Auto:
    """The pool as a method."""

    name: str = "auto"
    members: tuple[str, ...] = POOL
    prior: tuple[float, ...] = ()
    """Weights of the members while little is known of an endpoint, such as fleet_prior gives; () for equal ones."""
    weight_rule: WeightRule = field(default_factory=WeightRule)
    tracking_rule: TrackingRule = field(default_factory=TrackingRule)
    operating: OperatingPoint | None = None
    """With it members are weighed by what replicas held at that quantile would have cost and missed, not by the pinball
    loss of all levels."""

    def losses(self, actual: FloatArray, quantiles: FloatArray) -> FloatArray:
        """What weights follow: (..., n_methods) from outcomes (...) and quantiles (..., n_methods, n_levels)."""
        if self.operating is None:
            return mean_pinball(actual, quantiles, POOL_LEVELS)
        return self.operating.losses(actual, quantiles, POOL_LEVELS)

    def fit(self, panel: Panel, steps_ahead: IntArray, previous: FittedMethod | None = None) -> "FittedAuto":
        """Fit the members and forecast the last days with members fitted before them, to have a ledger.

        `previous` is what was fitted on an earlier end of the same histories for the same leads: its ledger is carried
        on, and its members too while they are younger than MEMBERS_LIVE.
        """
        leads = np.unique(steps_ahead)
        if isinstance(previous, FittedAuto) and np.array_equal(previous.ledger.steps_ahead, leads):
            ledger = previous.ledger_until(panel, panel.n_steps)
            if panel.end - previous.fitted_until < max(MEMBERS_LIVE, (panel.end - panel.start) / SHARE_UNSEEN):
                return replace(previous, ledger=ledger, lattice=_lattice(panel), _longest=[])
        else:
            ledger = self._first_ledger(panel, leads)
        return FittedAuto(
            method=self,
            members=self._fit_members(panel, leads),
            fitted_until=panel.end,
            ledger=ledger,
            lattice=_lattice(panel),
        )

    def restore(self, arrays: Arrays) -> "FittedAuto":
        try:
            ledger = Ledger(
                made=arrays["ledger.made"],
                steps_ahead=arrays["ledger.steps_ahead"],
                quantiles=arrays["ledger.quantiles"].astype(np.float64),
                told=arrays["ledger.told"].astype(np.float64),
                actual=arrays["ledger.actual"],
            )
            names = [str(name) for name in arrays["members"]]
            fitted_until = datetime.fromtimestamp(float(arrays["fitted_until"]), UTC)
        except KeyError as error:
            raise StoreError(f"auto: stored arrays lack {error}") from error
        members: dict[str, FittedMethod] = {}
        for name in names:
            own = {key.removeprefix(f"{name}."): value for key, value in arrays.items() if key.startswith(f"{name}.")}
            members[name] = METHODS[name].restore(own)
        return FittedAuto(
            method=replace(self, members=tuple(arrays["pool"].tolist()), prior=tuple(arrays["prior"].tolist())),
            members=members,
            fitted_until=fitted_until,
            ledger=ledger,
            lattice=arrays["lattice"],
        )

    def _fit_members(self, panel: Panel, leads: IntArray) -> dict[str, FittedMethod]:
        members = {}
        for name in self.members:
            try:
                members[name] = METHODS[name].fit(panel, leads)
            except ShortHistory:
                continue  # it joins when the history is long enough
        return members

    def _first_ledger(self, panel: Panel, leads: IntArray) -> Ledger:
        """Forecasts of the last days, each by members that had seen only what lay before that day."""
        day, first = panel.steps(timedelta(days=1)), panel.steps(FIRST_HISTORY)
        checkpoints = [panel.n_steps - i * day for i in range(CHECKPOINTS, 0, -1) if panel.n_steps - i * day >= first]
        ledger = empty_ledger(panel, leads, len(self.members), len(POOL_LEVELS))
        for checkpoint in checkpoints:
            known = panel.until(checkpoint)
            fitted = FittedAuto(
                method=self,
                members=self._fit_members(known, leads),
                fitted_until=known.end,
                ledger=ledger,
                lattice=_lattice(known),
            )
            ledger = fitted.ledger_until(panel, min(checkpoint + day, panel.n_steps))
        return ledger


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedAuto:
    """Fitted members and the ledger of what they said so far."""

    method: Auto
    members: dict[str, FittedMethod]
    fitted_until: datetime
    ledger: Ledger
    lattice: FloatArray
    """(n_series,): demand of one whole request per bin where demand is small and comes in whole requests, else NaN."""
    _longest: list[tuple[int, Ledger]] = field(default_factory=list, repr=False)
    """The longest ledger worked out so far, with the digest of the history behind it: saves work, changes nothing."""

    def arrays(self) -> Arrays:
        stored: Arrays = {
            "ledger.made": self.ledger.made,
            "ledger.steps_ahead": self.ledger.steps_ahead,
            "ledger.quantiles": self.ledger.quantiles.astype(np.float32),
            "ledger.told": self.ledger.told.astype(np.float32),
            "ledger.actual": self.ledger.actual,
            "pool": np.array(self.method.members),
            "prior": np.array(self.method.prior),
            "members": np.array(list(self.members)),
            "lattice": self.lattice,
            "fitted_until": np.array(self.fitted_until.timestamp()),
        }
        for name, member in self.members.items():
            stored |= {f"{name}.{key}": value for key, value in member.arrays().items()}
        return stored

    def summary(self, step_seconds: float) -> dict[str, dict[str, Any]]:
        """By lead in seconds: the members' weights at the end of the ledger (mean over series) and how many outcomes
        stand behind them."""
        if len(self.ledger.made) == 0:
            return {}
        made = np.round(self.ledger.made / step_seconds).astype(np.int64)
        ended = made[:, None] + self.ledger.steps_ahead + 1
        losses = self.method.losses(self.ledger.actual, self.ledger.quantiles)
        rule = self.method.weight_rule
        sums = known_losses(losses, made, ended, made[-1:] + 1, rule.half_life_days * 86_400 / step_seconds)
        now = method_weights(sums, rule, sooner=told_sooner(self.ledger.steps_ahead)).mean(axis=(0, 1))
        return {
            f"{k * step_seconds:g}s": {
                "weights": {name: round(float(w), 4) for name, w in zip(self.method.members, now[i], strict=True)},
                "n_outcomes": int(np.isfinite(self.ledger.actual[:, :, i]).sum()),
            }
            for i, k in enumerate(self.ledger.steps_ahead)
        }

    def ledger_until(self, panel: Panel, n_steps: int) -> Ledger:
        """The ledger with the members' forecasts at every LEDGER_EVERY since its end, up to bin `n_steps` of the panel
        (not included), and the outcomes that the panel knows."""
        stride = panel.steps(LEDGER_EVERY)
        start = panel.start.timestamp()
        known = self._known_ledger(panel, n_steps)
        after = max(self.fitted_until.timestamp(), known.made[-1] + 1.0 if len(known.made) else 0.0)
        first = max(int(np.ceil((after - start) / panel.step_seconds - 1e-9)), 1)
        phase = round(start / panel.step_seconds)
        first += (-(first + phase)) % stride  # the same moments of the day whatever the history's start
        origins = np.arange(first, n_steps, stride, dtype=np.int64)
        keep_from = start + n_steps * panel.step_seconds - LEDGER_SPAN.total_seconds()
        leads = self.ledger.steps_ahead
        newer = empty_ledger(panel, leads, len(self.method.members), len(POOL_LEVELS))
        if len(origins):
            said = self._said(panel, origins, leads)
            made = np.asarray(start + origins * panel.step_seconds, dtype=np.float64)
            newer = Ledger(
                made=made,
                steps_ahead=leads,
                quantiles=said,
                told=self._told(panel, origins, leads),
                actual=np.full(said.shape[:3], np.nan),
            )
        ledger = known.extended(newer, keep_from)
        ledger = replace(ledger, actual=outcomes(panel, ledger))
        if len(ledger.made):
            self._longest[:] = [(digest(panel, float(ledger.made[-1])), ledger)]
        return ledger

    def _known_ledger(self, panel: Panel, n_steps: int) -> Ledger:
        """The longest ledger worked out before from the same history and not beyond bin `n_steps`, else the fitted
        one."""
        for checksum, ledger in self._longest:
            last = float(ledger.made[-1])
            if last < panel.start.timestamp() + n_steps * panel.step_seconds and checksum == digest(panel, last):
                return ledger
        return self.ledger

    def _said(self, panel: Panel, origins: IntArray, steps_ahead: IntArray) -> FloatArray:
        """What each member says, (n_series, n_origins, n_leads, n_members, n_levels)."""
        shape = (panel.n_series, len(origins), len(steps_ahead), len(self.method.members), len(POOL_LEVELS))
        said = np.full(shape, np.nan)
        for m, name in enumerate(self.method.members):
            if name in self.members:
                said[..., m, :] = self.members[name].quantiles(panel, origins, steps_ahead, POOL_LEVELS)
        return said

    def _weights(self, panel: Panel, ledger: Ledger, origins: IntArray) -> FloatArray:
        """The weights in force at each origin, (n_series, n_origins, n_ledger_leads, n_members)."""
        made, ended = bins_of(panel, ledger)
        losses = self.method.losses(ledger.actual, ledger.quantiles)
        rule = self.method.weight_rule
        prior = np.array(self.method.prior) if self.method.prior else None
        fresh = self._fresh(panel, ledger, losses, origins, rule.fresh_reach_hours)
        half_life = rule.half_life_days * 86_400 / panel.step_seconds
        sums = known_losses(losses, made, ended, origins, half_life)
        return method_weights(sums, rule, prior, fresh, told_sooner(ledger.steps_ahead))

    def _fresh(
        self, panel: Panel, ledger: Ledger, losses: FloatArray, origins: IntArray, reach_hours: float
    ) -> FloatArray:
        """The sums of known_losses at about FRESH_LEAD, quickly forgotten, for every longer lead, where they count for
        exp(-lead / reach); 0 for the others."""
        made, ended = bins_of(panel, ledger)
        near = int(np.argmin(np.abs(np.log1p(ledger.steps_ahead) - np.log1p(panel.steps(FRESH_LEAD)))))
        half_life = self.method.weight_rule.fresh_half_life_days * 86_400 / panel.step_seconds
        sums = known_losses(losses[:, :, [near]], made, ended[:, [near]], origins, half_life)
        says = np.exp(-ahead_hours(panel, ledger.steps_ahead) / reach_hours)
        return np.asarray(sums * np.where(ledger.steps_ahead > ledger.steps_ahead[near], says, 0.0)[:, None])

    def quantiles(self, panel: Panel, origins: IntArray, steps_ahead: IntArray, levels: FloatArray) -> FloatArray:
        path = path_leads(panel, steps_ahead)
        ledger = self.ledger_until(panel, int(origins.max()) + 1)
        leads = ledger.steps_ahead
        made, _ = bins_of(panel, ledger)
        when = np.unique(np.concatenate([made, origins]))
        of_past, asked = np.searchsorted(when, made), np.searchsorted(when, origins)
        weights = self._weights(panel, ledger, when)
        plain = vincentised(ledger.quantiles, weights[:, of_past])
        trust = self._trust_in_told(panel, ledger, plain, when)[..., None]
        past = self._mixed(panel, ledger, plain, trust[:, of_past])
        factors = self._factors(panel, past, when)
        past = replace(past, quantiles=stretched(past.quantiles, POOL_LEVELS, factors[:, of_past]))
        if np.array_equal(path, leads) and np.isin(origins, made).all():
            at = np.searchsorted(made, origins)
            said, told = ledger.quantiles[:, at], ledger.told[:, at]
        else:
            said, told = self._said(panel, origins, path), self._told(panel, origins, path)
        mixed = believing(
            vincentised(said, interpolate_leads(weights[:, asked], leads, path)),
            told,
            interpolate_leads(trust[:, asked], leads, path),
        )
        alarms = self._alarms(panel, past, when)
        offsets = tracked_offsets(past, POOL_LEVELS, self.method.tracking_rule, when, alarms)
        offsets = interpolate_leads(offsets[:, asked], leads, path)
        unit = _unit(panel, origins)
        root = np.sqrt(np.maximum(mixed, 0.0) / unit)
        root = stretched(root, POOL_LEVELS, interpolate_leads(factors[:, asked], leads, path))
        root = root + offsets * spread(root, POOL_LEVELS)
        changed = alarms[:, asked] & np.isfinite(told).any(axis=(2, 3))
        root = wider_above(root, POOL_LEVELS, changed, ahead_hours(panel, path))
        calibrated = np.sort(np.maximum(root, 0.0) ** 2 * unit, axis=-1)
        if len(path) != len(steps_ahead):
            calibrated = _along(calibrated, path, steps_ahead)
        return on_lattice(at_levels(calibrated, POOL_LEVELS, levels), self.lattice)

    def _mixed(self, panel: Panel, ledger: Ledger, plain: FloatArray, trust: FloatArray) -> Published:
        """What was published at the ledger's origins, but for its stretching and the offsets."""
        made, ended = bins_of(panel, ledger)
        unit = _unit(panel, made) if len(made) else np.ones((panel.n_series, 0, 1, 1))
        mixed = believing(plain, ledger.told, trust)
        return Published(
            quantiles=np.sqrt(np.maximum(mixed, 0.0) / unit),
            actual=np.sqrt(ledger.actual / unit[..., 0]),
            unit=unit,
            made=made,
            ended=ended,
            lattice=self.lattice,
        )

    def _told(self, panel: Panel, origins: IntArray, steps_ahead: IntArray) -> FloatArray:
        """What the members say, equally weighed, if the past before a plain change of level had been at the new level,
        which turns a shifted season into a season again. (n_series, n_origins, n_leads, n_levels), NaN elsewhere.

        Demand that fell on free days comes back with the working day: a lower level is not told of that one."""
        factors, since = level_change(panel, origins)
        out = np.full((panel.n_series, len(origins), len(steps_ahead), len(POOL_LEVELS)), np.nan)
        for i in np.flatnonzero((factors != 1.0).any(axis=0)):
            values = panel.values[:, : int(origins[i])].copy()
            changed = np.flatnonzero(factors[:, i] != 1.0)
            for s in changed:
                values[s, : since[s, i]] *= factors[s, i]
            said = self._said(replace(panel, values=values), origins[i : i + 1], steps_ahead)[changed]
            out[changed, i] = vincentised(said, np.ones(said.shape[:-1]))[:, 0]
        free = panel.free_days
        back_at_work = ~free[np.minimum(origins[:, None] + steps_ahead, len(free) - 1)]
        fell_free = (factors < 1.0) & free[np.maximum(origins - 1, 0)] & free[np.minimum(since, origins - 1)]
        return np.where((fell_free[..., None] & back_at_work)[..., None], np.nan, out)

    def _trust_in_told(self, panel: Panel, ledger: Ledger, plain: FloatArray, origins: IntArray) -> FloatArray:
        """The share of what is told at a new level beside what the members say plainly, from how both did where the
        level had changed before, (n_series, n_origins, n_ledger_leads)."""
        made, ended = bins_of(panel, ledger)
        both = np.stack([plain, ledger.told], axis=-2)
        told = np.asarray(np.isfinite(ledger.told).all(axis=-1))
        both = np.where(told[..., None, None], both, np.nan)
        losses = mean_pinball(ledger.actual, both, POOL_LEVELS)
        day = 86_400 / panel.step_seconds
        sums = known_losses(losses, made, ended, origins, TOLD_RULE.half_life_days * day)
        # Whether a change of level is one, an hour tells for a day as well.
        fresh = self._fresh(panel, ledger, losses, origins, reach_hours=np.inf)
        return method_weights(sums, TOLD_RULE, np.array([1.0 - TOLD_PRIOR, TOLD_PRIOR]), fresh)[..., 1]

    def _factors(self, panel: Panel, mixed: Published, when: IntArray) -> FloatArray:
        """How far the spread is stretched at each bin of `when`, (n_series, n_when, n_ledger_leads, 1)."""
        losses = stretch_losses(mixed.quantiles, mixed.actual, mixed.unit, POOL_LEVELS)
        half_life = HALF_LIFE.total_seconds() / panel.step_seconds
        return stretch_factors(losses, mixed.made, mixed.ended, when, half_life)

    def _alarms(self, panel: Panel, past: Published, when: IntArray) -> NDArray[np.bool_]:
        """Whether demand has left its regime at each bin of `when`, (n_series, n_when)."""
        lasts, lead = panel.steps(ALARM_LASTS), panel.steps(ALARM_LEAD)
        return alarmed(past, POOL_LEVELS, AlarmRule(), when, lasts, lead)


def fleet_prior(fitted: Sequence[FittedAuto], step_seconds: float) -> tuple[float, ...]:
    """The mean weight of each member over fitted endpoints and their leads: the prior for a new endpoint like them.

    () without any. All have the same members.
    """
    weights = [list(lead["weights"].values()) for model in fitted for lead in model.summary(step_seconds).values()]
    return tuple(np.mean(weights, axis=0).tolist()) if weights else ()


def _lattice(panel: Panel) -> FloatArray:
    """Series of few whole requests per bin: rounding matters there, and beyond FEW_REQUESTS it does not."""
    one = 1.0 / panel.step_seconds
    counts = panel.values / one
    seen = np.isfinite(counts)
    whole = (np.abs(np.where(seen, counts - np.rint(counts), 0.0)) < 1e-6).all(axis=1)
    few = np.where(seen, counts, 0.0).sum(axis=1) < FEW_REQUESTS * np.maximum(seen.sum(axis=1), 1)
    return np.where(whole & few & seen.any(axis=1), one, np.nan)


def _unit(panel: Panel, bins: IntArray) -> FloatArray:
    """Typical demand, the unit of the tracking scale, (n_series, n_origins, 1, 1)."""
    unit = typical_demand(panel, np.maximum(bins, 1))[..., None, None]
    return np.where(np.isnan(unit), 1.0, unit)


def path_leads(panel: Panel, steps_ahead: IntArray) -> IntArray:
    """The leads at which a long path is computed: dense at first, then every quarter of an hour; few are all taken."""
    if len(steps_ahead) <= MANY_LEADS:
        return steps_ahead
    wide = panel.steps(timedelta(minutes=PATH_MINUTES))
    near = np.unique(np.round(np.geomspace(1, 4 * wide, 16)).astype(np.int64))
    last = int(steps_ahead.max())
    grid = np.unique(np.concatenate([near, np.arange(4 * wide, last, wide), [int(steps_ahead.min()), last]]))
    return np.asarray(grid[(grid >= steps_ahead.min()) & (grid <= last)], dtype=np.int64)


def _along(values: FloatArray, path: IntArray, steps_ahead: IntArray) -> FloatArray:
    """`values` (n_series, n_origins, n_path, n_levels) linear in time at `steps_ahead`."""
    right = np.clip(np.searchsorted(path, steps_ahead), 1, len(path) - 1)
    share = ((steps_ahead - path[right - 1]) / (path[right] - path[right - 1]))[:, None]
    return np.asarray(values[:, :, right - 1] * (1.0 - share) + values[:, :, right] * share)


def at_levels(values: FloatArray, own: FloatArray, asked: FloatArray) -> FloatArray:
    """Quantiles at other levels: linear in the normal score between, and beyond the outermost with the slope of the two
    outer levels (an exponential tail would be heavier than normal by little up to .999). Never below zero, never
    crossing."""
    if np.array_equal(own, asked):
        return values
    score = np.array([NormalDist().inv_cdf(float(level)) for level in own])
    at = np.array([NormalDist().inv_cdf(float(level)) for level in asked])
    right = np.clip(np.searchsorted(score, at), 1, len(score) - 1)
    share = (at - score[right - 1]) / (score[right] - score[right - 1])
    mixed = values[..., right - 1] * (1.0 - share) + values[..., right] * share
    return np.asarray(np.maximum.accumulate(np.maximum(mixed, 0.0), axis=-1))
