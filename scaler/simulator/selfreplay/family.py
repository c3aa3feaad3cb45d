"""The settings that replay chooses from."""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from forecaster.lead import LEVELS
from forecaster.series import FloatArray
from scaler.domain.setting import Setting, Source
from scaler.simulator.compiled import Columns

RESIDUAL_LEVELS = (0.8, 0.95, 0.98, 0.99, 0.995, 0.998, 0.9995)
SEASONAL_LEVELS = (0.5, 0.9, 0.99)
FACTORS = (1.0, 1.15, 1.3, 1.6, 2.0, 3.0)
"""Below 1 a factor says nothing: demand now is always planned for."""
HOLD_STARTUPS = (0, 1, 3, 12)
"""How long the highest demand ahead is kept, in start-up times: ski rental is 1, a session or a ramp up to 12."""
GUARDS = (timedelta(0), timedelta(hours=1), timedelta(hours=4))
FORECAST_PEAK, REACTIVE_PEAK = 0, 1
COLUMN_LEVELS = (
    *((Source.LEAD_MODEL, level) for level in LEVELS),
    *((Source.RESIDUAL, level) for level in RESIDUAL_LEVELS),
    *((Source.SEASONAL, level) for level in SEASONAL_LEVELS),
    *((Source.REACTIVE, level) for level in FACTORS),
)
"""The columns of demand ahead before they are held, in this order."""
N_FORECAST_COLUMNS = sum(source is not Source.REACTIVE for source, _ in COLUMN_LEVELS)


@dataclass(frozen=True, eq=False)
class Family:
    """`settings[i]` reads row `columns.ahead[i]` of the held columns, and so on; `is_reactive` marks those without any
    forecast. Held column h * len(COLUMN_LEVELS) + c is column c held for `holds_steps[h]` steps."""

    settings: tuple[Setting, ...]
    columns: Columns
    is_reactive: np.ndarray
    holds_steps: tuple[int, ...]
    utilizations: FloatArray


def settings_family(utilizations: tuple[float, ...], startup: timedelta, step: timedelta) -> Family:
    """Every source and level x hold x guard x utilisation. The order is fixed, so that indices may be kept."""
    settings, ahead, floor, peak, share = [], [], [], [], []
    for h, n_startups in enumerate(HOLD_STARTUPS):
        for c, (source, level) in enumerate(COLUMN_LEVELS):
            for g, guard in enumerate(GUARDS):
                for utilization in utilizations:
                    settings.append(
                        Setting(
                            source=source,
                            level=level,
                            hold=n_startups * startup,
                            guard=guard,
                            utilization_fraction=utilization,
                        )
                    )
                    ahead.append(h * len(COLUMN_LEVELS) + c)
                    floor.append(g)
                    peak.append(REACTIVE_PEAK if source is Source.REACTIVE else FORECAST_PEAK)
                    share.append(utilization)
    return Family(
        settings=tuple(settings),
        columns=Columns(np.array(ahead), np.array(floor), np.array(peak), np.array(share)),
        is_reactive=np.array([not setting.uses_forecast for setting in settings]),
        holds_steps=tuple(max(1, round(n * startup / step) + 1) for n in HOLD_STARTUPS),
        utilizations=np.array(share),
    )
