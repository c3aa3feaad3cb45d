"""The inference scaling policy: what Headstart may do with one endpoint.

One model for three homes (a YAML file, a ConfigMap, a custom resource) and for the JSON Schema. Every default stands
here and nowhere else. Keys are camelCase in documents, snake_case here. Unknown keys are refused.
"""

import math
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import combinations
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)
from pydantic.alias_generators import to_camel

from forecaster.series import DemandUnit
from scaler.domain.endpoint import EndpointId
from scaler.domain.fields import (
    MOST_REPLICAS,
    Duration,
    Factor,
    Fraction,
    Label,
    Moment,
    Name,
    NonNegative,
    Positive,
    PositiveDuration,
    PositiveWindow,
    Replicas,
    TimeZone,
    Window,
    at_least,
    at_most,
)

API_VERSION = "headstart.dev/v1alpha1"
LONGEST_HISTORY = timedelta(days=400)
"""A year and a month. One policy's history sizes the query that all endpoints share."""
SHORTEST_REFIT = timedelta(minutes=1)
"""As often as the service looks who is due."""
LONGEST_STARTUP = timedelta(days=1)
"""A replica takes minutes. Every turn looks one start-up time ahead in steps of a turn."""


class Mode(StrEnum):
    """What a decision may do: be recorded, be recommended (event, metric), or be enforced."""

    OBSERVE = "Observe"
    RECOMMEND = "Recommend"
    ENFORCE = "Enforce"


class Workload(StrEnum):
    """What a request is to whoever sent it.

    Online: somebody waits for the answer. Streaming: the same with long open requests, so demand is a level
    (concurrency). Batch: a backlog that must be done by a deadline, slo.queueWait; nobody waits meanwhile, and nothing
    is forecast.
    """

    ONLINE = "Online"
    STREAMING = "Streaming"
    BATCH = "Batch"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Target(_Part):
    """What is scaled: anything with a scale subresource."""

    api_version: str = "apps/v1"
    kind: str = "Deployment"
    name: str = ""
    """Empty: the policy's own name."""
    actuation: Literal["Scale", "HPAFloor", "KEDA", "KnativeMinScale", "KServeMinReplicas"] = "Scale"
    """Scale: its replicas are set. KEDA: it asks for them, by its external scaler interface. The others leave it to the
    autoscaler that it has and set the floor under that one: minReplicas of its HPA, min-scale of a Knative Service,
    minReplicas of a KServe InferenceService."""
    gpus_per_replica: Annotated[int, Field(ge=0, le=MOST_REPLICAS, strict=True)] = 1
    cost_per_replica_hour: Positive = 1.0
    """Any currency; only ratios matter."""
    pool: str = ""
    """Which GPU pool it draws from. The service is told how many GPUs each pool has (HEADSTART_POOLS) and keeps the
    orders of all that draw from it within."""


class Demand(_Part):
    """Where demand is read: a named signal set, or PromQL of your own."""

    unit: DemandUnit = DemandUnit.REQUESTS
    preset: str = "http"
    selector: dict[str, str] = Field(default_factory=dict)
    query: str = ""
    """PromQL giving demand per second (concurrency: a level). Overrides the preset's demand."""


class Latency(_Part):
    """A bound on measured latency, from the preset's latency signal."""

    percentile: Annotated[float, Field(gt=0, lt=1)] = 0.95
    below: PositiveDuration


class Slo(_Part):
    """What users are promised."""

    queue_wait: Duration = timedelta(seconds=10)
    """A request is good if it waits no longer than this for a ready replica with room. Of a Batch workload: the
    deadline."""
    latency: Latency | None = None
    objective: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """Share of requests that must be good."""


