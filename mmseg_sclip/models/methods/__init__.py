"""The methods, one per file or folder; importing this package registers the parts of all of them with MMSegmentation.

What several methods share lies with the seam: in `attention`, `decoders`, `heads` and `refinements`.
"""

import importlib
import pkgutil

__all__ = sorted(room.name for room in pkgutil.iter_modules(__path__))

for _room in __all__:
    importlib.import_module(f'{__name__}.{_room}')
