"""Pictures of predictions: over the image, with a legend, and beside the ground truth where there is one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from .figure import Panel, class_legend, draw
from .pixels import blend, paint


def prediction_figure(
    image: np.ndarray,
    prediction: np.ndarray,
    truth: np.ndarray | None,
    names: Sequence[str],
    palette: Sequence[Sequence[int]],
    opacity: float = 0.5,
) -> Figure:
    """The image with the ground truth, where there is one, and with the prediction over it.

    Args:
        image: (H, W, 3), uint8, RGB.
        prediction: (H, W), labels.
        truth: (H, W), labels, 255 or others that are no class for pixels without one; or None.
        names: Of the classes.
        palette: RGB of the classes.
        opacity: Share of the classes' colours, 0..1.

    Returns:
        The figure; its legend has the classes that occur.
    """
    maps = [prediction] if truth is None else [truth, prediction]
    titles = [''] if truth is None else ['ground truth', 'prediction']
    panels = [
        Panel(blend(image, paint(labels, palette), opacity), title) for labels, title in zip(maps, titles, strict=True)
    ]
    present = {int(label) for labels in maps for label in np.unique(labels)}
    return draw([panels], legend=class_legend(names, palette, present))
