"""All settings of the computation with their defaults; a recipe file is these as YAML.

Sections follow the pipeline: crop, resample, trimap, then what the eight methods share, then one
section a method, last how the network is trained. Equation numbers are those of Wang et al., 3D
Matting, arXiv 2210.05104.

The eight methods have two named forms. The defaults of the classes below are the paper form: the
paper's formulas, with the values of the cited literature where it prints none (docs/recipes.md has
the source of each). `Parameters.improved` is the improved form, with `IMPROVED_TRIMAP` and
`IMPROVED_RESAMPLE` for what precedes the solve. Any other set of values is custom.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from matting.errors import InputError

Form = Literal["paper", "improved", "custom"]
FORM_NAMES: dict[Form, str] = {
    "paper": "paper form",
    "improved": "improved form",
    "custom": "custom parameters",
}
"""What a form is called wherever mattes are shown."""

Variant = Literal["3dmm", "3dmm-m", "3dmm-mg"]
"""A network: see `matting.learned.network`."""
Auxiliary = Literal["told", "untold", "none"]
"""What becomes of the two auxiliary masks: the matting head reads them; they are trained beside it
only, as the daggers of the paper's Table 2 are read here; or there are none."""
Precision = Literal["single", "bfloat16", "half"]
"""In which numbers a network convolves."""


@dataclass(frozen=True, slots=True)
class CropSettings:
    """The window cut around a nodule (paper 3.2)."""

    in_plane_voxels: int = 128
    """Side of the square window in the slice plane, centred on the readers' union."""
    padding_slices: int = 3
    """Slices kept beyond the readers' union at both ends."""

    def __post_init__(self) -> None:
        """Raise InputError for values out of bounds."""
        _require(
            self.in_plane_voxels >= 3, "crop.in_plane_voxels", self.in_plane_voxels, "3 or more"
        )
        _require(self.padding_slices >= 0, "crop.padding_slices", self.padding_slices, "0 or more")


@dataclass(frozen=True, slots=True)
class ResampleSettings:
    """The isotropic grid on which everything is solved (paper 3.2)."""

    spacing_mm: float = 0.5
    image: Literal["linear", "bspline"] = "linear"
    readers: Literal["distance", "nearest"] = "distance"
    """Masks through their signed distance (smooth across slices) or voxel by voxel."""
    uneven: Literal["refuse", "interpolate"] = "refuse"
    """What to do with slices at changing distances."""
    tilt: Literal["refuse", "correct"] = "refuse"
    """What to do with slices that lean because the gantry was tilted."""

    def __post_init__(self) -> None:
        """Raise InputError for values out of bounds."""
        _require(
            0 < self.spacing_mm < math.inf,
            "resample.spacing_mm",
            self.spacing_mm,
            "a length in mm above 0",
        )


@dataclass(frozen=True, slots=True)
class TrimapSettings:
    """Known foreground, known background, and the unknown band between them (paper 3.2)."""

    dilation_mm: float = 1.5
    """How far the unknown band grows, both ways, beyond the readers' disagreement; the paper gives
    no figure."""
    min_core_voxels: int = 100
    """Connected foreground voxels that must survive; the inward growth shrinks until they do."""

    def __post_init__(self) -> None:
        """Raise InputError for values out of bounds."""
        _require(
            0 <= self.dilation_mm < math.inf, "trimap.dilation_mm", self.dilation_mm, "0 or more"
        )
        _require(
            self.min_core_voxels >= 1, "trimap.min_core_voxels", self.min_core_voxels, "1 or more"
        )


