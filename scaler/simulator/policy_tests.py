"""Policy tests: a policy, some traffic, a world, and what is expected of them (documents of kind PolicyTest)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from math import inf
from typing import Annotated, Any, Literal, Self
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import numpy as np
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from forecaster.series import DemandSeries, DemandUnit
from scaler.core.allocation import draws_from
from scaler.domain.endpoint import EndpointId
from scaler.domain.fields import (
    A_TIME,
    LONGEST_DURATION,
    Duration,
    Fraction,
    Name,
    NonNegative,
    PositiveDuration,
    Replicas,
    format_duration,
    written_time,
)
from scaler.domain.policy import ScalingPolicy
from scaler.errors import InputError, PolicyError, TraceError
from scaler.simulator.baselines.registry import BASELINES
from scaler.simulator.faults import parse_faults
from scaler.simulator.lane import Outcome
from scaler.simulator.own import MakeAdvisor
from scaler.simulator.patterns import PATTERNS, START, demand_of
from scaler.simulator.replay import OWN, EndpointResult, run_replay
from scaler.simulator.results import figures
from scaler.simulator.spans import REACTIVE, ReplayRequest
from scaler.simulator.startups import StartupModel

LoadPolicy = Callable[[str], ScalingPolicy]
"""From a path as it stands in the test to the policy. Raises PolicyError."""
LoadTrace = Callable[[str, DemandUnit], DemandSeries]
"""From a path as it stands in the test to its one series. Raises TraceError."""
DAY = timedelta(days=1)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Limits(_Part):
    """`atLeast` and `atMost`, one or both."""

    at_least: NonNegative | None = None
    at_most: NonNegative | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("need atLeast, atMost or both")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"atLeast = {self.at_least:g}, must be <= atMost = {self.at_most:g}")
        return self

    def holds(self, value: float) -> bool:
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def words(self) -> str:
        low = [f"at least {self.at_least:g}"] if self.at_least is not None else []
        high = [f"at most {self.at_most:g}"] if self.at_most is not None else []
        return " and ".join(low + high)


class Share(Limits):
    """Of a figure that is a fraction 0..1."""

    at_least: Fraction | None = None
    at_most: Fraction | None = None


class Versus(Limits):
    """The share of a baseline's figure."""

    baseline: str

    @model_validator(mode="after")
    def _known(self) -> Self:
        known = (REACTIVE, *BASELINES)
        if self.baseline not in known:
            raise ValueError(f"baseline = {self.baseline}, allowed: {', '.join(known)}")
        return self


class AtTime(Limits):
    """A count at a time of day, in the time zone of the policy's calendar (the traffic's `at` is UTC), on every day of
    the test."""

    at: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]


class Never(_Part):
    above: Replicas | None = None
    below: Replicas | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.above is None and self.below is None:
            raise ValueError("need above, below or both")
        if self.above is not None and self.below is not None and self.above < self.below:
            raise ValueError(f"above = {self.above}, must be >= below = {self.below}")
        return self


class Ordered(_Part):
    never: Never


class Expectation(_Part):
    """One claim; exactly one of the fields is given."""

    slo_attainment: Share | None = None
    replica_hours: Limits | None = None
    gpu_hours: Limits | None = None
    gpu_hours_vs: Versus | None = None
    cold_requests: Limits | None = None
    starts: Limits | None = None
    p95_wait_seconds: Limits | None = None
    ready_replicas: AtTime | None = None
    replicas: Ordered | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"need exactly one expectation per line, found {', '.join(given) or 'none'}")
        return self


def _day_or_time(value: object) -> object:
    try:
        return written_time(value)
    except ValueError as error:
        raise ValueError(f"need a day such as 2026-03-02, or {A_TIME}") from error


