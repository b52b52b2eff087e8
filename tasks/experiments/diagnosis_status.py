"""Figure 6 as far as it is done: the rows of all runs that are stored. Nothing is computed but areas under curves."""

from collections.abc import Sequence

from matting.parameters import DiagnosisSettings
from storage.releases.release import Release
from storage.results.diagnoses import (
    DiagnosisRow,
    diagnosis_prefix,
    find_rated_nodules,
    find_run_scores,
)
from tasks.experiments.diagnosis import INPUTS, diagnosis_id_of, rows_of, volume_row


def runs_to_do(rows: Sequence[DiagnosisRow], settings: DiagnosisSettings) -> str:
    """Say how many runs are still to be done; empty where all are."""
    total = len(settings.backbones) * len(INPUTS) * len(settings.seeds)
    done = sum(row.seed is not None for row in rows)
    return (
        f"{done} of {total} runs are done. With --train, halosign evaluate goes on."
        if done < total
        else ""
    )


def stored_rows(release: Release, settings: DiagnosisSettings) -> list[DiagnosisRow]:
    """Give the rows of `tasks.experiments.diagnosis.diagnose` that need no training; none where nothing was prepared."""
    store = release.store
    prefix = diagnosis_prefix(release.version, diagnosis_id_of(release, settings))
    nodules = find_rated_nodules(store, prefix)
    if nodules is None:
        return []
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
    return [*rows, volume_row(nodules)]