@dataclass(frozen=True, slots=True)
class SolverSettings:
    """What the eight methods share (paper Eq. 2, 15-18)."""

    intensity_range_hu: tuple[float, float] = (-1000.0, 400.0)
    """HU mapped linearly to intensities 0..1 and clipped."""
    intensity_curve: float = 0.0
    """Strength of the tone curve that favours faint rims
    (`matting.solvers.solve_domain.tone_curve`); 0: none."""
    search_margin_mm: float = 10.0
    """Distance from the unknown region's box within which neighbours are searched."""
    position_scale_mm: float | None = None
    """Length that counts as 1 in the position feature; None: the longest side of the box that is
    searched, as the position over the image in KNN matting."""
    tolerance: float = 1e-6
    """Relative residual at which conjugate gradients stop; alpha is then within 2^-16, the step in
    which it is stored, of a solve to 1e-10: at every unknown voxel of 40 real nodules."""
    max_iterations: int = 2000
    constraint_weight: float | None = None
    """None fixes known voxels exactly (Eq. 15); a weight is a penalty instead (Eq. 18)."""
    range_tolerance: float = 0.5
    """A matte that leaves 0..1 by more than this is rejected; else it is clipped and the amount
    recorded."""

    def __post_init__(self) -> None:
        """Raise InputError for values out of bounds."""
        low, high = self.intensity_range_hu
        _require(
            low < high,
            "solver.intensity_range_hu",
            self.intensity_range_hu,
            "its lower end below its upper end",
        )
        curved = 0 <= self.intensity_curve < math.inf
        _require(curved, "solver.intensity_curve", self.intensity_curve, "0 or more")
        _require(
            self.search_margin_mm >= 0,
            "solver.search_margin_mm",
            self.search_margin_mm,
            "0 or more",
        )
        scale = self.position_scale_mm
        _require(
            scale is None or 0 < scale < math.inf,
            "solver.position_scale_mm",
            scale,
            "a length in mm above 0, or none",
        )
        _require(0 < self.tolerance < 1, "solver.tolerance", self.tolerance, "between 0 and 1")
        _require(
            self.max_iterations >= 1, "solver.max_iterations", self.max_iterations, "1 or more"
        )
        weight = self.constraint_weight
        _require(
            weight is None or 0 < weight < math.inf,
            "solver.constraint_weight",
            weight,
            "finite and above 0, or none",
        )
        _require(
            self.range_tolerance >= 0, "solver.range_tolerance", self.range_tolerance, "0 or more"
        )


@dataclass(frozen=True, slots=True)
class DensitySettings:
    """The radiodensity target of the four optimised methods (paper 4.2, Eq. 28)."""

    level_hu: float = -600.0
    """Middle of the observation window; the default is the usual lung window, -1350..150 HU."""
    width_hu: float = 1500.0
    """Width of the observation window: its lower end maps to 0 and its upper end, l_low, to 1."""
    high_hu: float | None = None
    """l_high, above which the target falls again; None as in the paper: never."""
    fall_hu: float = 1000.0
    """HU over which the target falls linearly from 1 to 0 above `high_hu`."""

    def __post_init__(self) -> None:
        """Raise InputError for values out of bounds."""
        _require(self.width_hu > 0, "density.width_hu", self.width_hu, "above 0")
        _require(self.fall_hu > 0, "density.fall_hu", self.fall_hu, "above 0")
        top = self.level_hu + self.width_hu / 2
        enough = self.high_hu is None or self.high_hu >= top
        _require(
            enough,
            "density.high_hu",
            self.high_hu,
            f"none or at least the window's upper end, {top:g} HU",
        )


@dataclass(frozen=True, slots=True)
class ClosedFormSettings:
    """Levin, Lischinski & Weiss 2008; paper Eq. 3, 27."""

    epsilon: float = 1e-7
    """Ridge on the slopes of a window's model; more makes alpha follow intensity less."""
    mean_reach_mm: float = 0.0
    """Reach of the mean intensity whose difference from the voxel's own is the second channel; 0:
    intensity alone."""
    trusted_variance: float | None = None
    """Variance of the intensity at which a window counts half, and above it less; None: all count
    the same."""

    def __post_init__(self) -> None:
        """Raise InputError for values out of bounds."""
        _require(self.epsilon > 0, "closed_form.epsilon", self.epsilon, "above 0")
        _require_windows("closed_form.", self.mean_reach_mm, self.trusted_variance)


