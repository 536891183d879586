"""Drawing that all tools share: colours, overlays, legends, heat maps, and files that are never half written."""

from .colours import BLACK, MOST_COLOURS, Colour, distinct_colours
from .files import is_own_png, picture_error, save_label_map, save_png, write_atomically
from .heat import heat_overlay, with_scale
from .legend import Entry, Legend, legend, with_legend
from .overlay import blend, paint
from .text import draw_text, is_readable, text_size

__all__ = [
    'BLACK',
    'MOST_COLOURS',
    'Colour',
    'Entry',
    'Legend',
    'blend',
    'distinct_colours',
    'draw_text',
    'heat_overlay',
    'is_own_png',
    'is_readable',
    'legend',
    'paint',
    'picture_error',
    'save_label_map',
    'save_png',
    'text_size',
    'with_legend',
    'with_scale',
    'write_atomically',
]
