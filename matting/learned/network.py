"""3DMM, 3DMM-M and 3DMM-MG: a 3D U-Net, two auxiliary masks, and a matting head that reads them.

Paper   Wang et al., 3D Matting, arXiv 2210.05104, sections 5.1-5.3 and Table 3; ghost modules:
        K. Han et al., GhostNet, CVPR 2020, doi:10.1109/CVPR42600.2020.00165.
Ours    A fitted reconstruction. The authors published neither code nor widths. Widths, depths and
        the layers with a bias were fitted until all three parameter counts of Table 3 came out
        exactly; other designs would meet them too. docs/3dmm.md lists what is the paper's, what
        follows from its numbers and what is a choice.

        3dmm      one branch for each auxiliary mask
        3dmm-m    both masks from one merged branch
        3dmm-mg   merged, every width divided by 4, ghost residual blocks in place of units and
                  residual blocks

        told      the matting head reads the masks' probabilities
        untold    the masks are trained from the same features, the matting head does not read them:
                  the daggers of Table 2, whose figures differ between 3dmm and 3dmm-m
        none      there are no masks; 3dmm and 3dmm-m are then one network

Comments at the ends of lines give shapes as channels @ resolution, for 3dmm. The input is
(n, 1, z, y, x).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, cast, get_args

import torch
from torch import Tensor, nn

from matting.errors import InputError
from matting.learned.layers import ConvNormAct, Convolution, Depthwise, Pointwise, PReLU, Upsampling
from matting.parameters import Auxiliary, Variant

VARIANTS: tuple[str, ...] = get_args(Variant)
STRIDE = 16
"""Input sizes must be multiples of this: the encoder halves the resolution four times."""


class NetworkOutput(NamedTuple):
    """Output for a batch."""

    alpha: Tensor
    """(n, 1, z, y, x): the matte, 0..1."""
    masks: Tensor | None
    """(n, 2, z, y, x): logits of the masks of all readers and of any reader; None without auxiliary
    masks."""


@dataclass(frozen=True, slots=True)
class Widths:
    """Channels of each part."""

    encoder: tuple[int, ...] = (16, 32, 48, 64)
    bottom: int = 120
    decoder: tuple[int, ...] = (72, 48, 40, 32)
    matting: tuple[int, ...] = (16, 16, 8)

    def divided(self, by: int) -> "Widths":
        """Return the widths divided by a number."""
        encoder, decoder, matting = (
            tuple(width // by for width in part)
            for part in (self.encoder, self.decoder, self.matting)
        )
        return Widths(encoder, self.bottom // by, decoder, matting)


def check_network(variant: str, auxiliary: str) -> None:
    """Raise InputError if there is no such variant, or no such use of the auxiliary masks."""
    for what, got, known in (
        ("network", variant, VARIANTS),
        ("use of the auxiliary masks", auxiliary, get_args(Auxiliary)),
    ):
        if got not in known:
            raise InputError(
                f"there is no such {what}",
                got=got,
                expected=", ".join(known),
                remedy="Choose one of these.",
            )


FIRST_LOGIT = -3.0
"""Bias of an untrained matting head: its mattes are about 0.05."""


def build_network(variant: str, auxiliary: Auxiliary = "told") -> "MattingNetwork":
    """Build an untrained network: torch's default initial weights, but the bias of its mattes.

    Args:
        variant: "3dmm", "3dmm-m" or "3dmm-mg".
        auxiliary: "told", "untold" or "none": what becomes of the auxiliary masks.

    Returns:
        The network, on the CPU.

    Raises:
        InputError: There is no such variant, or no such use of the masks.
    """
    check_network(variant, auxiliary)
    return MattingNetwork(variant, auxiliary)


class MattingNetwork(nn.Module):
    """The whole network, from CT intensities in 0..1, (n, 1, z, y, x), to a matte and two masks."""

    def __init__(self, variant: str, auxiliary: Auxiliary) -> None:
        super().__init__()
        self.told = auxiliary == "told"
        ghost = variant == "3dmm-mg"
        widths = Widths().divided(4) if ghost else Widths()
        self.features = UNet(widths, ghost)
        latent = widths.decoder[-1]
        heads = [] if auxiliary == "none" else [1, 1] if variant == "3dmm" else [2]
        self.branches = nn.ModuleList(Branch(latent, masks, ghost) for masks in heads)
        self.matting = MattingHead(latent, 2 if self.told else 0, widths.matting, ghost)

    def forward(self, image: Tensor) -> NetworkOutput:
        """Estimate mattes of (n, 1, z, y, x); raise InputError if a size is no multiple of 16."""
        _check_size(image)
        latent = self.features(image)  # 32 @ 1
        if not self.branches:
            return NetworkOutput(self.matting(latent, None), None)
        masks = torch.cat([branch(latent) for branch in self.branches], dim=1)  # 2 @ 1
        read = torch.sigmoid(masks) if self.told else None
        return NetworkOutput(self.matting(latent, read), masks)


class UNet(nn.Module):
    """A U-Net from the image to latent features at the image's resolution."""

    def __init__(self, widths: Widths, ghost: bool) -> None:
        super().__init__()
        self.stem = Convolution(1, widths.encoder[0])
        self.encoder = nn.ModuleList(_unit(width, ghost) for width in widths.encoder)
        self.down = nn.ModuleList(
            _down(wide, wider) for wide, wider in pairwise((*widths.encoder, widths.bottom))
        )
        self.bottom = nn.Sequential(_unit(widths.bottom, ghost), _unit(widths.bottom, ghost))
        below = (widths.bottom, *widths.decoder[:-1])
        skips = widths.encoder[::-1]
        self.up = nn.ModuleList(Upsampling(b, s) for b, s in zip(below, skips, strict=True))
        self.fuse = nn.ModuleList(
            Pointwise(2 * s, w) for s, w in zip(skips, widths.decoder, strict=True)
        )
        self.decoder = nn.ModuleList(_unit(width, ghost) for width in widths.decoder)

    def forward(self, image: Tensor) -> Tensor:
        """Return the latent features."""
        x: Tensor = self.stem(image)  # 16 @ 1
        skips = []
        for unit, down in zip(self.encoder, self.down, strict=True):
            skips.append(unit(x))  # 16 @ 1, 32 @ 1/2, 48 @ 1/4, 64 @ 1/8
            x = down(skips[-1])  # 32 @ 1/2, 48 @ 1/4, 64 @ 1/8, 120 @ 1/16
        x = self.bottom(x)  # 120 @ 1/16
        for up, fuse, unit, skip in zip(
            self.up, self.fuse, self.decoder, reversed(skips), strict=True
        ):
            x = torch.cat([up(x), skip], dim=1)  # 128 @ 1/8, 96 @ 1/4, 64 @ 1/2, 32 @ 1
            x = unit(fuse(x))  # 72 @ 1/8, 48 @ 1/4, 40 @ 1/2, 32 @ 1
        return x