@dataclass(frozen=True, slots=True)
class KnnSettings:
    """Chen, Li & Tang 2013."""

    neighbours: tuple[int, ...] = (10, 2)
    """Nearest neighbours asked for at each level."""
    position_weights: tuple[float, ...] = (1.0, 0.01)
    """Weight of position against intensity at each level."""
    intensity_weight: float = 1.0
    """Weight of intensity at all levels."""
    search_known: bool = False
    """Known voxels of the searched box search too, as in the paper: one that names an unknown voxel
    is linked to it."""

    def __post_init__(self) -> None:
        """Raise InputError for values out of bounds."""
        pairs = len(self.neighbours) == len(self.position_weights) > 0
        lengths = (len(self.neighbours), len(self.position_weights))
        _require(
            pairs, "knn.neighbours and knn.position_weights", lengths, "one of each for every level"
        )
        _require(
            min(self.neighbours) >= 1, "knn.neighbours", self.neighbours, "1 or more at each level"
        )
        _require(
            min(self.position_weights) > 0,
            "knn.position_weights",
            self.position_weights,
            "above 0 at each level",
        )
        _require(
            self.intensity_weight > 0, "knn.intensity_weight", self.intensity_weight, "above 0"
        )


@dataclass(frozen=True, slots=True)
class LearningBasedSettings:
    """Zheng & Kambhamettu 2009."""

    ridge: float = 1e-7
    """Ridge of the local regression; more makes alpha follow intensity less."""
    mean_reach_mm: float = 0.0
    """As closed_form.mean_reach_mm; the Gaussian kernel looks at intensity alone."""
    trusted_variance: float | None = None
    """As closed_form.trusted_variance."""
    windows: Literal["touching", "centred"] = "centred"
    """Windows that hold an unknown voxel anywhere, or only those centred on one."""
    kernel: Literal["linear", "gaussian"] = "linear"
    """Local model: linear in the channels, or kernel regression on the intensity."""
    kernel_width: float = 0.1
    """Standard deviation of the Gaussian kernel, in intensity."""

    def __post_init__(self) -> None:
        """Raise InputError for values out of bounds."""
        _require(self.ridge > 0, "learning_based.ridge", self.ridge, "above 0")
        _require_windows("learning_based.", self.mean_reach_mm, self.trusted_variance)
        _require(
            self.windows in ("touching", "centred"),
            "learning_based.windows",
            self.windows,
            "touching or centred",
        )
        _require(
            self.kernel in ("linear", "gaussian"),
            "learning_based.kernel",
            self.kernel,
            "linear or gaussian",
        )
        _require(self.kernel_width > 0, "learning_based.kernel_width", self.kernel_width, "above 0")


@dataclass(frozen=True, slots=True)
class InformationFlowSettings:
    """Aksoy, Aydin & Pollefeys 2017."""

    mixture_neighbours: int = 20
    """Colour mixture: neighbours anywhere from which an unknown voxel is rebuilt."""
    mixture_position_weight: float = 1.0
    mixture_ridge: float = 1e-3
    """Ridge of all rebuilding weights; more draws them towards plain averages."""
    known_neighbours: int = 7
    """Known to unknown: neighbours in the foreground, and as many in the background."""
    known_position_weight: float = 10.0
    known_strength: float = 0.05
    """Weight of the flow from known voxels in the energy; 0: none."""
    intra_neighbours: int = 5
    """Intra unknown: neighbours among unknown voxels."""
    intra_position_weight: float = 0.05
    intra_strength: float = 0.01
    """Weight of the flow among unknown voxels in the energy; 0: none."""
    local_epsilon: float = 1e-6
    """Ridge of the closed-form term."""
    local_mean_reach_mm: float = 0.0
    """Of the closed-form term, as closed_form.mean_reach_mm."""
    local_trusted_variance: float | None = None
    """Of the closed-form term, as closed_form.trusted_variance."""
    local_strength: float = 1 / 27
    """Weight of the closed-form term, which alone ties every unknown voxel to its surroundings; the
    default divides it by the voxels of a window. Undivided it drowns the other terms."""
    edge_trimming: bool = False
    """For the flow from known voxels, unknown voxels near known ones of similar intensity count as
    known (`matting.solvers.trimming.trim_by_edges`)."""
    patch_trimming: bool = False
    """The same for voxels whose surroundings resemble those of known ones
    (`matting.solvers.trimming.trim_by_patches`)."""

    def __post_init__(self) -> None:
        """Raise InputError for values out of bounds."""
        above_zero = (
            "mixture_position_weight",
            "mixture_ridge",
            "known_position_weight",
            "intra_position_weight",
        )
        for name in (*above_zero, "local_epsilon", "local_strength"):
            _require(
                getattr(self, name) > 0, f"information_flow.{name}", getattr(self, name), "above 0"
            )
        _require_windows(
            "information_flow.local_", self.local_mean_reach_mm, self.local_trusted_variance
        )
        for name in ("mixture_neighbours", "known_neighbours", "intra_neighbours"):
            _require(
                getattr(self, name) >= 1,
                f"information_flow.{name}",
                getattr(self, name),
                "1 or more",
            )
        for name in ("known_strength", "intra_strength"):
            _require(
                getattr(self, name) >= 0,
                f"information_flow.{name}",
                getattr(self, name),
                "0 or more",
            )