class Traffic(_Part):
    """Recorded demand (`trace`, from `from` on) or a generated `pattern` (patterns.py). The time of day `at`, and a day
    `from`, are UTC, whatever the policy's time zone: demand is the world's."""

    trace: str = ""
    start: Annotated[date | AwareDatetime, BeforeValidator(_day_or_time)] | None = Field(default=None, alias="from")
    pattern: str = ""
    low: NonNegative = 0.0
    high: NonNegative = 1.0
    at: Duration = timedelta(hours=9)
    lasts: PositiveDuration = timedelta(minutes=15)
    days: Annotated[float, Field(gt=0, le=LONGEST_DURATION / DAY)] = 1.0
    warmup: Duration = timedelta(days=7)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if bool(self.trace) == bool(self.pattern):
            raise ValueError("need either trace or pattern")
        if self.pattern and self.pattern not in PATTERNS:
            raise ValueError(f"pattern = {self.pattern}, allowed: {', '.join(PATTERNS)}")
        return self

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        """A field that the traffic would not depend on is a misunderstanding."""
        reads = PATTERNS[self.pattern].reads if self.pattern else frozenset({"start"})
        unread = (self.model_fields_set & {"start", "low", "high", "at", "lasts"}) - reads
        if unread:
            names = sorted("from" if name == "start" else name for name in unread)
            kind = f"pattern {self.pattern}" if self.pattern else "a recorded trace"
            raise ValueError(f"{kind} does not depend on {', '.join(names)}; remove what it does not read")
        return self

    @model_validator(mode="after")
    def _within_a_day(self) -> Self:
        if not self.pattern:
            return self
        if "low" in PATTERNS[self.pattern].reads and self.low > self.high:
            raise ValueError(f"low = {self.low:g}, must be <= high = {self.high:g}")
        if self.at >= DAY:
            raise ValueError(f"at = {format_duration(self.at)}, must be a time of day below 24h")
        if self.lasts > DAY:
            raise ValueError(f"lasts = {format_duration(self.lasts)}, must be <= 24h: a pattern repeats each day")
        return self


class SimulatedWorld(_Part):
    startup: PositiveDuration | None = None
    """None: as the policy expects."""
    seed: Annotated[int, Field(ge=0, strict=True)] = 0
    faults: tuple[str, ...] = ()
    pools: dict[str, Annotated[int, Field(ge=0, strict=True)]] = Field(default_factory=dict)
    """GPUs of each pool."""


class Neighbour(_Part):
    """Another endpoint, played together with the one that is tested where they draw from one pool."""

    policy: str
    traffic: Traffic


def _some(lines: tuple[Expectation, ...]) -> tuple[Expectation, ...]:
    # Not Field(min_length=1): that counts the lines that are valid, and speaks of too few where one is not.
    if not lines:
        raise ValueError("need at least one expectation")
    return lines


class PolicyTestSpec(_Part):
    policy: str
    traffic: Traffic
    beside: tuple[Neighbour, ...] = ()
    world: SimulatedWorld = SimulatedWorld()
    expect: Annotated[tuple[Expectation, ...], AfterValidator(_some)]

    @model_validator(mode="after")
    def _neighbours_matter(self) -> Self:
        if self.beside and not self.world.pools:
            raise ValueError("beside: they share nothing with the policy; need world.pools")
        for other in self.beside:
            if (other.traffic.days, other.traffic.warmup) != (self.traffic.days, self.traffic.warmup):
                raise ValueError(f"beside: {other.policy}: need the days and warmup of the test's own traffic")
        return self


class TestMetadata(_Part):
    name: Name


