"""Compilation of numeric kernels: once per machine, serial, and in plain IEEE arithmetic.

No threads and no fastmath, so that the same input gives the same bytes on any worker, in any order.
Kernels of the network's training may reorder sums: its bytes depend on the processor in any case,
since torch chooses its own kernels by it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast, overload

import numba

from matting.kernel_cache import KernelCache

Function = TypeVar("Function", bound=Callable[..., Any])


@overload
def kernel(function: Function) -> Function: ...


@overload
def kernel(*, reordered: bool = False, inlined: bool = False) -> Callable[[Function], Function]: ...


def kernel(
    function: Function | None = None, *, reordered: bool = False, inlined: bool = False
) -> Function | Callable[[Function], Function]:
    """Compile a function to machine code, cached on disk (`matting.kernel_cache`).

    The interpreter's lock is released while it runs.

    Args:
        function: The function to compile.
        reordered: Let the compiler change the order of sums; the result's last bits then depend on
            the processor.
        inlined: Copy the function into those that call it, where a call would cost as much as what
            it does.

    Returns:
        The compiled function, or a decorator if no function is given.
    """
    if function is None:
        return partial(_compiled, reordered=reordered, inlined=inlined)
    return _compiled(function, reordered=False, inlined=False)


def _compiled(function: Function, *, reordered: bool, inlined: bool) -> Function:
    options: dict[str, Any] = {
        "error_model": "numpy",
        "nogil": True,
        "fastmath": {"reassoc", "contract"} if reordered else False,
        "inline": "always" if inlined else "never",
    }
    compiled = numba.njit(**options)(function)
    # What `cache=True` would do, with a cache whose faults are misses.
    compiled._cache = KernelCache(function)
    return cast(Function, compiled)
