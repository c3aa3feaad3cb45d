"""One turn: read the clock once; fetch, decide, act, record. The same turn runs in the cluster and in the simulator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil, inf

import numpy as np

from forecaster.errors import ForecasterError
from forecaster.series import DemandSeries, DemandUnit
from scaler.core import rule
from scaler.core.allocation import PoolUse, undrawn_pools, within_pools
from scaler.core.budget import Spend, limit_replica_hours, midnight, spent
from scaler.core.capacity import CapacityObservation, LearnedCapacity, advance, profile_of
from scaler.core.decide import decide
from scaler.domain.decision import Actuation, ActuationOutcome, Decision
from scaler.domain.endpoint import EndpointId
from scaler.domain.fields import LONGEST_WINDOW
from scaler.domain.policy import Mode, ScalingPolicy, Workload
from scaler.domain.record import DecisionRecord
from scaler.domain.replicas import CapacityProfile, ReplicaState, StartupLaw
from scaler.domain.snapshot import ControlSignals, PastTurn, Snapshot
from scaler.errors import HeadstartError
from scaler.ports import Advice, Advisor, Clock, DecisionLog, DemandSource, PolicySource, Reading, ScaleTarget

TURN = timedelta(seconds=15)
"""As the HPA's sync period: a decision is no older than the metrics it reads."""
LOOK_BACK = LONGEST_WINDOW
LOOK_BACK_AT_LEAST = timedelta(minutes=2)
SHORT_REST, LONGEST_REST = timedelta(hours=1), timedelta(days=1)
"""How far before midnight the log is read for what stood as the day began: the longer one only where the service was
down over midnight. Down for longer still, it does not know."""
PROMOTION_LASTS = timedelta(days=1)
"""A service that was down, or blind, for longer asks the gate anew."""
SLOWEST_STARTUP = 4.0
"""Start-ups that take longer than the policy expects by more than this factor are looked back at in part."""


@dataclass(frozen=True, kw_only=True)
class TurnReport:
    """What one turn did. `problems` maps what is wrong ("metrics", "cluster", "policies", "pools", an endpoint)
    to why."""

    now: datetime
    records: tuple[DecisionRecord, ...]
    problems: Mapping[str, str]
    pools: Mapping[str, PoolUse] = field(default_factory=dict)


