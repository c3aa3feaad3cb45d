"""What a policy's fields hold: durations, shares, counts, times, each with what is allowed and how it is written.

Durations are written `30s`, `5m`, `2h`, `7d`.
"""

import re
from datetime import date, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, PlainSerializer, WithJsonSchema

LONGEST_DURATION = timedelta(days=3650)
"""Ten years: more than any span here means, and counted from today still a date."""
LONGEST_WINDOW = timedelta(hours=1)
"""The HPA's longest stabilisation window: no turn looks back further."""
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DATE = re.compile(r"\s*\d{4}-\d{2}-\d{2}")
_LABEL = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[a-zA-Z0-9]([-a-zA-Z0-9_.]*[a-zA-Z0-9])?")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def parse_duration(value: object) -> timedelta:
    """A timedelta from `90s`, `5m`, `1d8h`; a timedelta passes through. Raise ValueError for anything else, and for
    more than LONGEST_DURATION."""
    if isinstance(value, timedelta):
        return value
    text = value.strip() if isinstance(value, str) else ""
    if not text or _DURATION.sub("", text):
        raise ValueError("need a duration such as 30s, 5m, 2h, 7d")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text))
    if seconds > LONGEST_DURATION.total_seconds():  # before it is a timedelta, which holds no more than 10^9 days
        raise ValueError(f"need a duration of at most {format_duration(LONGEST_DURATION)}")
    return timedelta(seconds=seconds)


def format_duration(value: timedelta) -> str:
    """The shortest text that parses back to `value`: `150s` stays `150s`, 300 s is `5m`."""
    seconds = value.total_seconds()
    for unit in ("d", "h", "m", "s"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{int(seconds // _SECONDS[unit])}{unit}"
    return "0s" if seconds == 0 else f"{round(seconds * 1000)}ms"


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    Field(ge=timedelta(0)),
    WithJsonSchema({"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|m|h|d))+$", "examples": ["30s", "5m", "2h"]}),
]
PositiveDuration = Annotated[Duration, Field(gt=timedelta(0))]


def at_most(longest: timedelta) -> AfterValidator:
    def checked(value: timedelta) -> timedelta:
        if value > longest:
            raise ValueError(f"need a duration of at most {format_duration(longest)}")
        return value

    return AfterValidator(checked)


def at_least(shortest: timedelta) -> AfterValidator:
    def checked(value: timedelta) -> timedelta:
        if value < shortest:
            raise ValueError(f"need a duration of at least {format_duration(shortest)}")
        return value

    return AfterValidator(checked)


Window = Annotated[Duration, at_most(LONGEST_WINDOW)]
PositiveWindow = Annotated[PositiveDuration, at_most(LONGEST_WINDOW)]

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_BIG = 1e12
"""No rate, price or factor comes near; sums and squares of what is below stay numbers."""
_SMALL = 1e-9
MOST_REPLICAS = 150_000
"""As many pods as Kubernetes supports in one cluster."""
Positive = Annotated[float, Field(ge=_SMALL, le=_BIG, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, le=_BIG, allow_inf_nan=False)]
Factor = Annotated[float, Field(gt=1, le=_BIG, allow_inf_nan=False)]
Replicas = Annotated[int, Field(ge=0, le=MOST_REPLICAS, strict=True)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)]


def _zone(value: object) -> object:
    if isinstance(value, str):
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError("need an IANA time zone such as Europe/Berlin or UTC") from error
    return value


def _label(value: str) -> str:
    if value and not _LABEL.fullmatch(value):
        raise ValueError("need a label of pods such as version or app.kubernetes.io/version")
    return value


Label = Annotated[str, AfterValidator(_label)]
"""The name of a label of Kubernetes; empty where none is meant."""
TimeZone = Annotated[str, BeforeValidator(_zone)]

A_TIME = "a time with a zone such as 2026-12-01T08:00:00Z"


def written_time(value: object) -> object:
    """Refuses a bare number, which pydantic would take for seconds (or milliseconds) since 1970."""
    if isinstance(value, date) or (isinstance(value, str) and _DATE.match(value)):
        return value
    raise ValueError(f"need {A_TIME}")


Moment = Annotated[AwareDatetime, BeforeValidator(written_time)]
