"""The running service: turns, refits and pruning on a schedule, and what they leave behind for people to see."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from time import perf_counter

import structlog

from forecaster.errors import ForecasterError
from scaler.adapters.clock import SystemClock
from scaler.adapters.keda.orders import OrderBoard
from scaler.adapters.store.capacities import keep_capacities, kept_capacities
from scaler.adapters.store.store import SqlStore
from scaler.adapters.telemetry import Telemetry
from scaler.app import dayahead
from scaler.app.board import Board
from scaler.app.logs import log_decision
from scaler.app.scheduler import Jobs
from scaler.app.settings import Settings
from scaler.core.startup import learned_startup
from scaler.cycle import Cycle, prior_startup
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import SHORTEST_REFIT, ScalingPolicy
from scaler.domain.record import DecisionRecord
from scaler.domain.replicas import StartupLaw
from scaler.errors import HeadstartError, UnknownVersion
from scaler.ports import Clock

REFIT_LOOK = SHORTEST_REFIT
"""How often it is looked who is due for a refit."""
RETRY = timedelta(minutes=2)
"""A refit that failed is tried again after this, not after a whole `forecast.refit`."""
FORECAST_EVERY = timedelta(minutes=30)
PRUNE_EVERY = timedelta(hours=1)
KEEP_EVERY = timedelta(minutes=5)
"""How often learned capacity is kept: it moves by a few percent in that time."""
LEAST_WALL_SECONDS = 0.05
RESTORED_TURNS = 240
ENOUGH_STARTS = 10
"""Fewer say less than the policy does. A new law means replaying the endpoint's whole past anew."""