@dataclass(kw_only=True)
class Cycle:
    """Owns nothing but its ports, the last advice and requests in flight per endpoint (for a turn without a reading),
    and learned capacity.

    `capacities` is what was learned so far, by endpoint: who runs the cycle keeps it over a restart.
    """

    clock: Clock
    policies: PolicySource
    source: DemandSource
    target: ScaleTarget
    advisor: Advisor
    log: DecisionLog
    turn_length: timedelta = TURN
    learns_capacity: bool = False
    """Refine capacity from what is read, where the policy says so. A simulated replica carries what the policy says."""
    pools: Mapping[str, int] = field(default_factory=dict)
    """GPUs of each pool; the orders of one turn stay within them together."""
    capacities: dict[EndpointId, LearnedCapacity] = field(default_factory=dict)
    _last_advice: dict[EndpointId, Advice] = field(default_factory=dict)
    _last_in_flight: dict[EndpointId, float] = field(default_factory=dict)
    _spends: dict[EndpointId, Spend] = field(default_factory=dict)
    _profiles: dict[EndpointId, CapacityProfile] = field(default_factory=dict)

    def turn(self) -> TurnReport:
        """One decision for every policy, acted on as its mode allows, all of it recorded.

        What cannot be read is held and said; no error of a port ends the turn, and none of one endpoint touches
        another.
        """
        now = self.clock.now()
        problems: dict[str, str] = {}
        try:
            policies = self.policies.load()
        except HeadstartError as error:
            return TurnReport(now=now, records=(), problems={"policies": str(error)})
        if policies and (undrawn := undrawn_pools(policies, self.pools)):
            problems["pools"] = "; ".join(f"{pool}: {why}" for pool, why in undrawn.items())
        readings = self._read(policies, now, problems)
        states = self._observe(policies, now, problems)
        if self.learns_capacity:
            self._learn_capacity(policies, readings, states, now)
        snapshots = [self._snapshot(policy, now, readings, states, problems) for policy in policies]
        decisions, pools = within_pools([(snapshot, decide(snapshot)) for snapshot in snapshots], self.pools)
        records = []
        for policy, snapshot, decision in zip(policies, snapshots, decisions, strict=True):
            actuation = self._act(policy, decision, snapshot.replicas)
            if actuation.outcome is ActuationOutcome.FAILED:
                problems[str(policy.endpoint)] = actuation.detail
            records.append(DecisionRecord(snapshot=snapshot, decision=decision, actuation=actuation))
        self.log.append(records)
        return TurnReport(now=now, records=tuple(records), problems=problems, pools=pools)

    def refit(self, policies: Sequence[ScalingPolicy], startups: Mapping[EndpointId, StartupLaw]) -> Mapping[str, str]:
        """Models and settings of these endpoints fitted anew from their history; returns what failed, by endpoint.

        One history query for all of them. An endpoint that fails keeps its last fit.
        """
        now = self.clock.now()
        if not policies:
            return {}
        longest = max(policy.spec.forecast.history for policy in policies)
        try:
            histories = self.source.history(policies, now - longest, now, self.turn_length)
        except HeadstartError as error:
            return {"metrics": str(error)}
        problems = {}
        for policy in policies:
            history = histories.get(policy.endpoint)
            if history is None:
                problems[str(policy.endpoint)] = "the source holds no history of this endpoint"
                continue
            try:
                profile = self._learned_profile(policy, startups.get(policy.endpoint))
                if policy.spec.workload is Workload.BATCH:
                    continue  # orders follow the backlog: nothing is forecast or chosen
                self.advisor.refit(policy, history.since(now - policy.spec.forecast.history), profile, now)
            except (ForecasterError, HeadstartError) as error:
                problems[str(policy.endpoint)] = str(error)
        return problems

    def _learn_capacity(
        self,
        policies: Sequence[ScalingPolicy],
        readings: Mapping[EndpointId, Reading],
        states: Mapping[EndpointId, ReplicaState],
        now: datetime,
    ) -> None:
        """Once a minute each endpoint's minute is held against what its replicas were thought to carry.

        Not while a rollout mixes revisions: what they carry together says nothing about either.
        """
        for policy in policies:
            endpoint = policy.endpoint
            reading, replicas = readings.get(endpoint), states.get(endpoint)
            if not policy.spec.capacity.learn or reading is None or replicas is None or len(replicas.revisions) > 1:
                continue
            before = self.capacities.get(endpoint)
            # Either way: after a rehearsal was restarted, what was kept may be of a later time.
            if before is None or abs(now - before.last.at) >= timedelta(minutes=1):
                minute = _capacity_seen(policy, reading, replicas, now)
                self.capacities[endpoint] = advance(
                    before,
                    minute,
                    prior_profile(policy),
                    policy.spec.slo,
                    off_backlog=policy.spec.workload is Workload.BATCH,
                )

    def _learned_profile(self, policy: ScalingPolicy, startup: StartupLaw | None) -> CapacityProfile:
        endpoint, prior = policy.endpoint, prior_profile(policy, startup)
        known = self.capacities.get(endpoint) if policy.spec.capacity.learn else None
        self._profiles[endpoint] = profile_of(known, prior, self._profiles.get(endpoint))
        return self._profiles[endpoint]

    def _read(
        self, policies: Sequence[ScalingPolicy], now: datetime, problems: dict[str, str]
    ) -> Mapping[EndpointId, Reading]:
        try:
            readings = self.source.read(policies, now)
        except HeadstartError as error:
            problems["metrics"] = str(error)
            return {}
        problems.update({str(endpoint): why for endpoint, why in self.source.problems().items()})
        return readings

    def _observe(
        self, policies: Sequence[ScalingPolicy], now: datetime, problems: dict[str, str]
    ) -> Mapping[EndpointId, ReplicaState]:
        try:
            states = self.target.observe(policies, now)
        except HeadstartError as error:
            problems["cluster"] = str(error)
            return {}
        problems.update({str(endpoint): why for endpoint, why in self.target.problems().items()})
        return states

    def _snapshot(
        self,
        policy: ScalingPolicy,
        now: datetime,
        readings: Mapping[EndpointId, Reading],
        states: Mapping[EndpointId, ReplicaState],
        problems: dict[str, str],
    ) -> Snapshot:
        endpoint = policy.endpoint
        reading, replicas = readings.get(endpoint), states.get(endpoint)
        if reading is None and "metrics" not in problems:
            problems.setdefault(str(endpoint), "the metrics source has no fresh demand of this endpoint")
        advice = self._advise(policy, reading, replicas, now, problems)
        # All that failed, and why nothing can be ordered first: metrics and cluster may be down together.
        told = [problems[what] for what in ("cluster", str(endpoint), "metrics") if what in problems]
        problem = "; ".join(dict.fromkeys(told))
        return Snapshot(
            now=now,
            endpoint=endpoint,
            policy=policy,
            profile=advice.profile,
            replicas=replicas,
            signals=advice.signals,
            queue=reading.queue if reading else np.nan,
            in_flight=self._in_flight(endpoint, reading),
            reactive=reading.reactive if reading else {},
            choice=advice.choice,
            idle=advice.idle,
            recent=self._recent_turns(policy, now),
            demand_lately=_by_minute(reading.recent, _minutes_needed(policy)) if reading else (),
            held_in_until=self.log.scale_in_held_until(endpoint, now) if _may_hold(policy) else None,
            spent_replica_hours=self._spent_today(policy, replicas, now),
            turn=self.turn_length,
            problem=problem or advice.problem,
        )

    def _in_flight(self, endpoint: EndpointId, reading: Reading | None) -> float:
        """Of this turn's reading; without one the last, so that a query that failed once ends no request. It goes no
        staler than the demand it came with: where that is no longer fresh, nothing is let go anyway."""
        if reading is not None:
            self._last_in_flight[endpoint] = reading.in_flight
        return self._last_in_flight.get(endpoint, np.nan)

    def _recent_turns(self, policy: ScalingPolicy, now: datetime) -> tuple[PastTurn, ...]:
        """As far back as the policy looks; where no turn is left there, the last one, if a promoted policy made it."""
        turns = self._turns_between(policy.endpoint, now - look_back(policy), now)
        if turns or policy.spec.safety.promote is None:
            return turns
        last = self._turns_between(policy.endpoint, now - PROMOTION_LASTS, now)[-1:]
        return tuple(turn for turn in last if turn.promoted)

    def _turns_between(self, endpoint: EndpointId, since: datetime, now: datetime) -> tuple[PastTurn, ...]:
        """Not what is later than now: a clock that was set back, or a rehearsal that ran ahead, left it there."""
        return tuple(turn for turn in self.log.recent_turns(endpoint, since) if turn.decided_at <= now)

    def _spent_today(self, policy: ScalingPolicy, replicas: ReplicaState | None, now: datetime) -> float | None:
        """Replica-hours of this local day, from the turns that the log holds of it on."""
        if limit_replica_hours(policy) == inf:
            self._spends.pop(policy.endpoint, None)  # a budget that comes back is counted from the log again
            return None
        spend = self._spends.get(policy.endpoint)
        if spend is None or spend.until > now:
            spend = self._spent_by_the_log(policy, now)
        standing = None if replicas is None else replicas.standing
        self._spends[policy.endpoint] = spent(spend, policy, now, standing)
        return self._spends[policy.endpoint].replica_hours

    def _spent_by_the_log(self, policy: ScalingPolicy, now: datetime) -> Spend | None:
        """From before midnight: what stood there stood on until the day's first turn, while nothing ran in between.
        None: no turn is known."""
        day = midnight(policy, now)
        turns = self._turns_between(policy.endpoint, day - SHORT_REST, now)
        if not any(turn.decided_at < day and turn.standing is not None for turn in turns):
            turns = self._turns_between(policy.endpoint, day - LONGEST_REST, now)
        spend = None
        for turn in turns:
            if spend is None or turn.standing not in (None, spend.standing):  # else it costs on as before
                spend = spent(spend, policy, turn.decided_at, turn.standing)
        return spend

    def _advise(
        self,
        policy: ScalingPolicy,
        reading: Reading | None,
        replicas: ReplicaState | None,
        now: datetime,
        problems: dict[str, str],
    ) -> Advice:
        """This turn's advice; without a reading (or when advising fails) the last one, which shows its age. So too with
        LastGood where a reading knows nothing of the last minute."""
        endpoint = policy.endpoint
        if reading is not None:
            if policy.spec.workload is Workload.BATCH:
                return _advice_for_batch(reading, self._profiles.get(endpoint) or prior_profile(policy))
            try:
                advice = self.advisor.advise(policy, reading, replicas, now)
            except (ForecasterError, HeadstartError) as error:
                problems[str(endpoint)] = str(error)
            else:
                if advice.signals is not None:
                    self._last_advice[endpoint] = advice
                if advice.signals is not None or policy.spec.safety.missing_metrics != "LastGood":
                    return advice
        unknown = Advice(signals=None, choice=None, idle=None, profile=prior_profile(policy))
        return self._last_advice.get(endpoint, unknown)

    def _act(self, policy: ScalingPolicy, decision: Decision, seen: ReplicaState | None) -> Actuation:
        """The decision carried out as far as its mode allows; an error of the cluster is an outcome, not an end."""
        try:
            return self._carry_out(policy, decision, seen)
        except HeadstartError as error:
            return Actuation(outcome=ActuationOutcome.FAILED, detail=str(error))

    def _carry_out(self, policy: ScalingPolicy, decision: Decision, seen: ReplicaState | None) -> Actuation:
        if decision.mode is Mode.OBSERVE:
            return Actuation(outcome=ActuationOutcome.OBSERVED)
        if seen is None or decision.final is None:
            return Actuation(outcome=ActuationOutcome.FAILED, detail="the cluster did not answer: nothing was ordered")
        if decision.mode is Mode.RECOMMEND:
            actuation = Actuation(outcome=ActuationOutcome.RECOMMENDED)
        elif policy.spec.safety.paused:
            actuation = Actuation(outcome=ActuationOutcome.UNCHANGED, detail="paused")
        else:
            actuation = self.target.order(policy, decision.final, seen)
        # After the order: a slow event must not delay a replica.
        if decision.final != decision.current or decision.held_for_lack_of_knowledge():
            self.target.announce(policy, decision)
        return actuation