class Utilization(_Part):
    target: Annotated[float, Field(gt=0, le=1)] = 0.85
    """Share of perReplica to plan for."""
    low: Fraction = 0.5
    """Below this share a replica is waste: reported by replay, never a trigger."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.target:
            raise ValueError(f"low = {self.low}, must be below target = {self.target}")
        return self


class Capacity(_Part):
    """What one ready replica carries at the SLO."""

    per_replica: Positive = 1.0
    """Demand units per second (concurrency: requests in flight)."""
    max_concurrency: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = 16
    """Requests one replica holds at once; the rest queue."""
    learn: bool = True
    """Refine from telemetry; perReplica is the prior."""
    utilization: Utilization = Utilization()


class Startup(_Part):
    """From asked for to ready."""

    expected: Annotated[PositiveDuration, at_most(LONGEST_STARTUP)] = timedelta(seconds=150)
    """At most 1d."""
    learn: bool = True
    """Learn the distribution from pod conditions; `expected` is the prior."""


class ReplicaBounds(_Part):
    min: Replicas = 0
    max: Annotated[int, Field(ge=1, le=MOST_REPLICAS, strict=True)] = 10

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min = {self.min}, must be <= max = {self.max}")
        return self


class Event(_Part):
    """A planned event that multiplies demand."""

    name: str
    start: Moment
    end: Moment
    factor: Positive

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.start >= self.end:
            raise ValueError(f"start = {self.start.isoformat()}, must be before end = {self.end.isoformat()}")
        return self


class Calendar(_Part):
    """The endpoint's local time: through daylight saving, forecasts and orders look back on earlier days at the same
    local time, and so does the arrival law of sparse endpoints."""

    timezone: TimeZone = "UTC"
    holidays: str = ""
    """Country code of the holidays package such as DE or US; empty: none. A holiday is a free day, like a weekend: to
    the day-ahead forecast, and from two weeks of history on to the lead-time model that orders may rest on; the arrival
    law of sparse endpoints knows no free days."""
    events: tuple[Event, ...] = ()

    @model_validator(mode="after")
    def _no_event_twice(self) -> Self:
        """Factors multiply: an event that stands twice would count twice. The same name at another time is another."""
        for one, other in combinations(self.events, 2):
            if one.name == other.name and one.start < other.end and other.start < one.end:
                raise ValueError(f"events: {one.name} stands twice for the same time; need it once")
        return self

    def factor_at(self, when: datetime) -> float:
        """The product of the factors of the events under way, 1 without any."""
        return math.prod(event.factor for event in self.events if event.start <= when < event.end)


class Forecast(_Part):
    method: str = "auto"
    """Of the day-ahead forecast that people look at (page, metrics, `headstart fit` and `forecast`): auto, a weighted
    pool, or the name of one method. No order rests on it: orders rest on what replaying the endpoint's own past chose.
    """
    history: Annotated[PositiveDuration, at_most(LONGEST_HISTORY)] = timedelta(days=28)
    """How much past is read, at most 400d."""
    horizon: Annotated[PositiveDuration, at_most(LONGEST_HISTORY)] = timedelta(hours=24)
    """How far that day-ahead forecast reaches, at most 400d. Orders look one start-up time ahead, whatever stands
    here."""
    refit: Annotated[PositiveDuration, at_least(SHORTEST_REFIT)] = timedelta(hours=1)
    """How often what orders rest on is learnt anew, at least 1m."""
    risk: Literal["auto"] | Annotated[float, Field(gt=0, lt=1)] = "auto"
    """auto: what replaying the endpoint's own past found cheapest; or a fixed quantile such as 0.95."""
    calendar: Calendar = Calendar()


class Threshold(_Part):
    """A reactive threshold: it only ever raises the order."""

    signal: str
    above: NonNegative
    """Per ready replica."""


class Panic(_Part):
    factor: Factor = 2.0
    window: PositiveWindow = timedelta(seconds=60)
    """At most 1h."""


class Reactive(_Part):
    thresholds: tuple[Threshold, ...] = ()
    panic: Panic = Panic()


