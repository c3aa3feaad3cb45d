"""What an arrival law is: its arrays and its scalars."""

from typing import NamedTuple

from forecaster.series import FloatArray

N_HALF_HOURS = 48
N_STARTS = 8
"""The last session starts that are kept, for the timer."""

LAST, GAP_CLASS, BLIND, N_GAPS, SESSIONS, SESSION_START, BURST_REQUESTS, BURST_WINDOW, WATCHED, STALE = range(10)
PERIOD, PERIOD_WIDTH, PERIOD_CHANCE = 10, 11, 12
N_MARKS = 13


class ArrivalPrior(NamedTuple):
    """What is believed of an endpoint before its first request.

    `hazard` (n_bins,) per second; `class_ratio` (3, n_bins): hazard after a short, middling or long gap over the pooled
    one; `season` (48,): factor by half hour of the local day, mean about 1.
    """

    hazard: FloatArray
    class_ratio: FloatArray
    season: FloatArray


class ArrivalLaw(NamedTuple):
    """The law's arrays; `observe` changes them in place, `copy_law` keeps an earlier state.

    `exposure_seconds` and `events` are (1 + 3, n_bins): all gaps, then by class of the gap before. `season` is (2, 48):
    session starts and idle seconds by half hour of the local day, which `zone_edges` (n + 1,) and `zone_offsets` (n,)
    tell, see calendar.offset_changes. Derived from these: `cumulative` (3, n_bins + 1), the integrated hazard at the
    gap edges by class, and `season_factor` (48,). `starts` (8,) holds the last session starts, oldest first, NaN where
    there were fewer. `marks` holds scalars, see LAST ... PERIOD_CHANCE.
    """

    edges: FloatArray
    exposure_seconds: FloatArray
    events: FloatArray
    season: FloatArray
    cumulative: FloatArray
    season_factor: FloatArray
    starts: FloatArray
    marks: FloatArray
    prior_hazard: FloatArray
    prior_ratio: FloatArray
    prior_season: FloatArray
    zone_edges: FloatArray
    zone_offsets: FloatArray
