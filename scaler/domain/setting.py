"""One way of turning demand into orders, and why it plays."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Source(StrEnum):
    """Where a setting takes the demand one start-up time ahead from."""

    LEAD_MODEL = "lead-model"
    """Quantile of the learned lead-time model."""
    RESIDUAL = "residual"
    """Demand now plus an empirical quantile of its past changes over one start-up time."""
    SEASONAL = "seasonal"
    """Quantile of the day-ahead forecast at the lead."""
    REACTIVE = "reactive"
    """A factor on demand now: no forecast at all."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One member of the family that replay chooses from.

    `level` is a quantile in (0, 1) for forecasts and a factor > 0 for REACTIVE. `hold` is how long the highest demand
    ahead is kept; `guard` is the window of the dip guard (zero: none); `utilization_fraction` is the share of a
    replica's capacity that is planned for.
    """

    source: Source
    level: float
    hold: timedelta = timedelta(0)
    guard: timedelta = timedelta(0)
    utilization_fraction: float = 1.0

    def __post_init__(self) -> None:
        top = 1.0 if self.source is not Source.REACTIVE else float("inf")
        if not 0 < self.level < top or not 0 < self.utilization_fraction <= 1:
            raise ValueError(f"setting: need 0 < level < {top} and 0 < utilization_fraction <= 1, have {self}")

    @property
    def uses_forecast(self) -> bool:
        return self.source is not Source.REACTIVE

    def describe(self) -> str:
        what = f"x{self.level:g} demand now" if self.source is Source.REACTIVE else f"{self.source} q{self.level:g}"
        hold = f", held {self.hold.total_seconds():g} s" if self.hold else ""
        guard = f", dip guard {self.guard.total_seconds() / 3600:g} h" if self.guard else ""
        return f"{what} at {self.utilization_fraction:.0%} utilisation{hold}{guard}"


@dataclass(frozen=True, kw_only=True)
class ReplayedCost:
    """What one setting would have cost and missed over the replayed past."""

    setting: Setting
    replica_hours: float
    bad_fraction: float
    days: float


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The setting that plays, what its replay showed, and the next best one. `replayed` None: nothing replayed yet.

    `shadow` is what the shadow reactive policy (the same choice without forecast settings) would have cost and missed,
    and `replayed_for` how much of the past was replayed: the figures forget it with time.

    `demoted` says why forecast settings are barred for now (premium over the shadow reactive policy, lost trust); ""
    means they are not. `surprised` means that demand left the forecast's band in a way chance does not explain:
    scale-in waits. `beside` is the shadow's setting while the forecast looks odd: whichever of the two asks for more is
    ordered. `by_next_arrival`: the law of the next arrival decides about the last replica (rarely used endpoints), and
    the replayed figures are without it.
    """

    setting: Setting
    chosen_at: datetime
    replayed: ReplayedCost | None = None
    runner_up: ReplayedCost | None = None
    shadow: ReplayedCost | None = None
    replayed_for: timedelta = timedelta(0)
    demoted: str = ""
    surprised: bool = False
    beside: Setting | None = None
    by_next_arrival: bool = False

    def why(self) -> str:
        what, would = self.setting.describe(), "would"
        if self.by_next_arrival:
            what, would = f"{what}, the last replica by the law of the next arrival", "without which it would"
        if self.replayed is None:
            return f"{what} (nothing replayed yet)"
        own, comma = self.replayed, "," if self.by_next_arrival else ""
        text = (
            f"{what}{comma} {would} have cost {own.replica_hours:.1f} replica-hours and missed "
            f"{own.bad_fraction:.2%} over the last {own.days:.1f} days"
        )
        if self.runner_up is not None:
            other = self.runner_up
            text += f"; the runner-up {other.setting.describe()} {other.replica_hours:.1f} and {other.bad_fraction:.2%}"
        if self.beside is not None:
            text += f"; the forecast looks odd, so {self.beside.describe()} where that asks for more"
        return f"{text}; {self.demoted}" if self.demoted else text