class ScaleToZero(_Part):
    enabled: bool = False
    cold_request_cost: NonNegative = 0.05
    """Price of one request that meets zero ready replicas, in the unit of costPerReplicaHour."""
    min_idle: Duration = timedelta(minutes=10)
    """Never sooner than this after the last request, nor while requests in flight are known."""
    pre_warm: bool = True
    """Be ready again before the predicted next arrival."""
    trust: Annotated[float, Field(gt=0, le=1)] = 0.5
    """How far the idle forecast may move the hold time from break-even: cost <= (1 + 1/trust) x optimum."""


class RateLimit(_Part):
    """One HPA v2 scaling policy, with a fraction where the HPA has a percentage."""

    type: Literal["Fraction", "Replicas"]
    value: Positive
    period: PositiveWindow
    """At most 1h."""

    @model_validator(mode="after")
    def _whole_replicas(self) -> Self:
        if self.type == "Replicas" and self.value != int(self.value):
            raise ValueError(f"value = {self.value}, must be a whole number for type Replicas")
        return self


class ScalingRules(_Part):
    stabilization_window: Literal["auto"] | Window
    """At most 1h."""
    policies: tuple[RateLimit, ...]
    select: Literal["Max", "Min", "Disabled"] = "Max"

    @model_validator(mode="after")
    def _may_move(self) -> Self:
        if not self.policies and self.select != "Disabled":
            raise ValueError("policies: need at least one, or select: Disabled; without any nothing would move")
        return self


class ScaleUp(ScalingRules):
    stabilization_window: Window = timedelta(0)
    policies: tuple[RateLimit, ...] = (
        RateLimit(type="Fraction", value=1.0, period=timedelta(seconds=15)),
        RateLimit(type="Replicas", value=4, period=timedelta(seconds=15)),
    )


class ScaleDown(ScalingRules):
    stabilization_window: Literal["auto"] | Window = "auto"
    policies: tuple[RateLimit, ...] = (RateLimit(type="Fraction", value=1.0, period=timedelta(seconds=15)),)

    @model_validator(mode="after")
    def _no_more_than_there_is(self) -> Self:
        over = [limit.value for limit in self.policies if limit.type == "Fraction" and limit.value > 1]
        if over:
            raise ValueError(f"policies: found Fraction of {over[0]:g}, need <= 1 (a fraction, not percent)")
        return self


class Behavior(_Part):
    """How fast the order may move: HPA v2's shape and semantics."""

    scale_up: ScaleUp = ScaleUp()
    scale_down: ScaleDown = ScaleDown()


class Growth(_Part):
    growth: Factor
    within: PositiveWindow
    """At most 1h."""


class TriggerAction(_Part):
    hold_scale_in_for: Duration = timedelta(0)
    at_least_replicas: Replicas = 0


class Trigger(_Part):
    """Demand that grew by the factor `growth` within a window holds scale-in and sets a floor. Requests are counted:
    growth that chance explains (8 in a minute, then 24) is none.
    """

    name: Name
    when: Growth
    then: TriggerAction


class Override(_Part):
    """Bounds planned by people: a cron with a duration, or one span."""

    name: Name
    cron: str = ""
    duration: PositiveDuration | None = None
    timezone: TimeZone = "UTC"
    start: Moment | None = None
    end: Moment | None = None
    min: Replicas | None = None
    max: Replicas | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if bool(self.cron) == (self.start is not None):
            raise ValueError("need either cron with duration, or start with end")
        if self.cron and (self.duration is None or self.end is not None):
            raise ValueError("cron needs a duration and no end")
        if self.start is not None and (self.end is None or self.end <= self.start or self.duration is not None):
            raise ValueError("start needs an end after it and no duration")
        if self.start is not None and self.timezone != "UTC":
            raise ValueError("timezone is read with cron only; start and end need their own zones")
        if self.min is None and self.max is None:
            raise ValueError("need min or max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min = {self.min}, must be <= max = {self.max}")
        return self


