"""Is the forecast still about this demand? Watched from two sides, turn by turn.

outcome    e-processes on what came one lead later: demand above the upper quantiles too often, or the median asking
           for replicas that demand did not need. An alarm bars forecast settings for two days.
oddness    e-process on what the forecast says beside the demand of the moment, ranked among the endpoint's own last
           week. It needs no outcome, so it sees a broken forecast in the turn in which it breaks: at once the turn is
           played cautiously (whichever of plan and shadow asks for more), and an alarm bars forecast settings.

If the true rate of an event is at most `tolerated`, the product of (1 + stake x (1{event} - tolerated)) is a
non-negative supermartingale, so it ever exceeds 1 / alpha with probability at most alpha (Ville's inequality), whenever
one looks. It never falls below 1 here (e-detector: Shin, Ramdas, Rinaldo 2023), so that a long good past does not
postpone the alarm: false alarms are then at least 1 / alpha samples apart on average. Samples are one lead and a minute
apart, so that their outcomes do not overlap.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from forecaster.leadfeatures import DAY_SECONDS, MINUTE_SECONDS
from forecaster.series import FloatArray
from scaler.core import rule
from scaler.simulator.compiled import Rules
from scaler.simulator.selfreplay.rows import RowMaker


class Bet(NamedTuple):
    """The rate of an event that is no surprise yet, and the stake against that."""

    tolerated: float
    stake: float


ALPHA = 5e-4
"""Of each of the four bets. Samples are some minutes apart: less than one false alarm in a day and a half by the bound,
fewer seen."""
ABOVE = ((0.95, Bet(0.15, 3.0)), (0.998, Bet(0.02, 15.0)))
"""Live coverage lies between .88 and .97, and above .993, on recorded endpoints. The stakes grow fastest when a half
and a sixth of the samples are above: a forecast that went blind raises the alarm after three samples."""
TOO_MUCH = Bet(0.6, 1.6)
"""The median asked for more replicas than demand needed: rarely in half of the samples when it is sound."""
ODD_FRACTION, ODD = 1 / 200, Bet(0.05, 15.0)
"""The oddest half percent of last week may come ten times as often this week; three odd samples in a row raise the
alarm."""
ODD_DAYS, LEAST_ODD_DAYS = 7, 1
UPPER_LEVEL, MIDDLE_LEVEL = 0.95, 0.5
SURPRISED_HOURS = 48.0
"""Two days without an alarm before forecasts are trusted again: a sound forecast hardly ever raises one, a broken one
every hour."""
ODD_HOURS = 2.0
"""As long as it stays odd the alarm is renewed every ten minutes; a regime that is new but forecast well comes back."""
CAUTIOUS_STARTUPS = 2
"""After an odd turn: one start-up time until what was ordered serves, one more in which the next one is judged."""


class Stance(IntEnum):
    """Whose setting plays: the plan's; whichever of plan and shadow asks for more; the shadow's."""

    TRUSTED = 0
    CAUTIOUS = 1
    ODD = 2
    SURPRISED = 3


WHY_BARRED = {
    Stance.TRUSTED: "",
    Stance.CAUTIOUS: "",
    Stance.ODD: "the forecast is unlike any of the last week",
    Stance.SURPRISED: "demand left the forecast's band more often than chance explains",
}


@dataclass
class Evidence:
    """Mutable: one `see` per sample. `value` >= 1."""

    bet: Bet
    value: float = 1.0

    def see(self, happened: bool) -> bool:
        """Take one sample in; True when it raises the alarm (and the evidence starts anew)."""
        self.value = max(1.0, self.value * (1.0 + self.bet.stake * (happened - self.bet.tolerated)))
        if self.value < 1.0 / ALPHA:
            return False
        self.value = 1.0
        return True


class Usual:
    """How far the upper quantile and the median lay above demand now in the last week, one turn a minute. Mutable.

    Gaps are (2, n), on the square root scale; NaN: nothing was known.
    """

    def __init__(self) -> None:
        self._past = np.empty((2, 0))
        self._lowest = self._low = -np.inf
        self._high = np.inf

    def learn(self, gaps: FloatArray) -> None:
        """Take one turn a minute into the past."""
        known = gaps[:, ~np.isnan(gaps).any(axis=0)]
        per_day = DAY_SECONDS // MINUTE_SECONDS
        self._past = np.concatenate([self._past, known], axis=1)[:, -ODD_DAYS * per_day :]
        n = self._past.shape[1]
        if n < LEAST_ODD_DAYS * per_day:
            return
        rank = int(ODD_FRACTION / 2 * (n + 1)) - 1
        low = np.partition(self._past[0], (0, rank))
        self._lowest, self._low = float(low[0]), float(low[rank])
        self._high = float(np.partition(self._past[1], n - 1 - rank)[n - 1 - rank])

    def odd(self, gaps: FloatArray) -> NDArray[np.bool_]:
        """Per turn: whether the upper quantile lies oddly low, or the median oddly high."""
        return np.asarray((gaps[0] < self._low) | (gaps[1] > self._high))

    def too_low(self, gaps: FloatArray) -> NDArray[np.bool_]:
        """Per turn: whether the upper quantile lies lower beside demand now than ever in the last week."""
        return np.asarray(gaps[0] < self._lowest)


class ForecastWatch:
    """The stance of every turn. Mutable: `watch` each turn (or many at once), `learn` each block that was played."""

    def __init__(self, rules: Rules, rows: RowMaker) -> None:
        self._rules, self._rows = rules, rows
        self._apart = rules.lead_steps + rows.tape.steps(MINUTE_SECONDS)
        self._above = [(level, Evidence(bet)) for level, bet in ABOVE]
        self._too_much, self._oddness = Evidence(TOO_MUCH), Evidence(ODD)
        self._usual = Usual()
        self._watched = self._sampled = 0
        self._surprised_at = -(2**40)
        self._stances = np.zeros(0, dtype=np.int8)
        self._looked_from = 0
        self._odd = self._too_low = np.zeros(0, dtype=np.bool_)

    def watch(self, at: int) -> None:
        """Look at the made rows up to `at`, each once."""
        first = max(self._watched, self._rows.kept_from)
        if at < first:
            return
        if at >= self._looked_from + len(self._odd):
            self._look(first)
        begin, end = first - self._looked_from, at + 1 - self._looked_from
        if self._too_low[begin:end].any():
            for row in first + np.flatnonzero(self._too_low[begin:end]):
                self._mark(int(row), CAUTIOUS_STARTUPS * self._rules.startup_steps, Stance.CAUTIOUS)
        self._watched = at + 1
        self._sampled = max(self._sampled, first - self._apart)
        while self._sampled + self._apart <= at:
            self._sampled += self._apart
            if self._sampled >= first:
                self._sample(self._sampled, bool(self._odd[self._sampled - self._looked_from]))

    def _look(self, first: int) -> None:
        """See what is odd among all rows made from `first` on: what is usual, and the model, stay until `learn`."""
        gaps = self._rows.gaps(first, self._rows.made, UPPER_LEVEL, MIDDLE_LEVEL)
        self._looked_from, self._odd, self._too_low = first, self._usual.odd(gaps), self._usual.too_low(gaps)

    def _sample(self, at: int, odd: bool) -> None:
        """What came of the row one lead (and the minute that is demand) before `at`, and what row `at` says itself."""
        per_hour = 3600 / self._rules.step_seconds
        if self._oddness.see(odd):
            self._mark(at, ODD_HOURS * per_hour, Stance.ODD)
        demand, middle = self._rows.now(at), self._rows.watched(at - self._apart, MIDDLE_LEVEL)
        if np.isnan(demand) or np.isnan(middle):
            return
        capacity = self._rules.capacity
        too_much = rule.replicas_for(middle, capacity) > rule.replicas_for(demand, capacity)
        alarms = [self._too_much.see(too_much)]
        alarms += [seen.see(demand > self._rows.watched(at - self._apart, level)) for level, seen in self._above]
        if any(alarms):
            self._surprised_at = at
            self._mark(at, SURPRISED_HOURS * per_hour, Stance.SURPRISED)

    def _mark(self, first: int, steps: float, stance: Stance) -> None:
        last = first + round(steps)
        if last > len(self._stances):
            self._stances = np.concatenate([self._stances, np.zeros(2 * last - len(self._stances), dtype=np.int8)])
        self._stances[first:last] = np.maximum(self._stances[first:last], stance)

    def learn(self, first: int, last: int) -> None:
        """Take the rows first..last-1 for usual, unless what came of them raised an alarm: what a broken forecast looks
        like is not learned."""
        self._odd = self._too_low = np.zeros(0, dtype=np.bool_)
        if self.stance(last - 1) is not Stance.SURPRISED:
            self._usual.learn(self._rows.gaps(first, last, UPPER_LEVEL, MIDDLE_LEVEL)[:, :: self._rows.tape.steps(60)])

    def stance(self, at: int) -> Stance:
        """The stance at the watched row `at`."""
        return Stance(int(self._stances[at])) if at < len(self._stances) else Stance.TRUSTED

    def next_change(self, at: int, last: int) -> int:
        """The row after `at` at which the stance changes; `last` if it does not before."""
        known = self._stances[at:last]
        if len(known) == 0:
            return last
        changed = np.flatnonzero(known != known[0])
        if len(changed):
            return at + int(changed[0])
        return min(last, at + len(known)) if known[0] else last

    def surprised(self, at: int, steps: int) -> bool:
        """Whether demand left the forecast's band less than `steps` before row `at`."""
        return 0 <= at - self._surprised_at < steps