class Branch(nn.Module):
    """Auxiliary masks from the latent features: two residual blocks and a head."""

    def __init__(self, latent: int, masks: int, ghost: bool) -> None:
        super().__init__()
        self.blocks = nn.Sequential(_block(latent, ghost), _block(latent, ghost))
        self.head = Pointwise(latent, masks)

    def forward(self, latent: Tensor) -> Tensor:
        """Return the masks' logits."""
        logits: Tensor = self.head(self.blocks(latent))  # 1 @ 1, merged 2 @ 1
        return logits


class MattingHead(nn.Module):
    """Three groups of residual blocks, each with the latent features and masks as input."""

    def __init__(self, latent: int, masks: int, widths: tuple[int, ...], ghost: bool) -> None:
        super().__init__()
        before = (0, *widths[:-1])
        self.fuse = nn.ModuleList(
            Pointwise(b + latent + masks, w, bias=False)
            for b, w in zip(before, widths, strict=True)
        )
        self.groups = nn.ModuleList(
            nn.Sequential(_block(w, ghost), _block(w, ghost)) for w in widths
        )
        self.head = Pointwise(widths[-1], 1)
        # Most voxels are no lesion. From 0.5 all are lowered together so fast that the sigmoid
        # saturates at 0, where nothing is learned any more; so the first mattes are low already
        # (Lin et al., Focal Loss for Dense Object Detection, 2017, section 4.1).
        nn.init.constant_(cast(Tensor, self.head.bias), FIRST_LOGIT)

    def forward(self, latent: Tensor, masks: Tensor | None) -> Tensor:
        """Return alpha in 0..1."""
        inputs = [latent] if masks is None else [latent, masks]
        x: list[Tensor] = []
        for fuse, group in zip(self.fuse, self.groups, strict=True):
            x = [group(fuse(torch.cat([*x, *inputs], dim=1)))]  # 34, 50, 50 -> 16, 16, 8 @ 1
        return torch.sigmoid(self.head(x[0]))  # 1 @ 1