class PolicyTest(_Part):
    """One PolicyTest document."""

    api_version: Literal["headstart.dev/v1alpha1"]
    kind: Literal["PolicyTest"]
    metadata: TestMetadata
    spec: PolicyTestSpec


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One expectation, as it was and as it came out."""

    name: str
    expected: str
    seen: str
    holds: bool


@dataclass(frozen=True, kw_only=True)
class TestOutcome:
    """What came of one test. `error` says why it could not run ("": it ran)."""

    name: str
    findings: tuple[Finding, ...] = ()
    error: str = ""

    @property
    def passed(self) -> bool:
        return not self.error and all(finding.holds for finding in self.findings)

    def line(self) -> str:
        """One line: the verdict, and what is wrong if anything is."""
        if self.error:
            return f"ERROR {self.name}: {self.error}"
        failed = [finding for finding in self.findings if not finding.holds]
        if not failed:
            return f"ok    {self.name}: {len(self.findings)} of {len(self.findings)} as expected"
        first = failed[0]
        return (
            f"FAIL  {self.name}: {len(failed)} of {len(self.findings)} not as expected; "
            f"{first.name}: expected {first.expected}, saw {first.seen}"
        )

    def diff(self) -> str:
        """Expected and seen of each expectation that failed, one pair of lines each."""
        lines = []
        for finding in self.findings:
            if not finding.holds:
                lines += [f"  - {finding.name}: {finding.expected}", f"  + {finding.name}: {finding.seen}"]
        return "\n".join(lines)


def run_policy_test(
    test: PolicyTest, load_policy: LoadPolicy, load_trace: LoadTrace, make_advisor: MakeAdvisor
) -> TestOutcome:
    """Play the test and hold its expectations against what came out. Input that cannot be used is an outcome with an
    error, so that one bad test does not end the others."""
    try:
        policy = load_policy(test.spec.policy)
        beside = [(load_policy(other.policy), other.traffic) for other in test.spec.beside]
        result = _replayed(test, policy, beside, load_trace, make_advisor)
    except InputError as error:
        return TestOutcome(name=test.metadata.name, error=str(error))
    findings = tuple(finding for expectation in test.spec.expect for finding in _held(expectation, result))
    return TestOutcome(name=test.metadata.name, findings=findings)


def _replayed(
    test: PolicyTest,
    policy: ScalingPolicy,
    beside: Sequence[tuple[ScalingPolicy, Traffic]],
    load_trace: LoadTrace,
    make_advisor: MakeAdvisor,
) -> EndpointResult:
    spec, world = test.spec, test.spec.world
    policies = {policy.endpoint: policy}
    for other, _ in beside:
        if other.endpoint in policies:
            raise PolicyError(f"beside: {other.endpoint}: found twice; need a policy of another name")
        if not any(_share(policy, other, pool) for pool in world.pools):
            raise PolicyError(
                f"beside: {other.endpoint}: found no pool of world.pools ({', '.join(world.pools)}) that it shares "
                f"with {policy.endpoint}; need one of these as spec.target.pool of both, and GPUs per replica"
            )
        policies[other.endpoint] = other
    traces = _traces([(policy, spec.traffic), *beside], world.seed, load_trace)
    baselines = dict.fromkeys(line.gpu_hours_vs.baseline for line in spec.expect if line.gpu_hours_vs is not None)
    request = ReplayRequest(
        policies=policies,
        traces=traces,
        warmup=spec.traffic.warmup,
        length=timedelta(days=spec.traffic.days),
        seed=world.seed,
        baselines=tuple(baselines),
        startup=StartupModel(typical=world.startup) if world.startup else None,
        faults=parse_faults(world.faults),
        pools=world.pools,
        with_clairvoyant=False,
    )
    return run_replay(request, make_advisor).endpoints[policy.endpoint]


def _share(policy: ScalingPolicy, other: ScalingPolicy, pool: str) -> bool:
    return draws_from(policy, pool) and draws_from(other, pool)


def _traces(
    played: Sequence[tuple[ScalingPolicy, Traffic]], seed: int, load_trace: LoadTrace
) -> dict[EndpointId, DemandSeries]:
    """Demand of each. Patterns beside a recorded trace happen at the time of that trace."""
    recorded = {
        policy.endpoint: _recorded(traffic, policy, load_trace) for policy, traffic in played if not traffic.pattern
    }
    start = next((series.start for series in recorded.values()), START)
    return {
        policy.endpoint: recorded[policy.endpoint]
        if policy.endpoint in recorded
        else _generated(traffic, policy, [seed, number] if number else [seed], start)
        for number, (policy, traffic) in enumerate(played)
    }


def _generated(traffic: Traffic, policy: ScalingPolicy, seed: Sequence[int], start: datetime) -> DemandSeries:
    rng = np.random.Generator(np.random.PCG64(seed))
    span = traffic.warmup + timedelta(days=traffic.days)
    unit = policy.spec.demand.unit
    return demand_of(traffic.pattern, traffic.low, traffic.high, traffic.at, traffic.lasts, span, rng, unit, start)


def _recorded(traffic: Traffic, policy: ScalingPolicy, load_trace: LoadTrace) -> DemandSeries:
    """Demand from the start of the warm-up on."""
    series = load_trace(traffic.trace, policy.spec.demand.unit)
    begin = _moment(traffic.start) if traffic.start is not None else series.start + traffic.warmup
    if begin - traffic.warmup < series.start or begin >= series.end:
        raise TraceError(
            f"{traffic.trace}: holds {series.start:%Y-%m-%d %H:%M} to {series.end:%Y-%m-%d %H:%M} UTC; from = "
            f"{begin:%Y-%m-%d %H:%M} with this warm-up needs {begin - traffic.warmup:%Y-%m-%d %H:%M} on"
        )
    return series.since(begin - traffic.warmup)


def _moment(day: date | datetime) -> datetime:
    return day.astimezone(UTC) if isinstance(day, datetime) else datetime.combine(day, time(), UTC)


def _held(expectation: Expectation, result: EndpointResult) -> Sequence[Finding]:
    """The findings of one line."""
    own = result.outcomes[OWN]
    seen: Mapping[str, float] = figures(own, result)
    name = next(field for field in type(expectation).model_fields if getattr(expectation, field) is not None)
    shown = to_camel(name)
    if expectation.gpu_hours_vs is not None:
        # By replica-hours: the same share, also where a replica has no GPU.
        hours, other = own.replica_hours, result.outcomes[expectation.gpu_hours_vs.baseline].replica_hours
        share = hours / other if other > 0 else (1.0 if hours == 0 else inf)
        text = f"{expectation.gpu_hours_vs.words()} of {expectation.gpu_hours_vs.baseline}"
        return [Finding(name=shown, expected=text, seen=f"{share:.4g}", holds=expectation.gpu_hours_vs.holds(share))]
    if expectation.ready_replicas is not None:
        return _at_time(expectation.ready_replicas, own, result)
    if expectation.replicas is not None:
        return _never(expectation.replicas.never, own)
    limits: Limits = getattr(expectation, name)
    return [Finding(name=shown, expected=limits.words(), seen=f"{seen[name]:.6g}", holds=limits.holds(seen[name]))]


def _at_time(limits: AtTime, own: Outcome, result: EndpointResult) -> Sequence[Finding]:
    """The worst day decides."""
    zone = ZoneInfo(result.policy.spec.forecast.calendar.timezone)
    hour, minute = (int(part) for part in limits.at.split(":"))
    step = timedelta(seconds=own.step_seconds)
    end = result.start + len(own.ready) * step
    day = result.start.astimezone(zone).date()
    found: list[tuple[datetime, int]] = []
    while True:
        when = datetime.combine(day, time(hour, minute), zone).astimezone(UTC)
        if when >= end:
            break
        if when >= result.start:
            found.append((when, int(own.ready[(when - result.start) // step])))
        day += timedelta(days=1)
    name = f"readyReplicas at {limits.at}"
    if not found:
        seen = f"the test does not reach that time ({zone.key})"
        return [Finding(name=name, expected=limits.words(), seen=seen, holds=False)]
    wrong = [(when, count) for when, count in found if not limits.holds(count)]
    when, count = (wrong or found)[0]
    seen = f"{count} on {when.astimezone(zone):%Y-%m-%d} ({zone.key}, {when:%H:%M} UTC)"
    return [Finding(name=name, expected=limits.words(), seen=seen, holds=not wrong)]


def _never(never: Never, own: Outcome) -> Sequence[Finding]:
    findings = []
    total = own.ready + own.starting
    if never.above is not None:
        highest = int(total.max())
        findings.append(
            Finding(
                name="replicas", expected=f"never above {never.above}", seen=str(highest), holds=highest <= never.above
            )
        )
    if never.below is not None:
        lowest = int(total.min())
        findings.append(
            Finding(
                name="replicas", expected=f"never below {never.below}", seen=str(lowest), holds=lowest >= never.below
            )
        )
    return findings


def junit(outcomes: Sequence[TestOutcome]) -> str:
    """The outcomes as JUnit XML: one test case each, failures with their diff."""
    failures = sum(1 for outcome in outcomes if not outcome.passed and not outcome.error)
    errors = sum(1 for outcome in outcomes if outcome.error)
    attributes: dict[str, Any] = {"tests": len(outcomes), "failures": failures, "errors": errors}
    suite = ElementTree.Element("testsuite", {"name": "headstart test"} | {k: str(v) for k, v in attributes.items()})
    for outcome in outcomes:
        case = ElementTree.SubElement(suite, "testcase", {"classname": "PolicyTest", "name": outcome.name})
        if outcome.error:
            ElementTree.SubElement(case, "error", {"message": outcome.error})
        elif not outcome.passed:
            failure = ElementTree.SubElement(case, "failure", {"message": outcome.line()})
            failure.text = outcome.diff()
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"
