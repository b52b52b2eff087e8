"""Moving pictures of one nodule: slice by slice from foot to head, and a matte that turns about the body's axis.

GIF always; MP4 as well where an ffmpeg is found, on the PATH or from the package imageio-ffmpeg (extra ``video``). Its
usual builds are under the GPL, so this package does not ask for one.
"""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from matting.errors import InputError
from qc.evaluation.figures import STAND_IN, TICKS, show_overlay
from qc.figures.drawing import (
    INK,
    Subject,
    colour_bar,
    focus,
    frame_panel,
    outline_readers,
    sheet,
    show_ct,
    warn,
)

FRAMES_AT_MOST = 40
"""Slices of a run; of more, every so many-th is shown."""
TURN_FRAMES = 36
"""Of one whole turn."""
SLICE_MS, TURN_MS = 120, 80
"""How long a frame stands."""
GIF_COLOURS = 96
PANEL_INCHES = 2.2
SURFACE = 0.5
"""Where a matte's surface is drawn."""
LIGHT = np.array([0.35, -0.85, -0.4])
"""Towards the light, (z, y, x): from above, in front and the right."""
Frames = list[NDArray[np.uint8]]


def slice_frames(subject: Subject) -> Frames:
    """Draw axial slices from the feet up: CT with the readers' outlines, CT with the released matte in red.

    Returns:
        Frames (rows, columns, 3), all of one size, the rows and columns even.
    """
    near = focus(subject)
    inside = np.flatnonzero(_shown(near).any(axis=(1, 2)))
    step = -(-(inside[-1] - inside[0] + 1) // FRAMES_AT_MOST)
    return [_slice_frame(near, int(z)) for z in range(inside[0], inside[-1] + 1, step)]


def turn_frames(subject: Subject) -> Frames:
    """Draw the released matte turning once about the body's axis: brightest along each ray, and as a lit surface.

    Returns:
        Frames as of `slice_frames`.
    """
    near = focus(subject)
    matte = np.nan_to_num(near.alphas[str(near.picked)]).astype(np.float32)
    spacing_mm = np.asarray(near.grid.spacing_mm)
    cube = ndimage.zoom(matte, spacing_mm / spacing_mm.min(), order=1)
    return [
        _turn_frame(cube, angle, near.synthetic)
        for angle in np.arange(TURN_FRAMES) * 360 / TURN_FRAMES
    ]


def gif(frames: Sequence[NDArray[np.uint8]], frame_ms: int) -> bytes:
    """Write frames as a GIF that runs for ever, all on one palette; the same frames give the same bytes."""
    every = np.concatenate(frames[:: max(1, len(frames) // 8)])
    palette = Image.fromarray(every).quantize(GIF_COLOURS, method=Image.Quantize.MEDIANCUT)
    pictures = [
        Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)
        for frame in frames
    ]
    data = BytesIO()
    pictures[0].save(
        data,
        "GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=frame_ms,
        loop=0,
        optimize=False,
        disposal=1,
    )
    return data.getvalue()


def still(frames: Sequence[NDArray[np.uint8]], place: int) -> bytes:
    """Write one frame as PNG."""
    data = BytesIO()
    Image.fromarray(frames[place]).save(data, "PNG", optimize=True)
    return data.getvalue()


def mp4(frames: Sequence[NDArray[np.uint8]], frame_ms: int) -> bytes | None:
    """Write frames as MP4 (H.264); None where there is no ffmpeg.

    Raises:
        InputError: ffmpeg is there but cannot do it.
    """
    program = find_ffmpeg()
    if program is None:
        return None
    rows, columns = frames[0].shape[:2]
    source = f"-f rawvideo -pix_fmt rgb24 -s {columns}x{rows} -r {1000 / frame_ms:.4f} -i -".split()
    # One thread and no time of writing: the same frames give the same bytes.
    target = "-an -c:v libx264 -preset slow -crf 24 -pix_fmt yuv420p -threads 1 -fflags +bitexact -flags:v +bitexact"
    # A plain MP4 needs a file that can be rewound; a fragmented one can be piped.
    stream = ["-movflags", "frag_keyframe+empty_moov", "-f", "mp4", "-"]
    command = [program, "-v", "error", *source, *target.split(), *stream]
    done = subprocess.run(
        command, input=b"".join(f.tobytes() for f in frames), capture_output=True, check=False
    )
    if done.returncode:
        raise InputError(
            "ffmpeg cannot write MP4",
            got=done.stderr.decode(errors="replace").strip()[-300:],
            expected="one with libx264",
            remedy=f"Replace {program}, or take it off the PATH to do without MP4.",
        )
    return done.stdout


def find_ffmpeg() -> str | None:
    """Give the path of an ffmpeg; None where there is none."""
    on_path = shutil.which("ffmpeg")
    if on_path:
        return on_path
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return str(get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return None


def _shown(near: Subject) -> NDArray[np.bool_]:
    """Tell where there is a lesion by any reader or by the matte."""
    seen: NDArray[np.bool_] = near.readers.any(axis=0) | (
        np.nan_to_num(near.alphas[str(near.picked)]) > 0.02
    )
    return seen


def _slice_frame(near: Subject, z: int) -> NDArray[np.uint8]:
    here = _at(near, z)
    figure, panels = sheet(1, 2, foot_inches=0.04, panel_inches=PANEL_INCHES)
    for panel in panels:
        frame_panel(panel, here, "axial")
        show_ct(panel, here, "axial")
    outline_readers(panels[0], here, "axial")
    drawn = show_overlay(panels[1], here, "axial", here.alphas[str(here.picked)])
    height_mm = (z - near.grid.shape[0] // 2) * near.grid.spacing_mm[0]
    panels[0].set_title(f"readers, {height_mm:+.1f} mm", color=INK, fontsize=8)
    panels[1].set_title(f"released matte ({here.picked})", color=INK, fontsize=8)
    colour_bar(figure, drawn, TICKS, "alpha")
    if here.synthetic:
        warn(figure, STAND_IN)
    return _pixels(figure)


def _at(near: Subject, z: int) -> Subject:
    """Make a slice the middle one."""
    alone = slice(z, z + 1)
    return replace(
        near,
        image_hu=near.image_hu[alone],
        valid=near.valid[alone],
        readers=near.readers[:, alone],
        alphas={str(near.picked): near.alphas[str(near.picked)][alone]},
    )


def _turn_frame(cube: NDArray[np.float32], angle: float, synthetic: bool) -> NDArray[np.uint8]:
    """Look at a matte from the front after turning it; the patient's right is then on the left."""
    turned = np.clip(ndimage.rotate(cube, angle, axes=(1, 2), reshape=False, order=1), 0, 1)
    figure, panels = sheet(1, 2, foot_inches=0.04, panel_inches=PANEL_INCHES)
    looks = (
        ("largest alpha along the ray", turned.max(axis=1), "magma"),
        (f"surface at alpha {SURFACE:g}", _lit(turned), "gray"),
    )
    drawn = []
    for panel, (title, picture, colours) in zip(panels, looks, strict=True):
        panel.set_axis_off()
        drawn.append(
            panel.imshow(picture[::-1], vmin=0, vmax=1, interpolation="bilinear", cmap=colours)
        )
        panel.set_title(title, color=INK, fontsize=8)
    panels[0].text(
        0.02, 0.02, f"turned {angle:.0f}°", color=INK, fontsize=7, transform=panels[0].transAxes
    )
    colour_bar(figure, drawn[0], TICKS, "alpha")
    if synthetic:
        warn(figure, STAND_IN)
    return _pixels(figure)


def _lit(matte: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shade the first surface that each ray meets by the angle between its normal and the light; 0 where there is none.

    Rays run along axis 1, from the front.
    """
    solid = matte >= SURFACE
    first = solid.argmax(axis=1)
    met = np.take_along_axis(solid, first[:, None], axis=1)[:, 0]
    slopes = np.stack(np.gradient(ndimage.gaussian_filter(matte, 1.0)))
    normals = -np.take_along_axis(slopes, first[None, :, None], axis=2)[:, :, 0]
    length = np.linalg.norm(normals, axis=0)
    towards = np.tensordot(LIGHT / np.linalg.norm(LIGHT), normals, axes=1) / np.where(
        length > 0, length, 1
    )
    shade: NDArray[np.float32] = np.where(met, 0.25 + 0.75 * np.clip(towards, 0, 1), 0).astype(
        np.float32
    )
    return shade


def _pixels(figure: Figure) -> NDArray[np.uint8]:
    """Render a figure, its size cut to even numbers as H.264 wants them."""
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[..., :3]
    rows, columns = (size // 2 * 2 for size in picture.shape[:2])
    return np.ascontiguousarray(picture[:rows, :columns])
