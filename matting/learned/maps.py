"""A network as other programs want it: one tensor in, one tensor out, all channels 0..1."""

import torch
from torch import Tensor, nn

from matting.learned.network import build_network
from matting.parameters import Auxiliary

MAP_NAMES = ("alpha", "overlap", "union")
"""Channels of the result; a network without auxiliary masks has the first alone."""


class MapsNetwork(nn.Module):
    """A matting network whose output is (n, channels, z, y, x): alpha, then the masks.

    Args:
        variant: "3dmm", "3dmm-m" or "3dmm-mg".
        auxiliary: "told", "untold" or "none": what becomes of the auxiliary masks.
    """

    def __init__(self, variant: str, auxiliary: Auxiliary) -> None:
        super().__init__()
        self.network = build_network(variant, auxiliary)

    @property
    def map_names(self) -> tuple[str, ...]:
        """The channels of the result."""
        return MAP_NAMES if self.network.branches else MAP_NAMES[:1]

    def forward(self, image: Tensor) -> Tensor:
        """Return the maps of intensities in 0..1, (n, 1, z, y, x), sizes multiples of 16."""
        alpha, masks = self.network(image)
        return alpha if masks is None else torch.cat([alpha, masks.sigmoid()], dim=1)
