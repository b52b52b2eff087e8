"""Use Halosign beside other packages called ``storage``, ``tasks``, ``flows`` and so on.

Python has one module of a name in a process, and looks in the folder of the script first. A script
with a ``tasks.py`` of its own beside it must still get that one from ``import tasks``, and
Halosign its own. Where another package has one of Halosign's names, Halosign's packages are
therefore imported as ``halosign.storage``, ``halosign.tasks`` and so on, and their own imports
follow: each such module has an ``__import__`` that looks for these names below ``halosign``.

Nothing else differs, except that compiled code is cached apart. Where no name is taken, `halosign`
and ``from matting import ...`` give the same objects.
"""

import builtins
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGES = ("flows", "matting", "qc", "recipes", "storage", "tasks")
_PREFIX = "halosign."
_ROOT = Path(__file__).resolve().parents[1]


def home_of(module: str) -> str:
    """Return the name under which a module of Halosign is imported in this process.

    Args:
        module: Dotted name, beginning with one of `PACKAGES`.
    """
    return f"{_PREFIX}{module}" if _IS_ISOLATED else module


def _is_foreign(package: str) -> bool:
    """Return whether a name belongs to somebody else: imported already, or found first."""
    loaded = sys.modules.get(package)
    try:
        spec = loaded.__spec__ if loaded else find_spec(package)
    except (ImportError, ValueError):
        return True
    if spec is None:
        return True
    places = spec.submodule_search_locations or ()
    return _ROOT / package not in [Path(place).resolve() for place in places]


def _import(
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    """Import as `builtins.__import__` does, but Halosign's packages from below ``halosign``."""
    package = name.partition(".")[0]
    if level or package not in PACKAGES:
        return builtins.__import__(name, globals, locals, fromlist or (), level)
    found = builtins.__import__(f"{_PREFIX}{name}", globals, locals, fromlist or (), 0)
    return found if fromlist else sys.modules[f"{_PREFIX}{package}"]


class _Loader(SourceFileLoader):
    """Loads a module whose imports go through `_import`."""

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": _import}
        super().exec_module(module)


class _Finder(MetaPathFinder):
    """Finds ``halosign.storage`` and so on in the folders beside this one."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        first, _, rest = fullname.partition(".")
        package, _, inner = rest.partition(".")
        if first != "halosign" or package not in PACKAGES:
            return None
        spec = PathFinder.find_spec(fullname, path if inner else [str(_ROOT)], target)
        if spec and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


sys.meta_path.insert(0, _Finder())
_IS_ISOLATED = any(map(_is_foreign, PACKAGES))
