"""Our own metrics, in Prometheus' words. docs/metrics.md lists them; a test holds the two equal."""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from math import nan

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from forecaster.forecast import DemandForecast
from scaler.core.budget import limit_replica_hours
from scaler.cycle import TurnReport
from scaler.domain.endpoint import EndpointId
from scaler.domain.record import DecisionRecord

ENDPOINT = ("namespace", "name")
NEXT_HOUR = timedelta(hours=1)
TURN_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0)


class Telemetry:
    """Counts and gauges of one service, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        counter = partial(Counter, registry=self._registry)
        gauge = partial(Gauge, registry=self._registry)
        histogram = partial(Histogram, registry=self._registry)
        self._decisions = counter("headstart_decisions", "Decisions taken.", (*ENDPOINT, "mode"))
        self._outcomes = counter("headstart_actuations", "What came of the decisions.", (*ENDPOINT, "outcome"))
        self._verdicts = counter(
            "headstart_verdicts", "Guardrail verdicts that changed an order.", ("guardrail", "reason")
        )
        self._holds = counter("headstart_holds", "Decisions that held for lack of knowledge.", (*ENDPOINT, "reason"))
        self._errors = counter(
            "headstart_errors",
            "What failed: metrics, cluster, policies, policy documents, pools, store, endpoint, refit, forecast, or a "
            "job.",
            ("stage",),
        )
        self._turn = histogram(
            "headstart_turn_duration_seconds", "Wall time of one turn over all endpoints.", buckets=TURN_BUCKETS
        )
        self._refit = histogram(
            "headstart_refit_duration_seconds",
            "Wall time of one refit, history query included.",
            buckets=(0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0),
        )
        self._last_turn = gauge("headstart_last_turn_timestamp_seconds", "Service time of the last finished turn.")
        self._endpoint = gauge(
            "headstart_endpoint_info", "Always 1; the label pool is the policy's target.pool.", (*ENDPOINT, "pool")
        )
        self._replicas = gauge(
            "headstart_replicas",
            "Replicas that are ready, starting, desired by the target, and decided; NaN: not known.",
            (*ENDPOINT, "state"),
        )
        self._demand = gauge(
            "headstart_demand",
            "Demand of the last full minute, in units per second (concurrency: a level).",
            (*ENDPOINT, "unit"),
        )
        self._ahead = gauge(
            "headstart_demand_ahead", "Demand one start-up time ahead that the order is made for.", ENDPOINT
        )
        self._forecast = gauge(
            "headstart_forecast_demand",
            "Highest value within the next hour of each quantile of the day-ahead forecast.",
            (*ENDPOINT, "level"),
        )
        self._forecast_age = gauge("headstart_forecast_age_seconds", "Age of the forecast that plays.", ENDPOINT)
        self._startup = gauge(
            "headstart_startup_seconds", "Start-up time as learned: p50, p95, mean.", (*ENDPOINT, "statistic")
        )
        self._capacity = gauge(
            "headstart_capacity_per_replica", "Demand that one ready replica carries at the SLO.", ENDPOINT
        )
        self._replayed_missed = gauge(
            "headstart_replayed_missed_fraction",
            "Share of demand the playing setting would have missed lately; NaN where the next-arrival law decides.",
            ENDPOINT,
        )
        self._replayed_hours = gauge(
            "headstart_replayed_replica_hours",
            "Replica-hours the playing setting would have cost lately; NaN where the next-arrival law decides.",
            ENDPOINT,
        )
        self._budget = gauge(
            "headstart_budget_spent_fraction",
            "Share of the day's budget that is spent; NaN without a budget.",
            ENDPOINT,
        )
        self._pools = gauge(
            "headstart_pool_gpus",
            "GPUs of each pool with a limit: its size, asked for and granted to its endpoints together.",
            ("pool", "state"),
        )
        self._labels: dict[EndpointId, tuple[str, str]] = {}
        """Pool and unit, as the policies of the last turn name them."""
        self._known: set[EndpointId] = set()

    def turn(self, report: TurnReport, seconds: float) -> None:
        """One finished turn, of `seconds` wall time. Gauges of endpoints that are no longer there are gone."""
        self._turn.observe(seconds)
        self._last_turn.set(report.now.timestamp())
        for what in report.problems:
            self._errors.labels("endpoint" if "/" in what else what).inc()
        if "policies" not in report.problems:
            self._forget(self._known - {record.decision.endpoint for record in report.records})
        for pool, use in report.pools.items():
            for state, gpus in (("size", use.gpus), ("asked", use.asked), ("granted", use.granted)):
                self._pools.labels(pool, state).set(gpus)
        for record in report.records:
            self._known.add(record.decision.endpoint)
            self._decision(record)

    def forecast(self, endpoint: EndpointId, forecast: DemandForecast) -> None:
        """The gauges of the forecast show its next hour."""
        steps = max(round(NEXT_HOUR / forecast.step), 1)
        for level, value in zip(forecast.quantile_levels, forecast.values[:steps].max(axis=0), strict=True):
            self._forecast.labels(endpoint.namespace, endpoint.name, f"{level:g}").set(value)

    def refit(self, problems: Mapping[str, str], seconds: float) -> None:
        self._refit.observe(seconds)
        for _ in problems:
            self._errors.labels("refit").inc()

    def error(self, stage: str) -> None:
        self._errors.labels(stage).inc()

    def exposition(self) -> tuple[bytes, str]:
        """The metrics page and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def names(self) -> tuple[str, ...]:
        """Every metric by the name it is exposed under."""
        return tuple(
            f"{metric.name}_total" if metric.type == "counter" else metric.name for metric in self._registry.collect()
        )

    def _decision(self, record: DecisionRecord) -> None:
        decision, snapshot = record.decision, record.snapshot
        key = (decision.endpoint.namespace, decision.endpoint.name)
        self._decisions.labels(*key, decision.mode.value).inc()
        self._outcomes.labels(*key, record.actuation.outcome.value).inc()
        for verdict in decision.verdicts:
            if verdict.changed:
                self._verdicts.labels(verdict.guardrail, verdict.reason_code.value).inc()
        if decision.held_for_lack_of_knowledge():
            self._holds.labels(*key, decision.verdicts[0].reason_code.value).inc()
        pool, unit = snapshot.policy.spec.target.pool, snapshot.policy.spec.demand.unit.value
        self._forget_other_labels(decision.endpoint, (pool, unit))
        self._endpoint.labels(*key, pool).set(1)
        replicas = snapshot.replicas
        for state, count in (
            ("ready", decision.ready),
            ("starting", decision.starting),
            ("desired", None if replicas is None else replicas.desired),
            ("decided", decision.final),
        ):
            self._replicas.labels(*key, state).set(nan if count is None else count)
        self._capacity.labels(*key).set(snapshot.profile.demand_per_replica)
        law = snapshot.profile.startup
        for statistic, span in (("p50", law.p50), ("p95", law.p95), ("mean", law.mean)):
            self._startup.labels(*key, statistic).set(span.total_seconds())
        signals = snapshot.signals
        # Not known is NaN on the page as everywhere: a gauge that stands still would look like steady demand.
        self._demand.labels(*key, unit).set(nan if signals is None else signals.demand_now)
        self._ahead.labels(*key).set(nan if signals is None else signals.demand_ahead)
        issued_at = None if signals is None else signals.forecast_issued_at
        self._forecast_age.labels(*key).set(nan if issued_at is None else (snapshot.now - issued_at).total_seconds())
        choice = snapshot.choice
        replayed = None if choice is None or choice.by_next_arrival else choice.replayed
        self._replayed_missed.labels(*key).set(nan if replayed is None else replayed.bad_fraction)
        self._replayed_hours.labels(*key).set(nan if replayed is None else replayed.replica_hours)
        spent = snapshot.spent_replica_hours
        self._budget.labels(*key).set(nan if spent is None else spent / limit_replica_hours(snapshot.policy))

    def _forget_other_labels(self, endpoint: EndpointId, labels: tuple[str, str]) -> None:
        """A policy that names another pool or unit now leaves no gauge under the one before."""
        if self._labels.get(endpoint, labels) != labels:
            for gauge in (self._endpoint, self._demand):
                gauge.remove_by_labels({"namespace": endpoint.namespace, "name": endpoint.name})
        self._labels[endpoint] = labels

    def _forget(self, gone: set[EndpointId]) -> None:
        per_endpoint = (
            self._endpoint,
            self._replicas,
            self._demand,
            self._ahead,
            self._forecast,
            self._forecast_age,
            self._startup,
            self._capacity,
            self._replayed_missed,
            self._replayed_hours,
            self._budget,
        )
        for endpoint in gone:
            self._known.discard(endpoint)
            self._labels.pop(endpoint, None)
            for gauge in per_endpoint:
                gauge.remove_by_labels({"namespace": endpoint.namespace, "name": endpoint.name})
