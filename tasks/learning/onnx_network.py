"""A trained network as ONNX: written by torch, compared with torch, run by onnxruntime.

The packages are optional. What is asked of them here is said in `pyproject.toml`, extra `onnx`.
"""

import logging
import math
import warnings
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from matting.errors import InputError
from matting.learned.maps import MapsNetwork
from matting.learned.network import MattingNetwork, NetworkOutput
from storage.errors import CorruptionError
from storage.records import CheckpointConfig
from storage.results.checkpoints import Checkpoint

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INSTALL = f"pip install {' '.join(PACKAGES)}"
"""What installs them into the environment of the command."""
TOLERANCE = 1e-4
"""By how much a map may differ from torch's."""
INPUT, OUTPUT = "image", "maps"
_TRACED = (1, 1, 16, 32, 48)
"""Shape with which the export follows the network."""
_COMPARED = ((2, 1, 32, 48, 64), (1, 1, 16, 32, 16), (3, 1, 48, 16, 32))
"""Shapes with which the file is compared with torch; none is the one above."""
_AXES = {0: "n", 2: "z", 3: "y", 4: "x"}
"""Names of the sizes that are free, by axis."""
_PROBABILITY_MARGIN = 1e-7
"""Distance from 0 and 1 at which a mask's logit is cut."""


def missing_packages() -> list[str]:
    """Return the packages that writing and checking an ONNX file needs and that are not there."""
    return [name for name in PACKAGES if find_spec(name) is None]


def export_onnx(network: MapsNetwork) -> bytes:
    """Return a network as an ONNX file of any batch and any size that is a multiple of 16.

    The export follows the network at one shape: with free shapes it takes three times as long and
    ends in the same graph, whose layers know no sizes. The sizes are freed afterwards, and the file
    is compared with torch at other shapes.

    Args:
        network: On the CPU.

    Returns:
        The file. Input `image` (n, 1, z, y, x), intensities 0..1; output `maps`, as of
        `MapsNetwork`.

    Raises:
        InputError: onnxruntime computes another result than torch.
    """
    network.eval()
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of torchvision, which is not needed
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of torch about itself
            program: Any = torch.onnx.export(
                network,
                (torch.zeros(_TRACED),),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    model = _with_free_sizes(program.model_proto)
    _compare(model, network)
    return model


class OnnxNetwork(MattingNetwork):
    """A network that onnxruntime computes, in the place of one of torch.

    Its own weights, which torch would compute with, are not used. It runs on the CPU, or on a GPU
    where the onnxruntime that is installed can.

    Args:
        checkpoint: Read from an ONNX file.

    Raises:
        InputError: onnxruntime is not installed.
        CorruptionError: It cannot read the file.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        config: CheckpointConfig = checkpoint.config
        super().__init__(config.variant, config.auxiliary)
        self.session = _session(checkpoint.onnx)

    def forward(self, image: Tensor) -> NetworkOutput:
        """Estimate mattes of (n, 1, z, y, x) as torch's network does."""
        (maps,) = self.session.run([OUTPUT], {INPUT: image.contiguous().cpu().numpy()})
        alpha, masks = torch.from_numpy(maps[:, :1]), torch.from_numpy(maps[:, 1:])
        if not self.branches:
            return NetworkOutput(alpha, None)
        return NetworkOutput(alpha, masks.logit(_PROBABILITY_MARGIN))


def _session(model: bytes) -> Any:
    """Return what computes an ONNX file."""
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(
            "onnxruntime is not installed",
            got=error,
            expected="the package that computes networks in ONNX files",
            remedy="Install it with `pip install onnxruntime`, or give the folder of the network, "
            "which torch computes.",
        ) from error
    known = onnxruntime.get_available_providers()
    wanted = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in known]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(model, options, providers=wanted)
    except Exception as error:  # its errors have no common class but this one
        raise CorruptionError(
            f"onnxruntime cannot read the ONNX file: {str(error).splitlines()[0]}. "
            f"{CheckpointConfig.remedy}"
        ) from error


def _with_free_sizes(model: Any) -> bytes:
    """Return the file of a model with free sizes, without the exporter's notes.

    The notes name folders of this machine, and the shapes of values between layers.
    """
    graph = model.graph
    for value in (*graph.input, *graph.output):
        for axis, name in _AXES.items():
            value.type.tensor_type.shape.dim[axis].dim_param = name
    del graph.value_info[:]
    for thing in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del thing.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _compare(model: bytes, network: MapsNetwork) -> None:
    """Raise InputError where onnxruntime computes other maps than torch."""
    session = _session(model)
    for shape in _COMPARED:
        image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        reason = ""
        with torch.inference_mode():
            expected: NDArray[np.float32] = network(image).numpy()
        try:
            (got,) = session.run([OUTPUT], {INPUT: image.numpy()})
            difference = float(np.abs(got - expected).max())
        except Exception as error:  # its errors have no common class but this one
            difference = math.inf
            reason = f" ({str(error).splitlines()[0]})"
        if not difference <= TOLERANCE:
            raise InputError(
                "the network is not the same as ONNX",
                got=f"maps of {'x'.join(map(str, shape))} that differ by {difference:.2g}{reason}",
                expected=f"at most {TOLERANCE:g}",
                remedy=f"Install the versions in constraints.txt, or uninstall {PACKAGES[0]} to "
                "publish without an ONNX file.",
            )