@dataclass(frozen=True, slots=True)
class PriorSettings:
    """The readers' prior of `matting.solvers.reader_prior`; ours, not part of the paper form."""

    width_mm: float = 3.5
    """Way along the mean distance from the outlines on which the prior rises from 0 to 1."""
    density_weight: float = 0.45
    """Share of that way by which the density of lung or of the lesion's core moves it."""
    closed_form: float = 0.0
    """Strength in closed form, on the scale of the Laplacian's entries; 0: none."""
    knn: float = 0.0
    """Strength in KNN."""
    learning_based: float = 0.0
    """Strength in learning based."""
    information_flow: float = 0.0
    """Strength in information flow."""

    def __post_init__(self) -> None:
        """Raise InputError for values out of bounds."""
        width = self.width_mm
        _require(0 < width < math.inf, "prior.width_mm", width, "a length in mm above 0")
        for name in (
            "density_weight",
            "closed_form",
            "knn",
            "learning_based",
            "information_flow",
        ):
            value = getattr(self, name)
            _require(0 <= value < math.inf, f"prior.{name}", value, "0 or more")

    @property
    def used(self) -> bool:
        """True if any method has it."""
        return any((self.closed_form, self.knn, self.learning_based, self.information_flow))


@dataclass(frozen=True, slots=True)
class Parameters:
    """All settings of the eight mattes of a volume and its trimap; the defaults: the paper form."""

    solver: SolverSettings = field(default_factory=SolverSettings)
    density: DensitySettings = field(default_factory=DensitySettings)
    closed_form: ClosedFormSettings = field(default_factory=ClosedFormSettings)
    knn: KnnSettings = field(default_factory=KnnSettings)
    learning_based: LearningBasedSettings = field(default_factory=LearningBasedSettings)
    information_flow: InformationFlowSettings = field(default_factory=InformationFlowSettings)
    prior: PriorSettings = field(default_factory=PriorSettings)

    @staticmethod
    def improved() -> "Parameters":
        """Return the improved form, which adds to the paper's formulas.

        It has a tone curve that spreads the intensities of faint rims, a second channel with the
        difference from a local mean, less trust in windows of large variance, and the readers'
        prior, for which the methods need the readers' masks; its lengths do not depend on the size
        of the box. `IMPROVED_TRIMAP` and `IMPROVED_RESAMPLE` go with it.
        """
        return _IMPROVED

    @property
    def form(self) -> Form:
        """Which form these values are; custom where they are neither."""
        return form_of(self)


