"""Figure 6 from the runs that are stored; nothing is trained."""

from collections.abc import Sequence
from dataclasses import replace

from matting.parameters import DiagnosisSettings
from storage.releases.release import Release
from storage.results.diagnoses import (
    DiagnosisDifference,
    DiagnosisRow,
    diagnosis_prefix,
    find_rated_nodules,
    find_run_scores,
)
from tasks.experiments.diagnosis import INPUTS, diagnosis_id_of, rows_of, volume_row
from tasks.experiments.feature_diagnosis import APART, CLASSIFIERS, feature_rows


def runs_to_do(rows: Sequence[DiagnosisRow], settings: DiagnosisSettings) -> str:
    """Return a note on the runs that are missing; empty if none are."""
    total = len(settings.backbones) * len(INPUTS) * len(settings.seeds)
    done = sum(row.seed is not None and row.backbone not in CLASSIFIERS for row in rows)
    return (
        f"{done} of {total} runs of networks are done. With --train, halosign evaluate continues."
        if done < total
        else ""
    )


def stored_rows(
    release: Release, settings: DiagnosisSettings
) -> tuple[list[DiagnosisRow], list[DiagnosisDifference]]:
    """Return the rows of Figure 6 and the differences between families of inputs."""
    store = release.store
    prefix = diagnosis_prefix(release.version, diagnosis_id_of(release, settings))
    nodules = find_rated_nodules(store, prefix)
    if nodules is None:
        return [], []
    by_features, differences = feature_rows(store, prefix, nodules)
    differences += _with_raters_apart(release, settings)
    rows: list[DiagnosisRow] = []
    for backbone in settings.backbones:
        for name in INPUTS:
            found = {
                seed: find_run_scores(store, prefix, backbone, name, seed)
                for seed in settings.seeds
            }
            runs = {seed: run for seed, run in found.items() if run is not None}
            if runs:
                rows += rows_of(backbone, name, tuple(runs), nodules, list(runs.values()))
    return [*by_features, *rows, volume_row(nodules)], differences


def _with_raters_apart(release: Release, settings: DiagnosisSettings) -> list[DiagnosisDifference]:
    name = diagnosis_id_of(release, settings, raters_apart=True)
    prefix = diagnosis_prefix(release.version, name)
    nodules = find_rated_nodules(release.store, prefix)
    if nodules is None:
        return []
    _, differences = feature_rows(release.store, prefix, nodules)
    return [replace(row, backbone=f"{row.backbone}{APART}") for row in differences]
