"""What the endpoints of a fleet have shown, for one that is new."""

import copy
from dataclasses import dataclass
from datetime import timedelta

from forecaster.arrivals.law import ArrivalLaw, ArrivalPrior
from forecaster.arrivals.prior import pooled_prior
from forecaster.arrivals.start import copy_law
from scaler.domain.endpoint import EndpointId
from scaler.simulator.selfreplay.choice import Prior, ReplayedSums, pooled

KIN_STARTUPS = 2.0
"""Endpoints whose start-up times differ by more than this factor teach each other nothing."""


@dataclass(frozen=True, kw_only=True)
class Kin:
    """What decides whether the settings of two endpoints mean much the same."""

    objective: float
    utilizations: tuple[float, ...]
    is_rate: bool
    startup: timedelta

    def is_like(self, other: "Kin") -> bool:
        same_terms = (self.objective, self.utilizations, self.is_rate) == (
            other.objective,
            other.utilizations,
            other.is_rate,
        )
        return same_terms and max(self.startup, other.startup) <= KIN_STARTUPS * min(self.startup, other.startup)


class FleetExperience:
    """Shared by the advisors of a fleet, also by their copies. Holds copies of its own, which nobody changes, so that
    one thread may read while another refits."""

    def __init__(self) -> None:
        self._shown: dict[EndpointId, tuple[Kin, ReplayedSums, float]] = {}
        self._laws: dict[EndpointId, ArrivalLaw] = {}

    def __deepcopy__(self, memo: object) -> "FleetExperience":
        return self

    def tell(self, endpoint: EndpointId, kin: Kin, sums: ReplayedSums, unit_work: float) -> None:
        """What replaying this endpoint has shown by now; `unit_work` is what one replica serves in one step."""
        self._shown[endpoint] = (kin, copy.deepcopy(sums), unit_work)

    def tell_arrivals(self, endpoint: EndpointId, law: ArrivalLaw) -> None:
        """How requests come to this sparse endpoint, as known by now."""
        self._laws[endpoint] = copy_law(law)

    def prior_for(self, endpoint: EndpointId, kin: Kin) -> Prior | None:
        """What the others of its kind have shown; None: there are none."""
        others = [shown for other, shown in list(self._shown.items()) if other != endpoint]
        return pooled((sums, unit_work) for own, sums, unit_work in others if own.is_like(kin))

    def arrival_prior_for(self, endpoint: EndpointId) -> ArrivalPrior | None:
        """How requests come to the other sparse endpoints; None: there are none."""
        laws = [law for other, law in list(self._laws.items()) if other != endpoint]
        return pooled_prior(laws) if laws else None
