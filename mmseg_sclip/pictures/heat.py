"""Heat maps over pictures, and the scale that says what their colours mean."""

from textwrap import wrap

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from .colours import BLACK
from .overlay import mix
from .text import draw_text, text_size

COLOURS = 'turbo'  # of matplotlib: blue is low, red is high
_WHITE = (255, 255, 255)
_WIDEST = 40  # characters of a line; longer titles are broken


def heat_overlay(
    image: np.ndarray, values: np.ndarray, low: float, high: float, opacity: float = 0.6, colours: str = COLOURS
) -> np.ndarray:
    """Values as colours over a picture.

    Args:
        image: (H, W, 3), uint8, RGB.
        values: (H, W), of any float type.
        low: The value of the first colour, and of all below.
        high: The value of the last colour, and of all above.
        opacity: Share of the heat map's colour, 0..1.
        colours: Name of a colour map of matplotlib.

    Returns:
        (H, W, 3), uint8, RGB.
    """
    span = high - low
    scaled = (np.asarray(values, np.float64) - low) / span if span > 0 else np.zeros(values.shape)
    return mix(image, matplotlib.colormaps[colours](scaled.clip(0, 1), bytes=True)[..., :3], opacity)


def with_scale(
    picture: np.ndarray | Image.Image,
    title: str,
    low: float,
    high: float,
    unit: str = '',
    colours: str = COLOURS,
) -> Image.Image:
    """A picture, untouched at the top left; below it a title and a bar of colours from `low` to `high`.

    Args:
        picture: (H, W, 3) uint8 RGB, or an image.
        title: What is shown, in any script.
        low: The value at the bar's left end.
        high: The value at its right end.
        unit: What the values are, such as 'probability'.
        colours: Name of a colour map of matplotlib.
    """
    picture = picture.convert('RGB') if isinstance(picture, Image.Image) else Image.fromarray(np.asarray(picture))
    font = min(max(14, picture.height // 24), 48)
    line, pad = text_size('', font)[1], font // 2
    ends = f'{low:.3g}', f'{high:.3g}'
    titles = wrap(' '.join(title.split()), _WIDEST) or ['']
    needed = [text_size(text, font)[0] for text in titles]
    needed.append(sum(text_size(text, font)[0] for text in (*ends, unit)) + 2 * line)
    width = max(picture.width, max(needed) + 2 * pad)
    canvas = Image.new('RGB', (width, picture.height + (len(titles) + 2) * line + 2 * pad), _WHITE)
    canvas.paste(picture, (0, 0))
    draw = ImageDraw.Draw(canvas)
    top = picture.height + pad
    for text in titles:
        draw_text(draw, (pad, top), text, font, BLACK)
        top += line
    bar = matplotlib.colormaps[colours](np.linspace(0, 1, width - 2 * pad), bytes=True)[None, :, :3]
    canvas.paste(Image.fromarray(np.repeat(bar, line, axis=0)), (pad, top))
    top += line
    draw_text(draw, (pad, top), ends[0], font, BLACK)
    draw_text(draw, ((width - text_size(unit, font)[0]) / 2, top), unit, font, BLACK)
    draw_text(draw, (width - pad - text_size(ends[1], font)[0], top), ends[1], font, BLACK)
    return canvas