class Promote(_Part):
    """The gate from Observe to Enforce: see scaler.core.promotion. Absent: the mode is what it says."""

    after: PositiveDuration = timedelta(days=3)
    if_no_worse_than: Literal["reactive"] = "reactive"


class Safety(_Part):
    missing_metrics: Literal["Hold", "LastGood", "Floor"] = "Hold"
    """Hold: keep what is ordered. LastGood: the last reading, up to maxForecastAge. Floor: as
    Hold, and at least one replica. Under each of them replicas.min and active overrides hold.
    """
    max_forecast_age: PositiveDuration = timedelta(minutes=30)
    max_premium: NonNegative = 0.05
    """The plan may never have cost more than this share over the shadow reactive policy, nor served worse."""
    promote: Promote | None = None
    paused: bool = False


class Budget(_Part):
    """Who gives way when the GPUs of a pool do not suffice for all that draw from it, and what one day may cost: of the
    local day of forecast.calendar.timezone."""

    priority: Annotated[int, Field(ge=0, le=1_000_000, strict=True)] = 100
    """The higher is served first, down to the others' minimum; equals share."""
    gpu_hours_per_day: Positive | None = None
    """From an order until the replica is let go. What is left must pay for an order for an hour; the minimum stands
    whatever is left."""
    cost_per_day: Positive | None = None
    """The same in the unit of costPerReplicaHour; the tighter one holds."""


class Rollout(_Part):
    """While replicas of two versions of the model server stand: an update under way, or a canary beside the old one."""

    version_label: Label = ""
    """The pods' label that names the version; empty: the hash that Kubernetes gives their template."""
    hold_scale_in_during_rollout: bool = True
    """What the new version carries is not known yet, and the old one is wanted for a way back."""


class PolicySpec(_Part):
    mode: Mode = Mode.OBSERVE
    workload: Workload = Workload.ONLINE
    target: Target = Target()
    demand: Demand = Demand()
    slo: Slo = Slo()
    capacity: Capacity = Capacity()
    startup: Startup = Startup()
    replicas: ReplicaBounds = ReplicaBounds()
    forecast: Forecast = Forecast()
    reactive: Reactive = Reactive()
    scale_to_zero: ScaleToZero = ScaleToZero()
    behavior: Behavior = Behavior()
    triggers: tuple[Trigger, ...] = ()
    overrides: tuple[Override, ...] = ()
    safety: Safety = Safety()
    budget: Budget = Budget()
    rollout: Rollout = Rollout()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for kind, names in (
            ("triggers", [t.name for t in self.triggers]),
            ("overrides", [o.name for o in self.overrides]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{kind}: the name {twice[0]} stands twice")
        return self


class Metadata(_Part):
    name: Name
    namespace: Name = "default"


class ScalingPolicy(_Part):
    """One InferenceScalingPolicy document."""

    api_version: Literal["headstart.dev/v1alpha1"] = API_VERSION  # type: ignore[assignment]
    kind: Literal["InferenceScalingPolicy"] = "InferenceScalingPolicy"
    metadata: Metadata
    spec: PolicySpec = Field(default_factory=PolicySpec)

    @property
    def endpoint(self) -> EndpointId:
        return EndpointId(self.metadata.namespace, self.metadata.name)

    @property
    def target_name(self) -> str:
        return self.spec.target.name or self.metadata.name

    @property
    def scaled(self) -> tuple[str, str, str, str]:
        """What is scaled: namespace, API version, kind and name. Policies of one target have it in common."""
        target = self.spec.target
        return self.metadata.namespace, target.api_version, target.kind, self.target_name

    @property
    def may_order(self) -> bool:
        """Whether replicas may be ordered for it: it enforces, or observes until its gate opens."""
        spec = self.spec
        return spec.mode is Mode.ENFORCE or (spec.mode is Mode.OBSERVE and spec.safety.promote is not None)

    def document(self) -> dict[str, Any]:
        """The policy as it would stand in YAML, every default written out."""
        return self.model_dump(mode="json", by_alias=True)