class ResBlock(nn.Module):
    """Two convolutions around a shortcut; width n - n - n."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(Convolution(width, width), nn.InstanceNorm3d(width), nn.PReLU())
        self.second = nn.Sequential(Convolution(width, width), nn.InstanceNorm3d(width))
        self.last = PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        result: Tensor = self.last(x + self.second(self.first(x)))
        return result


class GhostResBlock(nn.Module):
    """Two ghost modules and a depthwise convolution around a shortcut; width a - 2a - a."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand = GhostModule(width, 2 * width, activated=True)
        self.depthwise = _depthwise(2 * width, activated=True)
        self.shrink = GhostModule(2 * width, width, activated=False)
        self.last = PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        result: Tensor = self.last(x + self.shrink(self.depthwise(self.expand(x))))
        return result


class GhostModule(nn.Module):
    """Half of the channels by a 1x1x1 convolution, the other half from these by a depthwise one."""

    def __init__(self, wide: int, out: int, *, activated: bool) -> None:
        super().__init__()
        self.primary = ConvNormAct(
            Pointwise(wide, out // 2, bias=False), *_norm(out // 2, activated=activated)
        )
        self.cheap = _depthwise(out // 2, activated=activated)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of `out` channels."""
        primary = self.primary(x)
        return torch.cat([primary, self.cheap(primary)], dim=1)


def _unit(width: int, ghost: bool) -> nn.Module:
    if ghost:
        return GhostResBlock(width)
    return nn.Sequential(
        *(Convolution(width, width), nn.InstanceNorm3d(width), nn.PReLU()),
        *(Convolution(width, width), nn.InstanceNorm3d(width), nn.PReLU()),
    )


def _block(width: int, ghost: bool) -> nn.Module:
    return GhostResBlock(width) if ghost else ResBlock(width)


def _down(wide: int, wider: int) -> nn.Module:
    return nn.Sequential(
        nn.MaxPool3d(2), Pointwise(wide, wider, bias=False), *_norm(wider, activated=True)
    )


def _depthwise(width: int, *, activated: bool) -> nn.Module:
    return ConvNormAct(Depthwise(width), *_norm(width, activated=activated))


def _norm(width: int, *, activated: bool) -> list[nn.Module]:
    return [nn.InstanceNorm3d(width), PReLU()] if activated else [nn.InstanceNorm3d(width)]


def _check_size(image: Tensor) -> None:
    sizes = tuple(image.shape[2:])
    if len(sizes) != 3 or image.shape[1] != 1 or any(size % STRIDE for size in sizes):
        raise InputError(
            "the network cannot take an image of this size",
            got=tuple(image.shape),
            expected=f"(n, 1, z, y, x) with sizes that are multiples of {STRIDE}",
            remedy="Pad the image with air, as matting.learned.prediction does.",
        )
