import numpy as np
import pytest
import torch

from matting.errors import InputError
from matting.learned import build_network
from matting.learned.network import MattingNetwork, NetworkOutput
from matting.learned.prediction import predict

RANGE_HU = (-1000.0, 400.0)


class Repeats(MattingNetwork):
    """Returns its input, so that whatever tiles and padding do to it must be undone."""

    def __init__(self) -> None:
        super().__init__("3dmm-mg", auxiliary="told")
        self.seen: list[tuple[int, ...]] = []

    def forward(self, image: torch.Tensor) -> NetworkOutput:
        self.seen.append(tuple(image.shape[2:]))
        return NetworkOutput(image, torch.cat([image - 0.5, image + 0.5], dim=1))


def volume(shape: tuple[int, int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    image = np.random.default_rng(seed).uniform(-1000, 400, shape)
    return image, np.ones(shape, bool)


def intensity(image: np.ndarray) -> np.ndarray:
    return (image + 1000) / 1400


def test_a_volume_of_any_size_comes_back_at_its_place() -> None:
    image, valid = volume((21, 33, 50))
    network = Repeats()
    found = predict(network, image, valid, RANGE_HU)
    assert network.seen == [(32, 48, 64)]
    np.testing.assert_allclose(found.alpha, intensity(image), atol=1e-6)
    logits = np.array([-0.5, 0.5])[:, None, None, None] + intensity(image)
    expected = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose([found.overlap, found.union], expected, atol=1e-6)


@pytest.mark.parametrize("variant", ["3dmm-mg", "3dmm-m"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (16, 16, 16), (3, 16, 9)])
def test_a_volume_that_one_step_of_the_network_holds_is_predicted(
    variant: str, shape: tuple[int, int, int]
) -> None:
    found = predict(build_network(variant), *volume(shape), RANGE_HU)
    assert found.alpha.shape == shape
    assert np.isfinite(found.alpha).all()


def test_what_was_not_measured_is_neither_seen_nor_predicted() -> None:
    image, valid = volume((20, 40, 40))
    valid[:] = False
    valid[2:18, 3:19, 5:37] = True
    valid[5, 5, 7] = False
    network = Repeats()
    found = predict(network, image, valid, RANGE_HU)
    assert network.seen == [(16, 16, 32)]
    np.testing.assert_allclose(found.alpha, np.where(valid, intensity(image), 0), atol=1e-6)
    with pytest.raises(InputError, match="nothing to predict"):
        predict(network, image, np.zeros_like(valid), RANGE_HU)


def test_tiles_are_blended_into_what_they_were_cut_from() -> None:
    image, valid = volume((20, 70, 90))
    network = Repeats()
    found = predict(network, image, valid, RANGE_HU, max_whole_voxels=1000, tile=32, overlap=8)
    assert max(max(shape) for shape in network.seen) == 32
    assert len(network.seen) == 1 * 3 * 4
    np.testing.assert_allclose(found.alpha, intensity(image), atol=1e-6)


def test_tiles_are_blended_linearly_where_they_overlap() -> None:
    image, valid = volume((16, 16, 56))

    class ByPosition(Repeats):
        """0 in the first tile, 1 in the second."""

        def forward(self, image: torch.Tensor) -> NetworkOutput:
            self.seen.append(tuple(image.shape[2:]))
            return NetworkOutput(torch.full_like(image, len(self.seen) - 1.0), None)

    found = predict(ByPosition(), image, valid, RANGE_HU, max_whole_voxels=1, tile=32, overlap=8)
    row = found.alpha[3, 4]
    assert found.union is None
    assert not row[:24].any()
    np.testing.assert_allclose(row[24:32], np.arange(1, 9) / 9, atol=1e-6)
    assert (row[32:] == 1).all()


@pytest.mark.parametrize("shape", [(5, 32, 33), (100, 31, 64), (32, 32, 32), (57, 90, 121)])
def test_tiles_cover_every_voxel(shape: tuple[int, int, int]) -> None:
    image, valid = volume(shape)
    network = Repeats()
    found = predict(network, image, valid, RANGE_HU, max_whole_voxels=1, tile=32, overlap=8)
    np.testing.assert_allclose(found.alpha, intensity(image), atol=1e-6)
    assert all(size <= 32 and size % 16 == 0 for sizes in network.seen for size in sizes)


def test_tiles_of_a_real_network_differ_little_inside_and_are_a_matte() -> None:
    torch.manual_seed(0)
    network = build_network("3dmm-mg", auxiliary="none")
    image, valid = volume((32, 48, 48))
    whole = predict(network, image, valid, RANGE_HU)
    cut = predict(network, image, valid, RANGE_HU, max_whole_voxels=1, tile=32, overlap=16)
    assert whole.overlap is None
    assert whole.union is None
    assert 0 <= cut.alpha.min() < cut.alpha.max() <= 1
    assert np.abs(cut.alpha - whole.alpha).mean() < 0.2


@pytest.mark.parametrize(("tile", "overlap"), [(40, 8), (32, 32), (32, -1)])
def test_tiles_that_cannot_be_used_are_refused(tile: int, overlap: int) -> None:
    image, valid = volume((16, 16, 32))
    with pytest.raises(InputError, match="tiles cannot be used"):
        predict(Repeats(), image, valid, RANGE_HU, tile=tile, overlap=overlap)


@pytest.mark.parametrize("shape", [(32, 32, 64), (21, 33, 50)])
def test_a_network_of_coarser_voxels_is_given_means_and_its_maps_are_interpolated(
    shape: tuple[int, int, int],
) -> None:
    """A plane is its own mean and its own interpolation, but for the half voxel at each end."""
    z, y, x = np.indices(shape)
    image = -900.0 + 6 * z + 8 * y + 5 * x
    network = Repeats()
    found = predict(network, image, np.ones(shape, bool), RANGE_HU, pooling=2)
    assert network.seen == [(16, 16, 32) if shape[0] == 32 else (16, 32, 32)]
    inner = (slice(1, -2),) * 3
    np.testing.assert_allclose(found.alpha[inner], intensity(image)[inner], atol=1e-5)
    assert found.alpha.shape == shape
