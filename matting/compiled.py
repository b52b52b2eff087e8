"""How numeric kernels are compiled: once per machine, serial, and in plain IEEE arithmetic.

No threads and no fastmath, so that the same input gives the same bytes on any worker, in any order.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile a function to machine code, kept on disk beside its source or in the user's cache.

    The interpreter's lock is released while it runs. Where neither place can be written, each process compiles
    for itself instead of failing at import.
    """
    try:
        return cast(Function, numba.njit(cache=True, error_model="numpy", nogil=True)(function))
    except RuntimeError:
        return cast(Function, numba.njit(error_model="numpy", nogil=True)(function))