@dataclass(kw_only=True)
class Service:
    """Everything that runs. Built by bootstrap only."""

    settings: Settings
    clock: Clock
    cycle: Cycle
    store: SqlStore
    board: Board
    telemetry: Telemetry
    jobs: Jobs
    policy_problems: Callable[[], Sequence[str]] = tuple
    """What is wrong with policies whose last good version still counts."""
    tell_policies: Callable[[Sequence[DecisionRecord]], None] = lambda records: None
    """Called with what a turn decided: custom resources show it in their status."""
    orders: OrderBoard | None = None
    """What KEDA is served while the service runs. None: it is not served."""
    after_turn: Callable[[], None] = lambda: None
    """Called when a turn was acted on and recorded: a simulated world moves here."""
    _due: dict[EndpointId, datetime] = field(default_factory=dict)
    _refitted: dict[EndpointId, ScalingPolicy] = field(default_factory=dict)
    _laws: Mapping[EndpointId, StartupLaw] = field(default_factory=dict)
    _policies_loaded: bool = False
    _said: Mapping[str, str] = field(default_factory=dict)
    _turn_finished_at: float | None = None
    _started_at: float = field(default_factory=perf_counter)

    def start(self) -> None:
        """From now on endpoints are refitted and decided upon. Returns at once."""
        now = SystemClock().now()
        settings = self.settings
        self.jobs.every(self._wall(FORECAST_EVERY), "forecast", self.forecast, now)
        self.jobs.every(self._wall(REFIT_LOOK), "refit", self.refit_due, now, may_be_abandoned=True)
        self.jobs.every(max(settings.wall_turn_seconds, LEAST_WALL_SECONDS), "turn", self.turn, now)
        self.jobs.every(self._wall(PRUNE_EVERY), "prune", self.prune, now)
        self.jobs.every(self._wall(KEEP_EVERY), "keep", self.keep, now)
        self.jobs.start()

    def stop(self) -> None:
        """The turn under way is finished, the refit under way is abandoned, what was learned is kept, the store is
        closed."""
        self.jobs.stop()
        try:
            self.keep()
        except HeadstartError as error:
            structlog.get_logger("headstart").warning("not kept", what="learned capacity", why=str(error))
        self.store.close()

    def turn(self) -> None:
        """One turn over all endpoints, shown everywhere it is to be seen."""
        began = perf_counter()
        report = self.cycle.turn()
        ended = perf_counter()
        self.tell_policies(report.records)
        broken = "; ".join(self.policy_problems())
        if broken:
            report = replace(report, problems={**report.problems, "policy documents": broken})
        self.telemetry.turn(report, ended - began)
        self.board.turn(report)
        for record in report.records:
            log_decision(record)
        self._say_problems(report.problems)
        self._policies_loaded = self._policies_loaded or "policies" not in report.problems
        self._turn_finished_at = ended
        self.after_turn()

    def _say_problems(self, problems: Mapping[str, str]) -> None:
        """Each problem once when it comes and once when it has gone: the page and the metrics go on showing it."""
        log = structlog.get_logger("headstart")
        for what in problems.keys() - self._said.keys():
            log.warning("problem", what=what, why=problems[what])
        for what in self._said.keys() - problems.keys():
            log.info("problem gone", what=what)
        self._said = dict(problems)

    def refit_due(self) -> None:
        """Endpoints that are due are refitted with one history query. The first refits and those of a changed policy
        come at once, later ones are spread over the period by the endpoint's name."""
        now = self.clock.now()
        policies = self.cycle.policies.load()
        startups = self._startup_laws(policies, now)
        due = [
            policy
            for policy in policies
            if self._due.get(policy.endpoint, now) <= now or self._refitted.get(policy.endpoint) != policy
        ]
        if not due:
            return
        began = perf_counter()
        problems = self.cycle.refit(due, startups)
        self.telemetry.refit(problems, perf_counter() - began)
        for policy in due:
            self._refitted[policy.endpoint] = policy
            self._due[policy.endpoint] = self._next_due(policy, now, problems)
        log = structlog.get_logger("headstart")
        for what, why in problems.items():
            log.warning("refit failed", what=what, why=why)
        log.info("refitted", endpoints=len(due) - len(problems), seconds=round(perf_counter() - began, 3))

    def forecast(self) -> None:
        """Day-ahead forecasts of all endpoints for people to look at, from one history query."""
        now = self.clock.now()
        policies = self.cycle.policies.load()
        longest = max(policy.spec.forecast.history for policy in policies)
        histories = self.cycle.source.history(policies, now - longest, now, dayahead.STEP)
        for policy in policies:
            history = histories.get(policy.endpoint)
            if history is None:
                continue
            self.board.history(policy.endpoint, history)
            try:
                made = dayahead.day_ahead(policy, history, now)
            except ForecasterError as error:
                self.telemetry.error("forecast")
                structlog.get_logger("headstart").warning("no forecast", what=str(policy.endpoint), why=str(error))
                continue
            self.board.forecast(policy.endpoint, made)
            self.telemetry.forecast(policy.endpoint, made)

    def prune(self) -> None:
        gone = self.store.prune(self.clock.now() - self.settings.keep)
        structlog.get_logger("headstart").debug("pruned", decisions=gone)

    def keep(self) -> None:
        """What was learned about capacity outlives this process."""
        keep_capacities(self.store, dict(self.cycle.capacities), self.clock.now())

    def why_dead(self) -> str:
        """Why the loop does not live; "" while it does."""
        limit = self.settings.stalled_after_seconds
        age = perf_counter() - (self._turn_finished_at or self._started_at)
        return f"no turn finished for {age:.0f} s (limit {limit:.0f} s)" if age > limit else ""

    def why_not_ready(self) -> str:
        """What is still missing before the service does its job; "" when nothing is."""
        if self._turn_finished_at is None:
            return "the first turn has not finished"
        if not self._policies_loaded:
            return self.board.problems.get("policies", "policies are not loaded")
        try:
            self.store.check_writable()
        except HeadstartError as error:
            return str(error)
        return self.why_dead()

    def restore(self) -> None:
        """The page shows the last turns of the run before, and what was learned about capacity holds on."""
        try:
            self.cycle.capacities.update(kept_capacities(self.store))
        except UnknownVersion as error:
            structlog.get_logger("headstart").warning("learned anew", what="capacity", why=str(error))
        for endpoint in self.store.endpoints():
            self.board.restore(endpoint, self.store.last_rows(endpoint, RESTORED_TURNS))

    def _startup_laws(self, policies: Sequence[ScalingPolicy], now: datetime) -> Mapping[EndpointId, StartupLaw]:
        """The law of each endpoint from every start that was ever seen, those still under way included."""
        seen = self.cycle.target.startups(policies)
        laws = {}
        for policy in policies:
            present = seen.get(policy.endpoint, ())
            self.store.keep_startups(policy.endpoint, present, now)
            under_way = [start for start in present if start.ready_at is None and not start.failed]
            known = [*self.store.startups(policy.endpoint), *under_way]
            learns, before = policy.spec.startup.learn, self._laws.get(policy.endpoint)
            prior = prior_startup(policy)
            if not learns or before is None or not before.n_observed:  # the policy may have changed since
                before = prior
            enough = learns and len(known) >= ENOUGH_STARTS
            laws[policy.endpoint] = learned_startup(prior, known, now, before) if enough else before
        self._laws = laws
        return laws

    def _wall(self, span: timedelta) -> float:
        return max(self.settings.wall_seconds(span), LEAST_WALL_SECONDS)

    def _next_due(self, policy: ScalingPolicy, now: datetime, problems: Mapping[str, str]) -> datetime:
        period = policy.spec.forecast.refit
        if "metrics" in problems or str(policy.endpoint) in problems:
            return now + min(RETRY, period)
        if policy.endpoint in self._due:
            return now + period
        # crc32 and not hash(): the same spread in every process.
        spread = zlib.crc32(str(policy.endpoint).encode()) / 2**32
        return now + period * (0.5 + 0.5 * spread)