def prior_startup(policy: ScalingPolicy) -> StartupLaw:
    """The start-up law before anything was learned: what the policy expects, for certain."""
    expected = policy.spec.startup.expected
    return StartupLaw(p50=expected, p95=expected, mean=expected)


def prior_profile(policy: ScalingPolicy, startup: StartupLaw | None = None) -> CapacityProfile:
    """Capacity as the policy says it."""
    capacity, target = policy.spec.capacity, policy.spec.target
    return CapacityProfile(
        demand_per_replica=capacity.per_replica,
        max_concurrency=capacity.max_concurrency,
        startup=startup or prior_startup(policy),
        gpus_per_replica=target.gpus_per_replica,
        cost_per_replica_hour=target.cost_per_replica_hour,
    )


def _capacity_seen(
    policy: ScalingPolicy, reading: Reading, replicas: ReplicaState, now: datetime
) -> CapacityObservation:
    """The last minute as the capacity law wants it. Another unit or value in the policy begins anew."""
    unit, per_replica = policy.spec.demand.unit, policy.spec.capacity.per_replica
    n_bins = max(1, round(60 / reading.recent.step_seconds))
    last = reading.recent.values[-n_bins:]
    return CapacityObservation(
        at=now,
        demand=float(last.mean()) if len(last) == n_bins else np.nan,
        ready_replicas=replicas.ready,
        in_flight=reading.in_flight,
        queue=reading.queue if unit is DemandUnit.REQUESTS else np.nan,
        latency_seconds=reading.latency_seconds,
        version=f"{unit} {per_replica:g}",
        revision=replicas.revisions[0] if replicas.revisions else "",
    )


