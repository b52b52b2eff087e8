"""The matting network 3DMM: architecture, losses, training and prediction. It needs torch.

from matting.learned import build_network

network = build_network("3dmm-mg")
network(torch.zeros(1, 1, 96, 96, 96)).alpha
"""

from matting.learned.network import VARIANTS, MattingNetwork, NetworkOutput, build_network

__all__ = ["VARIANTS", "MattingNetwork", "NetworkOutput", "build_network"]
