"""Where an arrival law begins: new, as a copy, or from a store."""

from collections.abc import Mapping

import numpy as np

from forecaster.arrivals.gaps import N_CLASSES, gap_edges
from forecaster.arrivals.hazard import refresh
from forecaster.arrivals.law import (
    BURST_WINDOW,
    GAP_CLASS,
    LAST,
    N_HALF_HOURS,
    N_MARKS,
    N_STARTS,
    SESSION_START,
    STALE,
    WATCHED,
    ArrivalLaw,
    ArrivalPrior,
)
from forecaster.arrivals.prior import default_prior
from forecaster.calendar import offset_changes
from forecaster.errors import BadSeries
from forecaster.series import FloatArray


def new_law(burst_window_seconds: float, prior: ArrivalPrior | None = None, timezone: str = "UTC") -> ArrivalLaw:
    """A law that has seen nothing. `burst_window_seconds` (the start-up time) is the window of `requests_per_burst`;
    its days are those of `timezone`."""
    if not burst_window_seconds > 0:
        raise BadSeries(f"arrival law: need a burst window > 0 seconds, have {burst_window_seconds}")
    prior = prior or default_prior()
    zone_edges, zone_offsets = offset_changes(timezone)
    edges = gap_edges()
    n_bins = len(edges) - 1
    marks = np.zeros(N_MARKS)
    marks[LAST] = marks[SESSION_START] = marks[WATCHED] = np.nan
    marks[GAP_CLASS] = N_CLASSES - 1
    marks[BURST_WINDOW] = burst_window_seconds
    marks[STALE] = 1.0
    law = ArrivalLaw(
        edges=edges,
        exposure_seconds=np.zeros((1 + N_CLASSES, n_bins)),
        events=np.zeros((1 + N_CLASSES, n_bins)),
        season=np.zeros((2, N_HALF_HOURS)),
        cumulative=np.zeros((N_CLASSES, n_bins + 1)),
        season_factor=np.ones(N_HALF_HOURS),
        starts=np.full(N_STARTS, np.nan),
        marks=marks,
        prior_hazard=prior.hazard.copy(),
        prior_ratio=prior.class_ratio.copy(),
        prior_season=prior.season.copy(),
        zone_edges=zone_edges.copy(),
        zone_offsets=zone_offsets.copy(),
    )
    refresh(law)
    return law


def copy_law(law: ArrivalLaw) -> ArrivalLaw:
    """The same law in arrays of its own."""
    return ArrivalLaw(*(part.copy() for part in law))


def law_arrays(law: ArrivalLaw) -> dict[str, FloatArray]:
    """The law as named arrays, for a store without pickle."""
    return {name: part.copy() for name, part in law._asdict().items()}


def law_from_arrays(arrays: Mapping[str, FloatArray]) -> ArrivalLaw:
    """The law that `law_arrays` wrote. Raise BadSeries if a part is absent or of another shape."""
    fresh = new_law(1.0)._asdict()
    n_offsets = np.size(arrays.get("zone_offsets", 0.0))  # zones differ in how often they changed
    wanted = {name: part.shape for name, part in fresh.items()}
    wanted |= {"zone_edges": (n_offsets + 1,), "zone_offsets": (n_offsets,)}
    for name, needed in wanted.items():
        shape = np.shape(arrays[name]) if name in arrays else None
        if shape != needed:
            raise BadSeries(f"arrival law: {name} needs shape {needed}, have {shape}")
    return ArrivalLaw(**{name: np.array(arrays[name], dtype=np.float64) for name in fresh})
