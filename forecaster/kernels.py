"""Compiled functions, kept on disk from one process to the next."""

import inspect
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any
from zlib import crc32

import numba

Function = Callable[..., Any]


def kernel(*called: ModuleType, **options: Any) -> Callable[[Function], Function]:
    """Decorates a function that is compiled when it is first called, unless an earlier process kept the code of it.

    What is kept goes by the source of the function's own module and of those `called`, whose code is compiled into it.
    The compiler's own cache looks at the function's file only, and not before it has read the types of the arguments:
    it would run stale code where a called module changed, and fail where a type has moved since. `options` are those
    of numba.njit. Where no folder may be written nothing is kept, and a warning says so.
    """

    def decorate(function: Function) -> Function:
        modules = (sys.modules[function.__module__], *called)
        digest = crc32("".join(inspect.getsource(module) for module in modules).encode())
        function.__qualname__ += f"-{digest:08x}"  # the compiler names the files after it
        try:
            compiled: Function = numba.njit(cache=True, **options)(function)
        except RuntimeError:  # nothing is compiled yet: it found no folder
            warnings.warn(
                "compiled code cannot be kept, so each process compiles anew (about 20 s): neither the package's "
                "folder nor ~/.cache may be written; set NUMBA_CACHE_DIR to a folder that may",
                RuntimeWarning,
                stacklevel=1,
            )
            compiled = numba.njit(**options)(function)
        return compiled

    return decorate
