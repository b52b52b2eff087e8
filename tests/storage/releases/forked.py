"""Read a release by forked workers, in a process apart from the other tests."""

import sys

from torch.utils.data import DataLoader

from storage.releases.release import open_release
from storage.releases.torch_dataset import ReleaseDataset
from tests.storage.releases.test_torch_dataset import CROP, draws, same


def main(store_url: str) -> None:
    """Draw as in this process, also after the next epoch was told to workers that live on."""
    dataset = ReleaseDataset(open_release(store_url, "0.1.0"), "train", crop_zyx=CROP, seed=7)
    assert same(draws(dataset, 2, "fork"), draws(dataset))
    loader, seen = (
        DataLoader(
            dataset, None, num_workers=1, multiprocessing_context="fork", persistent_workers=True
        ),
        [],
    )
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        seen.append({item["nodule"]: item for item in loader})
        assert same(seen[-1], draws(dataset))
    assert not same(*seen)
    print("the same")


if __name__ == "__main__":
    main(sys.argv[1])
