"""The day-ahead forecast that people look at: on the page, in the metrics, by `headstart forecast`."""

from datetime import UTC, datetime, timedelta

from forecaster.calendar import DemandCalendar, PlannedEvent
from forecaster.forecast import DemandForecast
from forecaster.forecaster import Forecaster
from forecaster.series import DemandSeries
from scaler.domain.policy import ScalingPolicy

STEP = timedelta(minutes=5)
QUICK_METHOD = "profile"
"""What `method: auto` shows on the page: the level-times-shape profile takes milliseconds. No order rests on it: orders
rest on what replaying chose."""


def day_ahead(policy: ScalingPolicy, history: DemandSeries, now: datetime) -> DemandForecast:
    """Quantiles over the policy's horizon at STEP. Raises ForecasterError where history is too short."""
    spec = policy.spec.forecast
    method = QUICK_METHOD if spec.method == "auto" else spec.method
    forecaster = Forecaster(method=method, calendar=calendar_of(policy))
    coarse = history.resampled(max(STEP, history.step))
    fitted = forecaster.fit(str(policy.endpoint), coarse)
    return forecaster.forecast(fitted, coarse, issued_at=now, horizon=spec.horizon)


def calendar_of(policy: ScalingPolicy) -> DemandCalendar:
    """The policy's calendar as the forecaster knows it."""
    calendar = policy.spec.forecast.calendar
    events = tuple(
        PlannedEvent(
            name=event.name,
            start=datetime.fromtimestamp(event.start.timestamp(), UTC),
            end=datetime.fromtimestamp(event.end.timestamp(), UTC),
            factor=event.factor,
        )
        for event in calendar.events
    )
    return DemandCalendar(timezone=calendar.timezone, holidays_of=calendar.holidays, events=events)
