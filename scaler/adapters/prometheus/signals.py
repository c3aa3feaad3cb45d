"""Which queries bring one signal for many endpoints, and whose each series of the answer is."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from scaler.adapters.prometheus.presets import PRESETS, Preset
from scaler.domain.endpoint import EndpointId
from scaler.domain.policy import ScalingPolicy
from scaler.errors import QueryRejected

LONGEST_MATCHER = 4000
"""Characters. Queries travel in the address, which servers cut at about 8000: beyond this all series are fetched and
those of unknown endpoints dropped."""
Key = TypeVar("Key")


@dataclass(frozen=True, kw_only=True)
class Group:
    """Endpoints that one query serves: the same preset and the same selector labels (and what else the signal needs).

    `members` maps the values of `by` to the endpoints that have them.
    """

    preset: Preset
    by: tuple[str, ...]
    members: Mapping[tuple[str, ...], tuple[EndpointId, ...]]
    percentile: float = 0.95

    @property
    def endpoints(self) -> tuple[EndpointId, ...]:
        return tuple(endpoint for endpoints in self.members.values() for endpoint in endpoints)

    @property
    def matchers(self) -> str:
        """PromQL matchers that every member's series meet."""
        return ",".join(
            _matcher(label, sorted({values[position] for values in self.members}))
            for position, label in enumerate(self.by)
        )

    def owners(self, labels: Mapping[str, str]) -> tuple[EndpointId, ...]:
        """Whose series this is; () for a series that no member asked for."""
        return self.members.get(tuple(labels.get(label, "") for label in self.by), ())


def groups(
    policies: Iterable[ScalingPolicy], key: Callable[[ScalingPolicy], Key | None]
) -> Iterator[tuple[Key, Group]]:
    """Policies by preset, selector labels and `key`, each once; a policy whose key is None has no part in the signal.

    Raises QueryRejected for a preset that does not exist.
    """
    found: dict[tuple[str, tuple[str, ...], Key], dict[tuple[str, ...], tuple[EndpointId, ...]]] = {}
    for policy in policies:
        own = key(policy)
        if own is not None:
            selector = selector_of(policy)
            by = tuple(sorted(selector))
            members = found.setdefault((policy.spec.demand.preset, by, own), {})
            values = tuple(selector[label] for label in by)
            members[values] = (*members.get(values, ()), policy.endpoint)
    for (preset, by, own), members in found.items():
        percentile = own if isinstance(own, float) else 0.95
        yield own, Group(preset=preset_named(preset), by=by, members=members, percentile=percentile)


def preset_named(name: str) -> Preset:
    if name not in PRESETS:
        raise QueryRejected(f"demand.preset: found {name}, need one of {', '.join(sorted(PRESETS))}")
    return PRESETS[name]


def selector_of(policy: ScalingPolicy) -> Mapping[str, str]:
    """The policy's selector, or the preset's default for its namespace and target."""
    demand = policy.spec.demand
    if demand.selector:
        return demand.selector
    return preset_named(demand.preset).default_selector(policy.metadata.namespace, policy.target_name)


def _matcher(label: str, values: Sequence[str]) -> str:
    if len(values) == 1:
        return f'{label}="{_quoted(values[0])}"'
    union = "|".join(re.escape(value) for value in values)
    return f'{label}=~"{_quoted(union)}"' if len(union) <= LONGEST_MATCHER else f'{label}!=""'


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
