"""Every name that `forecast.method` may hold: the single methods of methods/registry.py and the pool of them,
`auto`."""

from collections.abc import Mapping
from types import MappingProxyType

from forecaster.auto import Auto
from forecaster.errors import UnknownMethod
from forecaster.methods.base import Method
from forecaster.methods.registry import METHODS

ALL_METHODS: Mapping[str, Method] = MappingProxyType({"auto": Auto(), **METHODS})


def method_named(name: str) -> Method:
    """The method of that name. Raises UnknownMethod with the known ones."""
    if name not in ALL_METHODS:
        raise UnknownMethod(f"method {name!r} is not known; have {', '.join(sorted(ALL_METHODS))}")
    return ALL_METHODS[name]
