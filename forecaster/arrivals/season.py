"""The season of an arrival law: session starts against idle time, by half hour of the local day."""

from forecaster.arrivals.gaps import SESSION_GAP_SECONDS, bin_of
from forecaster.arrivals.law import N_HALF_HOURS, ArrivalLaw

HALF_HOUR_SECONDS = 1800.0
SEASON_WEIGHT_STARTS = 6.0
"""Session starts that the prior season is worth per half hour."""


def half_hour_of(law: ArrivalLaw, when: float) -> tuple[int, float]:
    """The half hour of the local day that holds `when`, 0 to 47, and when it ends."""
    offset = law.zone_offsets[bin_of(law.zone_edges, when)]
    number = (when + offset) // HALF_HOUR_SECONDS
    return int(number) % N_HALF_HOURS, (number + 1.0) * HALF_HOUR_SECONDS - offset


def learn_half_hours(law: ArrivalLaw, gap_seconds: float, when: float) -> None:
    """Add one finished gap that ended at `when`: idle time beyond the session, and the session start that ended it."""
    at = when - gap_seconds + SESSION_GAP_SECONDS
    while at < when:
        half_hour, ends = half_hour_of(law, at)
        until = min(when, ends)
        law.season[1, half_hour] += until - at
        at = until
    if gap_seconds >= SESSION_GAP_SECONDS:
        law.season[0, half_hour_of(law, when)[0]] += 1.0


def refresh_season(law: ArrivalLaw) -> None:
    """Recompute the factor of each half hour, smoothed with its neighbours and drawn to the prior's."""
    n_starts = 0.0
    idle_seconds = 0.0
    for q in range(N_HALF_HOURS):
        n_starts += law.season[0, q]
        idle_seconds += law.season[1, q]
    rate = n_starts / idle_seconds if idle_seconds > 0.0 else 0.0
    for q in range(N_HALF_HOURS):
        before = (q - 1) % N_HALF_HOURS
        after = (q + 1) % N_HALF_HOURS
        starts = 0.5 * law.season[0, before] + law.season[0, q] + 0.5 * law.season[0, after]
        seconds = 0.5 * law.season[1, before] + law.season[1, q] + 0.5 * law.season[1, after]
        law.season_factor[q] = (starts + SEASON_WEIGHT_STARTS * law.prior_season[q]) / (
            seconds * rate + SEASON_WEIGHT_STARTS
        )
