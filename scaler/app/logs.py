"""Logs: one structured line per turn and endpoint on stderr; what it does not need is DEBUG."""

import logging
import os
import sys

import structlog

from scaler.domain.decision import Decision
from scaler.domain.record import DecisionRecord

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_logs(level: str, style: str) -> None:
    """Every later log line goes to stderr as JSON, or for people (`console`): in colours where it is a terminal and
    NO_COLOR (no-color.org) is not set."""
    colours = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)
        if style == "console"
        else structlog.processors.JSONRenderer()
    )
    processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="logged_at"),
    ]
    if style == "json":
        processors.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")


def log_decision(record: DecisionRecord) -> None:
    """The whole decision in one line; a failed order and a hold for lack of knowledge are warnings."""
    decision, snapshot = record.decision, record.snapshot
    log = structlog.get_logger("headstart")
    failed = record.actuation.outcome.value in ("failed", "conflict")
    say = log.warning if failed or decision.held_for_lack_of_knowledge() else log.info
    say(
        "decision",
        endpoint=str(decision.endpoint),
        decided_at=decision.decided_at.isoformat(),
        mode=decision.mode.value,
        current=decision.current,
        final=decision.final,
        ready=decision.ready,
        starting=decision.starting,
        demand=_rounded(snapshot.signals.demand_now if snapshot.signals else float("nan")),
        reasons=reasons(decision),
        sentence=decision.sentence(),
        outcome=record.actuation.outcome.value,
        detail=record.actuation.detail,
        problem=snapshot.problem,
    )


def reasons(decision: Decision) -> list[str]:
    """Codes of the guardrails that changed the order or held it."""
    told = [verdict for verdict in decision.verdicts if verdict.changed or decision.held_for_lack_of_knowledge()]
    return [verdict.reason_code.value for verdict in told]


def _rounded(value: float) -> float | None:
    return round(value, 4) if value == value else None
