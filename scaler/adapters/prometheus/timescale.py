"""Which wall time a service time is, for rehearsals that run faster than the wall."""

from datetime import datetime, timedelta
from typing import Protocol


class TimeScale(Protocol):
    """Both clocks of scaler.adapters.clock are one."""

    def to_wall(self, service: datetime) -> datetime:
        """The wall time at which the service time was, or will be, `service`."""
        ...

    def to_wall_span(self, service: timedelta) -> timedelta:
        """How long the wall clock takes for a span of service time."""
        ...


class Identity:
    """Service time is wall time."""

    def to_wall(self, service: datetime) -> datetime:
        return service

    def to_wall_span(self, service: timedelta) -> timedelta:
        return service
