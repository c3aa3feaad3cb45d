"""Every forecast method by name. To add one: write methods/<family>.py and add its line here."""

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType

from forecaster.methods.analogues import Analogues, Base
from forecaster.methods.base import Method
from forecaster.methods.climate import Climate
from forecaster.methods.daytype import same_day_type
from forecaster.methods.global_residual import GlobalResidual
from forecaster.methods.profile import level_times_shape
from forecaster.methods.recent import Recent
from forecaster.methods.residual import ErrorWindow, ResidualMethod
from forecaster.methods.simple import moving_mean, persistence, seasonal_naive_day, seasonal_naive_week
from forecaster.methods.statistical import MODELS, Statistical
from forecaster.methods.weekday import same_weekday

_ALL: tuple[Method, ...] = (
    ResidualMethod("persistence", persistence),
    ResidualMethod("moving_mean", moving_mean),
    ResidualMethod("seasonal_naive_day", seasonal_naive_day),
    ResidualMethod("seasonal_naive_week", seasonal_naive_week),
    ResidualMethod("profile", level_times_shape, ErrorWindow(span=timedelta(days=14), relative=True)),
    ResidualMethod("same_day_type", same_day_type, ErrorWindow(span=timedelta(days=14), relative=True)),
    ResidualMethod("same_weekday", same_weekday, ErrorWindow(span=timedelta(days=14), relative=True)),
    Climate("climate"),
    Climate("climate_scaled", growth_trust=0.5),
    Climate("climate_bent", bend_seconds=18 * 3600.0),
    Climate("climate_moved", move_seconds=24 * 3600.0),
    Recent("recent"),
    Analogues("analogues_level", Base.ZERO),
    Analogues("analogues_change", Base.LAST),
    Analogues("analogues_profile", Base.PROFILE),
    GlobalResidual(),
    *(Statistical(name) for name in MODELS),
)
METHODS: Mapping[str, Method] = MappingProxyType({method.name: method for method in _ALL})
SIMPLE = ("persistence", "seasonal_naive_day", "seasonal_naive_week", "moving_mean")
