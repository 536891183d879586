"""Looking at one sample of a dataset as a test would read it, without a model."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mmengine import fileio
from mmseg.registry import TRANSFORMS
from PIL import Image

from ..checks import is_a
from ..errors import UserError
from ..images import LoadImage, decode, is_deep, is_turning, open_image, orientation, tiff
from ..images.files import tiff_errors
from ..images.loading import turned_note
from ..notes import Note
from .label_maps import VOID, LoadLabelMap, labels_of, read_label_map

_SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange height and width


@dataclass
class Facts:
    """What the files of a sample hold.

    Attributes:
        image: Path of the image.
        label: Path of the label map; None where the dataset has none.
        pixels: How many pixels each label has, after `reduce_zero_label` and the choice of classes.
        depths: What the two files hold, in words, such as 'uint8'.
        wrong: Why a test would be wrong or would stop.
        noted: What should be known.
    """

    image: str
    label: str | None
    pixels: dict[int, int] = field(default_factory=dict)
    depths: dict[str, str] = field(default_factory=dict)
    wrong: list[Note] = field(default_factory=list)
    noted: list[Note] = field(default_factory=list)


class Inspector:
    """Reads the header of an image and the whole of a label map.

    Args:
        pipeline: The steps of the test pipeline that read files, as dicts.
        backend_args: Of the dataset.
    """

    def __init__(self, pipeline: Sequence[Any], backend_args: Mapping | None = None) -> None:
        steps = list(_flat(pipeline))
        images = next((step for step in steps if is_a(TRANSFORMS, step, LoadImage)), {})
        labels = next((step for step in steps if is_a(TRANSFORMS, step, LoadLabelMap)), {})
        self.turns = is_turning(images) if images else False
        self.bands = images.get('bands')
        self.image_backend = images.get('backend_args') or backend_args
        self.label_backend = labels.get('backend_args') or backend_args
        self.reduce = labels.get('reduce_zero_label')

    def __call__(self, sample: Mapping) -> Facts:
        """The facts of a sample, as `get_data_info` of a dataset gives it."""
        facts = Facts(sample['img_path'], sample.get('seg_map_path'))
        size = self._look_at_image(facts)
        if facts.label is not None:
            self._look_at_label_map(facts, sample, size)
        return facts

    def _look_at_image(self, facts: Facts) -> tuple[int, int] | None:
        """The height and width of the image, turned as the pipeline turns it."""
        content = _read(facts, 'image', facts.image, self.image_backend)
        if content is None:
            return None
        try:
            size, turn, depth = _header(content, facts.image)
        except UserError as error:
            facts.wrong.append(Note('images that cannot be read', str(error)))
            return None
        facts.depths['image'] = depth
        if depth != 'uint8':  # whether its bands and values can be shown is seen when it is read
            try:
                decode(content, facts.image, self.bands, facts.noted)
            except UserError as error:
                facts.wrong.append(Note('images that cannot be read', str(error)))
        if turn in (None, 1):
            return size
        if self.turns:
            facts.wrong.append(Note('images turned by EXIF', turned_note(facts.image, turn).text))
            return size[::-1] if turn in _SIDEWAYS else size
        text = f'{facts.image} has the EXIF orientation {turn}, and is evaluated as its file stores it.'
        facts.noted.append(Note('images with an EXIF orientation', text))
        return size

    def _look_at_label_map(self, facts: Facts, sample: Mapping, size: tuple[int, int] | None) -> None:
        content = _read(facts, 'label map', facts.label, self.label_backend)
        if content is None:
            return
        try:
            found = read_label_map(content, facts.label)
        except UserError as error:
            facts.wrong.append(Note('label maps that cannot be used', str(error)))
            return
        facts.depths['label map'] = found.stored
        if found.missing is not None:
            text = f'{facts.label} has {int(found.missing.sum())} pixels that are NaN or the declared nodata value.'
            facts.noted.append(Note('label maps with pixels without data', text))
        if size is not None and found.values.shape != size:
            shape = ' x '.join(map(str, found.values.shape))
            text = f'{facts.label} has {shape} pixels (height x width), its image {size[0]} x {size[1]}.'
            facts.wrong.append(Note('label maps of another size than their image', text))
        reduce = sample.get('reduce_zero_label', False) if self.reduce is None else self.reduce
        labels, counts = np.unique(labels_of(found, reduce, sample.get('label_map')), return_counts=True)
        facts.pixels = dict(zip(labels.tolist(), counts.tolist(), strict=True))


def only_one_class(samples: Sequence[Mapping], ignored: Sequence[int], names: Sequence[str], most: int = 50) -> str:
    """What is likely wrong where label maps hold one class at most and pixels that are not counted.

    Masks of 0 and 255 are such label maps, where 255 is ignored. Reading ends at the second class.

    Args:
        samples: Of the dataset, of which some are looked at.
        ignored: Labels that are not counted.
        names: Of the classes.
        most: How many label maps are looked at.

    Returns:
        A sentence, or '' where nothing seems to be wrong.
    """
    counted, left, looked, reduce = set(), set(), 0, False
    for sample in list(samples)[:: max(1, len(samples) // most)][:most]:
        try:
            found = read_label_map(fileio.get(sample['seg_map_path']), sample['seg_map_path'])
        except Exception:  # said where it is read for the test
            continue
        looked += 1
        reduce = sample.get('reduce_zero_label', False)
        labels = labels_of(found, reduce, sample.get('label_map'))
        counted |= {*np.unique(labels[~np.isin(labels, [*ignored, VOID])]).tolist()}
        gone = np.isin(labels_of(found, reduce), [*ignored, VOID])  # classes that a config leaves out are meant
        left |= {*np.unique(found.values[gone & (found.values != 0)]).tolist()}
        if len(counted) > 1:
            return ''
    if not left or len(names) < 2 or any(not 0 <= label < len(names) for label in counted):
        return ''
    class_ = ', '.join(f'{label} ({names[label]})' for label in counted) or 'no class'
    numbers = ', '.join(map(str, sorted(left)))
    return (
        f'The {looked} label maps that were looked at hold {class_} and {numbers}, which is not counted, so that there '
        f'is nothing to tell apart. Where {numbers} stands for a class, as in masks of 0 and 255, write its number '
        f'into the label maps ({"1, 2" if reduce else "0, 1"}, ... in the order of the classes).'
    )


def _flat(steps: Sequence[Any]) -> Iterator[Mapping]:
    for step in steps:
        if isinstance(step, Mapping):
            yield step
            yield from _flat(step.get('transforms') or ())
        elif isinstance(step, (list, tuple)):
            yield from _flat(step)


def _read(facts: Facts, what: str, path: str, backend_args: Mapping | None) -> bytes | None:
    try:
        return fileio.get(path, backend_args=backend_args)
    except Exception as error:  # of any backend
        reason = 'does not exist' if isinstance(error, FileNotFoundError) else f'cannot be read ({error})'
        facts.wrong.append(Note(f'{what}s that are missing', f'{path} {reason}, but the dataset lists it.'))
        return None


def _header(content: bytes, path: str) -> tuple[tuple[int, int], int | None, str]:
    """Height and width, EXIF orientation, and what an image holds in words.

    Raises:
        BadFileError: It is damaged or no image.
    """
    if tiff.is_tiff(content):
        with tiff_errors(path), tiff.open_tiff(content) as source:
            depth = source.dtypes[0] + (f' of {source.count} bands' if source.count not in (1, 3) else '')
            return (source.height, source.width), tiff.orientation(content), depth
    try:
        picture = Image.open(io.BytesIO(content))
    except Exception:
        picture = open_image(content, path)
        if picture is None:
            raise
    depth = 'uint16' if picture.mode[0] == 'I' or is_deep(picture, content) else 'uint8'
    transparent = ' with transparency' if picture.mode in ('RGBA', 'LA') else ''
    return picture.size[::-1], orientation(picture), depth + transparent
