"""The key of everything."""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, order=True)
class EndpointId:
    """One inference endpoint. `str()` gives "namespace/name"."""

    namespace: str
    name: str

    def __post_init__(self) -> None:
        if not self.namespace or not self.name or "/" in self.namespace + self.name:
            raise ValueError(f"endpoint: need non-empty namespace and name without '/', have {self}")

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raise ValueError unless `text` is "namespace/name"."""
        namespace, _, name = text.partition("/")
        return cls(namespace, name)