MACHINE_SETTINGS = ("at_once", "look_every", "precision", "compiled")
"""Settings of a training that suit the machine: they change the rounding of its weights at most, so
that a training goes on under its name where they are changed."""


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How the network is trained (paper 6.2.1)."""

    crop_zyx: tuple[int, int, int] = (96, 96, 96)
    """Voxels of a training crop; multiples of 16."""
    pooling: int = 1
    """Voxels of the release along each axis that are averaged into one of the network's; 2 gives a
    network for twice the spacing, in an eighth of the time."""
    focus: float = 0.0
    """Share of the crops that are placed so as to hold a marked voxel; the paper places all of them
    anywhere."""
    fitted: bool = False
    """Cut a crop down to the measured CT, in steps of 16 voxels, where that is smaller: what a
    prediction sees."""
    symmetries: bool = True
    """Flip and rotate the crops by right angles."""
    batch: int = 16
    """Nodules whose gradients make one step."""
    at_once: int = 2
    """Nodules of a batch computed together, limited by memory, where their crops have one size; the
    gradients are those of the batch."""
    epochs: int = 300
    """Passes over the nodules."""
    rate: float = 3e-4
    """Largest learning rate."""
    ghost_rate: float = 3e-3
    """The same for networks of ghost modules."""
    weight_decay: float = 5e-5
    warm_up_epochs: float = 1.0
    """The rate rises linearly from 0 over these, then falls to 0 along half a cosine."""
    alpha_weight: float = 10.0
    """Weight of the matte's absolute difference in the loss (Eq. 30, eta)."""
    gradient_weight: float = 10.0
    """Weight of the difference of its gradients (Eq. 30, theta)."""
    seed: int = 20221011
    """Determines initial weights, order, crops and symmetries."""
    precision: Literal["auto"] | Precision = "auto"
    """Precision of convolutions; auto is bfloat16 or else half on a GPU, and single on a CPU, but
    bfloat16 for the networks without ghost modules where the CPU multiplies it (AMX, AVX-512)."""
    compiled: bool = False
    """Compile the network with torch.compile: takes minutes once, then steps are faster."""
    look_every: int = 1
    """Epochs between previews of whole nodules, of which the last epoch always has one; 0 for none.
    """

    def __post_init__(self) -> None:
        """Raise InputError for values out of bounds."""
        sizes = len(self.crop_zyx) == 3 and all(
            size > 0 and size % 16 == 0 for size in self.crop_zyx
        )
        # At the bottom a size is a 16th, and a single voxel there has no variance to be normalised
        # by.
        _require(
            sizes and sum(self.crop_zyx) > 48,
            "training.crop_zyx",
            self.crop_zyx,
            "multiples of 16, not all 16",
        )
        _require(0 <= self.focus <= 1, "training.focus", self.focus, "a share from 0 to 1")
        for name in ("pooling", "batch", "at_once", "epochs"):
            _require(getattr(self, name) >= 1, f"training.{name}", getattr(self, name), "1 or more")
        for name in ("rate", "ghost_rate"):
            _require(
                0 < getattr(self, name) < math.inf,
                f"training.{name}",
                getattr(self, name),
                "above 0",
            )
        for name in (
            "weight_decay",
            "warm_up_epochs",
            "alpha_weight",
            "gradient_weight",
            "seed",
            "look_every",
        ):
            _require(
                0 <= getattr(self, name) < math.inf,
                f"training.{name}",
                getattr(self, name),
                "0 or more",
            )
        known = ("auto", *get_args(Precision))
        _require(self.precision in known, "training.precision", self.precision, ", ".join(known))


@dataclass(frozen=True, slots=True)
class DiagnosisSettings:
    """How classifiers of malignancy are trained on each input alone (paper 6.1, Figure 6).

    The paper gives the backbones and the four seeds; all other numbers are ours.
    """

    backbones: tuple[str, ...] = ("densenet121", "resnet34", "resnet50")
    seeds: tuple[int, ...] = (1, 2, 3, 4)
    """Each decides a partition of the patients, the initial weights, the order and the symmetries.
    """
    folds: int = 5
    """Parts of the patients; each is scored by a classifier that learned from the others."""
    side_voxels: int = 48
    """Side of the cube around the nodule that a classifier sees."""
    spacing_mm: float = 1.0
    """Side of the cube's voxels."""
    epochs: int = 60
    """Passes over the nodules; fixed, nothing is chosen on the way."""
    batch: int = 16
    rate: float = 3e-4
    """Largest learning rate; rises and falls as in `training`."""
    weight_decay: float = 5e-5
    warm_up_epochs: float = 1.0
    symmetries: bool = True
    """Flip and rotate the cubes by right angles."""
    precision: Literal["auto", "single", "bfloat16"] = "auto"
    """Precision of convolutions, as in `training`."""

    def __post_init__(self) -> None:
        """Raise InputError for values out of bounds."""
        known = ("densenet121", "resnet34", "resnet50")
        fit = len(self.backbones) > 0 and all(name in known for name in self.backbones)
        _require(fit, "diagnosis.backbones", self.backbones, f"some of {', '.join(known)}")
        unlike = len(set(self.seeds)) == len(self.seeds) > 0 and min(self.seeds) >= 0
        _require(unlike, "diagnosis.seeds", self.seeds, "whole numbers from 0 up, each once")
        _require(self.folds >= 2, "diagnosis.folds", self.folds, "2 or more")
        # All halve their input five times; what DenseNet-121 pools must have two voxels left.
        least = 32 if "densenet121" in self.backbones else 16
        _require(
            self.side_voxels >= least, "diagnosis.side_voxels", self.side_voxels, f"{least} or more"
        )
        _require(self.batch >= 2, "diagnosis.batch", self.batch, "2 or more")
        _require(self.epochs >= 1, "diagnosis.epochs", self.epochs, "1 or more")
        for name in ("spacing_mm", "rate"):
            _require(
                0 < getattr(self, name) < math.inf,
                f"diagnosis.{name}",
                getattr(self, name),
                "above 0",
            )
        for name in ("weight_decay", "warm_up_epochs"):
            _require(
                0 <= getattr(self, name) < math.inf,
                f"diagnosis.{name}",
                getattr(self, name),
                "0 or more",
            )
        # Half precision needs its losses scaled, which these trainings do not do.
        precise = ("auto", "single", "bfloat16")
        _require(
            self.precision in precise, "diagnosis.precision", self.precision, ", ".join(precise)
        )


