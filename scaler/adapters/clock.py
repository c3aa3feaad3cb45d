"""The only place that reads the clock."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from forecaster.series import require_utc


class SystemClock:
    """The present, as the machine knows it."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def to_wall(self, service: datetime) -> datetime:
        return service

    def to_service(self, wall: datetime) -> datetime:
        return wall

    def to_wall_span(self, service: timedelta) -> timedelta:
        return service


@dataclass(frozen=True, kw_only=True)
class ScaledClock:
    """Service time that runs `factor` times faster than the wall, for rehearsals: a day in minutes.

    At the wall time `wall_origin` the service time is `service_origin`. With factor 60, ten wall seconds later the
    service time is ten minutes later. Adapters whose other side lives in wall time (Prometheus, pods) convert with
    `to_wall` and `to_service`.
    """

    wall_origin: datetime
    service_origin: datetime
    factor: float

    def __post_init__(self) -> None:
        require_utc(self.wall_origin, "wall origin")
        require_utc(self.service_origin, "service origin")
        if not self.factor > 0:
            raise ValueError(f"time scale: need > 0, have {self.factor}")

    @classmethod
    def from_now(cls, factor: float, service_origin: datetime | None = None) -> "ScaledClock":
        """Starts now. Without `service_origin` both times agree at the start."""
        wall = datetime.now(UTC)
        return cls(wall_origin=wall, service_origin=service_origin or wall, factor=factor)

    def now(self) -> datetime:
        return self.to_service(datetime.now(UTC))

    def to_wall(self, service: datetime) -> datetime:
        return self.wall_origin + (service - self.service_origin) / self.factor

    def to_service(self, wall: datetime) -> datetime:
        return self.service_origin + (wall - self.wall_origin) * self.factor

    def to_wall_span(self, service: timedelta) -> timedelta:
        return service / self.factor
