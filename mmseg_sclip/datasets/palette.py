"""Names and colours of classes: those that a dataset declares, or colours that can be told apart."""

from collections.abc import Mapping, Sequence
from functools import cache

import cv2
import numpy as np
from mmengine.dataset import BaseDataset
from mmseg.registry import DATASETS

from ..checks import class_of, nearest
from ..errors import ConfigError
from .split_file import with_class_names

Colour = tuple[int, int, int]

BLACK: Colour = (0, 0, 0)
MOST_COLOURS = 256  # a palette of a PNG has no more
_STEPS = 12  # levels of each channel among which colours are chosen
_LEAST_CHROMA = 30  # greys look like the photograph below an overlay


def distinct_palette(count: int, background_index: int | None = None) -> list[Colour]:
    """Well separated RGB colours, always the same: a longer list begins with the shorter one.

    The maps of matplotlib have 20 colours of this kind, and benchmarks have up to 171 classes.

    Args:
        count: Number of classes; beyond 256 the colours repeat.
        background_index: The class that is black. The others have the colours that they would have without it.
    """
    colours = [_ordered()[label % len(_ordered())] for label in range(count)]
    if background_index is not None:
        colours = [*colours[:background_index], BLACK, *colours[background_index:-1]]
    return colours


def classes_of(dataset: Mapping | None, model: Mapping) -> tuple[list[str], list[Colour]]:
    """Names and colours of a dataset's classes, whose files need not be there.

    Every command draws a dataset in these colours.

    Args:
        dataset: Config of the dataset; None where there is none.
        model: `classes` and `palette` of the model's vocabulary, which stand in for what the dataset does not declare;
            empty for a model without one.

    Raises:
        ConfigError: The dataset's class does not exist, or nothing names classes.
    """
    names, palette = model.get('classes'), model.get('palette')
    if not isinstance(dataset, Mapping):
        return _coloured(names, palette)
    cls = class_of(DATASETS, dataset['type'])
    if cls is None:
        raise ConfigError(
            f"test_dataloader.dataset has the type '{dataset['type']}', which is not registered."
            f'{nearest(dataset["type"], DATASETS.module_dict)}'
        )
    if not issubclass(cls, BaseDataset):  # a wrapper around others
        inner = next(iter(dataset.get('datasets') or ()), dataset.get('dataset'))
        return classes_of(inner, model) if palette is None else _coloured(names, palette)
    chosen = with_class_names(dataset.get('metainfo') or {})
    meta = cls._load_metainfo(chosen)
    names, declared = meta.get('classes') or names, meta.get('palette')
    if declared and 'palette' not in chosen:  # the class declares it, and the config may choose some of its classes
        colour_of = dict(zip(cls.METAINFO['classes'], declared, strict=True))
        declared = [colour_of.get(name) for name in names]
    return _coloured(names, declared if declared and None not in declared else palette)


def _coloured(names: Sequence[str] | None, palette: Sequence[Sequence[int]] | None) -> tuple[list[str], list[Colour]]:
    if not names:
        raise ConfigError(
            "The dataset of test_dataloader names no classes. Name them in its metainfo=dict(classes=('wall', ...))."
        )
    return list(names), distinct_palette(len(names)) if palette is None else as_colours(palette)


def as_colours(palette: Sequence[Sequence[int]]) -> list[Colour]:
    """A palette as tuples of Python's integers."""
    return [tuple(int(value) for value in colour) for colour in palette]


@cache
def _ordered() -> tuple[Colour, ...]:
    """Each next colour is the one farthest from all before it, from black and from white, in CIELAB."""
    levels = np.linspace(0, 255, _STEPS).round()
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing='ij'), axis=-1).reshape(-1, 3)
    lab = _to_lab(candidates)
    vivid = np.hypot(lab[:, 1], lab[:, 2]) >= _LEAST_CHROMA
    candidates, lab = candidates[vivid], lab[vivid]
    taken = _to_lab(np.array([[0, 0, 0], [255, 255, 255]]))
    distance = np.linalg.norm(lab[:, None] - taken, axis=-1).min(axis=1)  # (candidates,)
    chosen = []
    for _ in range(MOST_COLOURS):
        best = int(distance.argmax())
        chosen.append(candidates[best])
        distance = np.minimum(distance, np.linalg.norm(lab - lab[best], axis=-1))
    return tuple(as_colours(chosen))


def _to_lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of (N, 3) RGB in 0..255."""
    return cv2.cvtColor((rgb[None] / 255).astype(np.float32), cv2.COLOR_RGB2LAB)[0].astype(float)