def _require_windows(prefix: str, mean_reach_mm: float, trusted_variance: float | None) -> None:
    """Raise InputError for window settings out of bounds."""
    _require(
        0 <= mean_reach_mm < math.inf,
        f"{prefix}mean_reach_mm",
        mean_reach_mm,
        "a length in mm, 0 or more",
    )
    trusted = trusted_variance is None or 0 < trusted_variance < math.inf
    _require(trusted, f"{prefix}trusted_variance", trusted_variance, "finite and above 0, or none")


def _require(holds: bool, name: str, got: object, expected: str) -> None:
    """Raise InputError for a parameter unless a condition holds."""
    if not holds:
        raise InputError(
            f"{name} is out of bounds",
            got=got,
            expected=expected,
            remedy="Correct it in the recipe.",
        )


def form_of(
    parameters: Parameters,
    trimap: TrimapSettings | None = None,
    resample: ResampleSettings | None = None,
) -> Form:
    """Return the form that a set of values is, by comparing the values.

    Args:
        parameters: Of the eight methods.
        trimap: How the trimap is made; None where it is given, which fits any form.
        resample: The grid; None where it is given, which fits any form.

    Returns:
        The form; custom where one value differs from both.
    """
    forms: dict[Form, tuple[Parameters, TrimapSettings, ResampleSettings]] = {
        "paper": (Parameters(), TrimapSettings(), ResampleSettings()),
        "improved": (Parameters.improved(), IMPROVED_TRIMAP, IMPROVED_RESAMPLE),
    }
    if resample is not None:  # how slices are read is no part of a form
        resample = replace(resample, uneven="refuse", tilt="refuse")
    for name, (methods, labels, grid) in forms.items():
        if parameters == methods and trimap in (None, labels) and resample in (None, grid):
            return name
    return "custom"


# The improved form: all its values are here.

_IMPROVED = Parameters(
    solver=SolverSettings(intensity_curve=1.0, position_scale_mm=34.0, tolerance=3e-7),
    closed_form=ClosedFormSettings(epsilon=6e-3, mean_reach_mm=1.5, trusted_variance=1e-4),
    knn=KnnSettings(position_weights=(3.0, 1.0)),
    learning_based=LearningBasedSettings(
        ridge=2e-2, mean_reach_mm=2.5, trusted_variance=1e-4, windows="touching"
    ),
    information_flow=InformationFlowSettings(
        intra_strength=0.001,
        local_epsilon=3e-4,
        local_mean_reach_mm=2.0,
        local_trusted_variance=1e-3,
        local_strength=1.0,
    ),
    prior=PriorSettings(closed_form=0.05, knn=1.0, learning_based=0.05, information_flow=0.3),
)
IMPROVED_TRIMAP = TrimapSettings()
"""Trimap of the improved form."""
IMPROVED_RESAMPLE = ResampleSettings()
"""Grid of the improved form."""
