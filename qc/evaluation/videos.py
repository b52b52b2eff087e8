"""Animations of one nodule: slice by slice from foot to head, and its matte rotating.

Always as GIF; also as MP4 where ffmpeg is found, on the PATH or from the package imageio-ffmpeg
(extra ``video``). Common builds of ffmpeg are under the GPL, so it is no requirement.
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
    DrawnNodule,
    add_warning,
    colour_bar,
    crop_upright,
    frame_panel,
    outline_readers,
    panel_grid,
    show_ct,
)

MAX_SLICE_FRAMES = 40
"""Where there are more slices, every second, third … is shown."""
TURN_FRAMES = 36
"""Of one full rotation."""
SLICE_MS, TURN_MS = 120, 80
"""Duration of a frame."""
GIF_COLOURS = 96
PANEL_INCHES = 2.2
SURFACE = 0.5
"""Alpha at which a matte's surface is drawn."""
LIGHT = np.array([0.35, -0.85, -0.4])
"""Direction towards the light (z, y, x): above, in front and right."""
Frames = list[NDArray[np.uint8]]


def slice_frames(subject: DrawnNodule) -> Frames:
    """Draw axial slices from the feet up, with the readers' outlines and with the released matte.

    Returns:
        Frames (rows, columns, 3), all of one size, the rows and columns even.
    """
    near = crop_upright(subject)
    inside = np.flatnonzero(_shown(near).any(axis=(1, 2)))
    step = -(-(inside[-1] - inside[0] + 1) // MAX_SLICE_FRAMES)
    return [_slice_frame(near, int(z)) for z in range(inside[0], inside[-1] + 1, step)]


def turn_frames(subject: DrawnNodule) -> Frames:
    """Draw one rotation of the released matte: maximum intensity projection and lit surface.

    Returns:
        Frames as from `slice_frames`.
    """
    near = crop_upright(subject)
    matte = np.nan_to_num(near.alphas[str(near.picked)]).astype(np.float32)
    spacing_mm = np.asarray(near.grid.spacing_mm)
    cube = ndimage.zoom(matte, spacing_mm / spacing_mm.min(), order=1)
    return [
        _turn_frame(cube, angle, near.synthetic)
        for angle in np.arange(TURN_FRAMES) * 360 / TURN_FRAMES
    ]


def gif(frames: Sequence[NDArray[np.uint8]], frame_ms: int) -> bytes:
    """Return the frames as a looping GIF with one palette; deterministic."""
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
    """Return one frame as PNG."""
    data = BytesIO()
    Image.fromarray(frames[place]).save(data, "PNG", optimize=True)
    return data.getvalue()


def mp4(frames: Sequence[NDArray[np.uint8]], frame_ms: int) -> bytes | None:
    """Return the frames as MP4 (H.264); None where there is no ffmpeg.

    Raises:
        InputError: ffmpeg is installed but fails.
    """
    program = find_ffmpeg()
    if program is None:
        return None
    rows, columns = frames[0].shape[:2]
    source = f"-f rawvideo -pix_fmt rgb24 -s {columns}x{rows} -r {1000 / frame_ms:.4f} -i -".split()
    # One thread and no time stamps: the same frames give the same bytes.
    target = "-an -c:v libx264 -preset slow -crf 24 -pix_fmt yuv420p -threads 1"
    target += " -fflags +bitexact -flags:v +bitexact"
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
    """Return the path of ffmpeg; None if there is none."""
    on_path = shutil.which("ffmpeg")
    if on_path:
        return on_path
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return str(get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return None


def _shown(near: DrawnNodule) -> NDArray[np.bool_]:
    """Return where a reader or the matte has lesion."""
    seen: NDArray[np.bool_] = near.readers.any(axis=0) | (
        np.nan_to_num(near.alphas[str(near.picked)]) > 0.02
    )
    return seen


def _slice_frame(near: DrawnNodule, z: int) -> NDArray[np.uint8]:
    here = _at(near, z)
    figure, panels = panel_grid(1, 2, foot_inches=0.04, panel_inches=PANEL_INCHES)
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
        add_warning(figure, STAND_IN)
    return _pixels(figure)


def _at(near: DrawnNodule, z: int) -> DrawnNodule:
    """Return the nodule cut to one slice."""
    alone = slice(z, z + 1)
    return replace(
        near,
        image_hu=near.image_hu[alone],
        valid=near.valid[alone],
        readers=near.readers[:, alone],
        alphas={str(near.picked): near.alphas[str(near.picked)][alone]},
    )


def _turn_frame(cube: NDArray[np.float32], angle: float, synthetic: bool) -> NDArray[np.uint8]:
    """Draw a matte from the front, rotated; at 0 degrees the patient's right is on the left."""
    turned = np.clip(ndimage.rotate(cube, angle, axes=(1, 2), reshape=False, order=1), 0, 1)
    figure, panels = panel_grid(1, 2, foot_inches=0.04, panel_inches=PANEL_INCHES)
    looks = (
        ("maximum intensity projection", turned.max(axis=1), "magma"),
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
        0.02, 0.02, f"{angle:.0f}°", color=INK, fontsize=7, transform=panels[0].transAxes
    )
    colour_bar(figure, drawn[0], TICKS, "alpha")
    if synthetic:
        add_warning(figure, STAND_IN)
    return _pixels(figure)


def _lit(matte: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a Lambertian shading of the surface, seen from the front along axis 1; 0 elsewhere."""
    solid = matte >= SURFACE
    first = solid.argmax(axis=1)
    hit = np.take_along_axis(solid, first[:, None], axis=1)[:, 0]
    slopes = np.stack(np.gradient(ndimage.gaussian_filter(matte, 1.0)))
    normals = -np.take_along_axis(slopes, first[None, :, None], axis=2)[:, :, 0]
    length = np.linalg.norm(normals, axis=0)
    towards = np.tensordot(LIGHT / np.linalg.norm(LIGHT), normals, axes=1) / np.where(
        length > 0, length, 1
    )
    shade: NDArray[np.float32] = np.where(hit, 0.25 + 0.75 * np.clip(towards, 0, 1), 0).astype(
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
