"""What can be made to go wrong in a replay or a policy test: `--fault NAME`, `world.faults`."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from scaler.domain.policy import parse_duration
from scaler.errors import SettingsError
from scaler.simulator.startups import StartupModel
from scaler.simulator.world import Outage

ALLOWED = (
    "forecast-noise, forecast-zero, forecast-shift:6h, metrics-outage:START/DURATION (such as 1d8h/10m), "
    "failed-starts:0.1, slow-starts:3"
)


@dataclass(frozen=True, kw_only=True)
class Faults:
    """All faults of one run. `forecast` is "", "noise", "zero" or "shift" (by `shift`); outages are (start, length),
    the start relative to the test span."""

    forecast: str = ""
    shift: timedelta = timedelta(0)
    outages: tuple[tuple[timedelta, timedelta], ...] = ()
    failed_fraction: float = 0.0
    slow_factor: float = 1.0
    names: tuple[str, ...] = field(default=())

    def startup(self, model: StartupModel) -> StartupModel:
        """The start-up model with these faults in it."""
        return replace(model, failed_fraction=self.failed_fraction, slow_factor=model.slow_factor * self.slow_factor)

    def outages_from(self, start: datetime) -> tuple[Outage, ...]:
        return tuple(Outage(start=start + after, end=start + after + length) for after, length in self.outages)


def parse_faults(names: Sequence[str]) -> Faults:
    """The faults that these names ask for. Raises SettingsError naming the fault, what was found and what is
    allowed."""
    faults = Faults(names=tuple(names))
    for name in names:
        kind, _, value = name.partition(":")
        try:
            faults = _with(faults, kind, value)
        except ValueError as error:
            raise SettingsError(f"fault {name!r}: {error}; allowed: {ALLOWED}") from error
    return faults


def _with(faults: Faults, kind: str, value: str) -> Faults:
    if kind in ("forecast-noise", "forecast-zero") and not value:
        return replace(faults, forecast=kind.removeprefix("forecast-"))
    if kind == "forecast-shift":
        return replace(faults, forecast="shift", shift=parse_duration(value))
    if kind == "metrics-outage":
        start, slash, length = value.partition("/")
        if not slash:
            raise ValueError("need START/DURATION")
        return replace(faults, outages=(*faults.outages, (parse_duration(start), parse_duration(length))))
    if kind == "failed-starts":
        share = float(value)
        if not 0 <= share < 1:
            raise ValueError(f"need a share from 0 to below 1, found {value}")
        return replace(faults, failed_fraction=share)
    if kind == "slow-starts":
        factor = float(value)
        if not 0 < factor < float("inf"):
            raise ValueError(f"need a factor above 0, found {value}")
        return replace(faults, slow_factor=factor)
    raise ValueError("no such fault")
