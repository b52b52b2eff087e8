"""The picture of a nodule for people who see a matte for the first time: CT, outlines, matte."""

from matplotlib.figure import Figure

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
    show_matte,
)

PANEL_INCHES = 3.0


def draw_matte(subject: DrawnNodule, method: str) -> Figure:
    """Draw a nodule in the axial plane: CT, the readers' outlines over it, and one matte.

    Args:
        subject: The nodule.
        method: Whose matte.
    """
    near = crop_upright(subject)
    figure, panels = panel_grid(1, 3, foot_inches=0.04, panel_inches=PANEL_INCHES)
    for panel in panels:
        frame_panel(panel, near, "axial")
    for panel in panels[:2]:
        show_ct(panel, near, "axial")
    outline_readers(panels[1], near, "axial")
    drawn = show_matte(panels[2], near, near.alphas[method])
    titles = ("CT", f"outlines of {len(near.readers)} readers", "alpha matte")
    for panel, title in zip(panels, titles, strict=True):
        panel.set_title(title, color=INK, fontsize=9)
    colour_bar(figure, drawn, [0, 0.25, 0.5, 0.75, 1], "alpha")
    if near.synthetic:
        add_warning(figure, "SYNTHETIC\nCT")
    return figure
