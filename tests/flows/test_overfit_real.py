"""Both sizes of network can learn two real nodules by heart."""

from collections.abc import Iterable

import pandas as pd
import pytest
import torch

from flows.curate import curate_nodule
from matting.learned.batches import Batch, make_batch
from matting.learned.losses import LossTargets
from matting.learned.training import Trainer
from matting.parameters import TrainingSettings
from storage.recipe import Recipe
from storage.releases.release import open_release, publish_release
from storage.releases.torch_dataset import ReleaseDataset
from storage.sources.registry import SourceSpec
from tasks.auto_select import pick_automatically
from tasks.curation.context import CurationJob
from tasks.curation.inventory import take_inventory
from tasks.publish import draft_release

NODULES = ("LIDC-IDRI-0003_R_2", "LIDC-IDRI-0001_R_1")
CROP = (16, 32, 32)


@pytest.fixture(scope="module")
def crops(real_data, tmp_path_factory):
    """The middles of two real nodules with their released mattes, as one batch."""
    from storage.store import open_store

    folder = tmp_path_factory.mktemp("real")
    table = (
        pd.read_csv(real_data / "nodules.csv").rename(columns={"voi": "nodule"}).assign(n_readers=4)
    )
    table = table[table.nodule.isin(NODULES)]
    for column in ("image", "readers"):
        table[column] = str(real_data / "nodules") + "/" + table.nodule + f".{column}.nii.gz"
    table.to_csv(folder / "table.csv", index=False)
    store = open_store(str(folder / "store"), create=True)
    job = CurationJob(SourceSpec("files", str(folder / "table.csv")), store.url, Recipe())
    for nodule in take_inventory(job, None).nodules:
        assert curate_nodule(nodule, job).state == "done"
    pick_automatically(store)
    publish_release(store, "0.1.0", draft_release(store, "0.1.0", job.recipe), publisher="test")
    data = ReleaseDataset(open_release(store.url, "0.1.0"), NODULES, crop_zyx=CROP)
    items = [data[n] for n in range(2)]
    return make_batch(
        {
            name: torch.stack([item[name] for item in items])
            for name in items[0]
            if name not in ("start", "nodule")
        },
        (-1000.0, 400.0),
    )


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "epochs"), [("3dmm-mg", 400), ("3dmm", 120)])
def test_two_real_nodules_are_learned_to_a_tenth(crops: Batch, variant: str, epochs: int) -> None:
    def load(_: int, parts: list[list[int]]) -> Iterable[Batch]:
        for part in parts:
            yield Batch(crops.image[part], LossTargets(*(tensor[part] for tensor in crops.targets)))

    assert crops.image.shape == (2, 1, *CROP)
    training = TrainingSettings(
        batch=2, at_once=2, epochs=epochs, rate=0.003, ghost_rate=0.008, seed=3
    )
    trainer = Trainer(variant, "told", training, 2)
    trainer.run(load)
    assert trainer.history[-1].alpha < 0.1 * trainer.history[0].alpha