def look_back(policy: ScalingPolicy) -> timedelta:
    """How far back a turn looks: the longest window or period of the policy's behavior, within LOOK_BACK.

    At least far enough to find the turn before after a few were missed, and the whole hour where a promotion hangs on
    it.
    """
    if policy.spec.safety.promote is not None:
        return LOOK_BACK
    behavior = policy.spec.behavior
    spans = [LOOK_BACK_AT_LEAST]
    for rules in (behavior.scale_up, behavior.scale_down):
        if isinstance(rules.stabilization_window, timedelta):
            spans.append(rules.stabilization_window)
        spans.extend(limit.period for limit in rules.policies)
    if behavior.scale_down.stabilization_window == "auto":
        # A share of the learned start-up time, which may be a few times what the policy expects.
        spans.append(SLOWEST_STARTUP * rule.AUTO_WINDOW_STARTUPS * policy.spec.startup.expected)
    return min(max(spans), LOOK_BACK)


def _may_hold(policy: ScalingPolicy) -> bool:
    return bool(policy.spec.triggers or policy.spec.reactive.thresholds)


def _minutes_needed(policy: ScalingPolicy) -> int:
    """How many of the last minutes the policy's triggers, its panic or the deadline of its backlog look at."""
    minute, is_batch = timedelta(minutes=1), policy.spec.workload is Workload.BATCH
    deadline_minutes = ceil(policy.spec.slo.queue_wait / minute) if is_batch else 0
    looks = bool(policy.spec.triggers) or policy.spec.reactive.panic.window > minute
    return max(deadline_minutes, 1 + LONGEST_WINDOW // minute if looks else 0)


def _advice_for_batch(reading: Reading, profile: CapacityProfile) -> Advice:
    """What is known of the present; what must be ordered follows from the backlog."""
    demand = next(iter(_by_minute(reading.recent, 1)), np.nan)
    signals = ControlSignals(
        read_at=reading.recent.end, demand_now=demand, demand_ahead=demand, dip_floor=0.0, peak_soon=demand
    )
    return Advice(signals=signals, choice=None, idle=None, profile=profile)


def _by_minute(recent: DemandSeries, most: int) -> tuple[float, ...]:
    """Demand per second of each of the last full minutes, oldest first, counted back from the newest bin."""
    per_minute = max(1, round(60 / recent.step_seconds))
    n_minutes = min(len(recent) // per_minute, most)
    if n_minutes == 0:
        return ()
    tail = recent.values[-n_minutes * per_minute :].reshape(n_minutes, per_minute)
    return tuple(float(value) for value in tail.mean(axis=1))
