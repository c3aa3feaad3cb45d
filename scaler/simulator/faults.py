"""What can be made to go wrong in a replay or a policy test: `--fault NAME`, `world.faults`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import inf

from scaler.domain.fields import format_duration, parse_duration
from scaler.errors import SettingsError
from scaler.simulator.startups import StartupModel
from scaler.simulator.world import Outage

ALLOWED = (
    "forecast-noise, forecast-zero, forecast-shift:6h, metrics-outage:START/DURATION (such as 1d8h/10m), "
    "failed-starts:0.1, slow-starts:3, varied-starts:0.3, cold-nodes:0.2/4m (share of starts, what a node adds), "
    "rolling-update:START (such as 9h)"
)

_ANY_NUMBER = frozenset({"metrics-outage", "rolling-update"})
"""Of each of the others a run has one: a second would silently take the place of the first."""


@dataclass(frozen=True, kw_only=True)
class Faults:
    """All faults of one run. `forecast` is "", "noise", "zero" or "shift" (by `shift`); outages are (start, length),
    the start relative to the test span as those of `rolling_updates`. `cold_fraction` of the starts need a `node`
    first; `spread` is the standard deviation of the logarithm of a start."""

    forecast: str = ""
    shift: timedelta = timedelta(0)
    outages: tuple[tuple[timedelta, timedelta], ...] = ()
    failed_fraction: float = 0.0
    slow_factor: float = 1.0
    spread: float = 0.0
    cold_fraction: float = 0.0
    node: timedelta = timedelta(0)
    rolling_updates: tuple[timedelta, ...] = ()
    names: tuple[str, ...] = field(default=())

    def startup(self, model: StartupModel) -> StartupModel:
        """The start-up model with these faults in it."""
        return replace(
            model,
            sigma=self.spread,
            cold_node_fraction=self.cold_fraction,
            node=self.node,
            failed_fraction=self.failed_fraction,
            slow_factor=self.slow_factor,
        )

    def outages_from(self, start: datetime) -> tuple[Outage, ...]:
        return tuple(Outage(start=start + after, end=start + after + length) for after, length in self.outages)

    def check_within(self, test: timedelta) -> None:
        """Raises SettingsError for a fault that a test of this length would never meet."""
        outages = [("metrics-outage", after) for after, _ in self.outages]
        for kind, after in (*outages, *(("rolling-update", after) for after in self.rolling_updates)):
            if after >= test:
                raise SettingsError(
                    f"fault {kind}: begins {format_duration(after)} into a test of {format_duration(test)}; "
                    "need a start before its end"
                )


def parse_faults(names: Sequence[str]) -> Faults:
    """The faults that these names ask for. Raises SettingsError naming the fault, what was found and what is
    allowed."""
    faults = Faults(names=tuple(names))
    before: dict[str, str] = {}
    for name in names:
        kind, _, value = name.partition(":")
        one_of = "forecast" if kind.startswith("forecast-") else kind
        if one_of in before and kind not in _ANY_NUMBER:
            raise SettingsError(f"fault {name!r}: stands beside {before[one_of]!r}; need at most one {one_of} fault")
        before[one_of] = name
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
        start, length = (parse_duration(part) for part in _pair(value, "START/DURATION"))
        if not length:
            raise ValueError("need a DURATION above 0")
        return replace(faults, outages=(*faults.outages, (start, length)))
    if kind == "rolling-update":
        return replace(faults, rolling_updates=(*faults.rolling_updates, parse_duration(value)))
    return _with_starts(faults, kind, value)


def _with_starts(faults: Faults, kind: str, value: str) -> Faults:
    if kind == "failed-starts":
        return replace(faults, failed_fraction=_number(value, "a share from 0 to below 1", lambda x: 0 <= x < 1))
    if kind == "slow-starts":
        return replace(faults, slow_factor=_number(value, "a factor above 0", lambda x: 0 < x < inf))
    if kind == "varied-starts":
        return replace(faults, spread=_number(value, "a spread from 0 to 2", lambda x: 0 <= x <= 2))
    if kind == "cold-nodes":
        share, node = _pair(value, "SHARE/DURATION")
        cold = _number(share, "a share from 0 to 1", lambda x: 0 <= x <= 1)
        return replace(faults, cold_fraction=cold, node=parse_duration(node))
    raise ValueError("no such fault")


def _pair(value: str, form: str) -> tuple[str, str]:
    first, slash, second = value.partition("/")
    if not slash:
        raise ValueError(f"need {form}")
    return first, second


def _number(value: str, need: str, allowed: Callable[[float], bool]) -> float:
    number = float(value)
    if not allowed(number):
        raise ValueError(f"need {need}, found {value}")
    return number
