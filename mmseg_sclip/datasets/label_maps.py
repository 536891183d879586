"""Label maps: read with the numbers that their files hold, whatever the number of bits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mmengine import fileio
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.registry import TRANSFORMS
from PIL import Image

from ..errors import BadFileError
from ..images import open_image, tiff
from ..images.files import tiff_errors
from ..notes import NOTES, Note

VOID = -(2**31)  # stands for pixels that have no label; no label map has this number, and no metric of ours counts it
_MMSEG_VOID = 255  # stands for them in MMSegmentation
_LOSSY = 'Its compression changes values, most of all where classes meet, so the numbers of the classes are lost'
_PNG_DEPTH, _PNG_COLOUR = 24, 25  # where the header of a PNG has them


class LabelMap(NamedTuple):
    """A label map as its file has it.

    Attributes:
        values: (H, W), whole numbers.
        missing: (H, W), bool: NaN, and what the file declares as no data; None where there is none.
        stored: The kind of numbers in the file, such as 'float32'.
    """

    values: np.ndarray
    missing: np.ndarray | None = None
    stored: str = ''


def read_label_map(content: bytes, path: str | Path) -> LabelMap:
    """Read a label map: PNG, TIFF and others without loss, of 1 to 64 bits.

    Args:
        content: Of the file.
        path: For messages.

    Raises:
        BadFileError: It is damaged, was compressed with loss, has channels, or holds fractions.
    """
    if _is_lossy(content):
        raise BadFileError(
            f'The label map {path} was compressed with loss, as JPEG does. {_LOSSY}. Export it again as PNG.'
        )
    if tiff.is_tiff(content):
        with tiff_errors(path):
            values, missing = _read_tiff(content)
    else:
        values, missing = _numbers(open_image(content, path), content, path), None
    if values.ndim != 2 or values.dtype.kind not in 'iufb':
        raise BadFileError(
            f'The label map {path} has the shape {values.shape}: it has channels, as a picture in colour. A label map '
            'holds one class number per pixel.'
        )
    stored = str(values.dtype)
    if values.dtype.kind == 'f':
        missing = np.isnan(values) if missing is None else missing | np.isnan(values)
        values = np.where(missing, 0, values)
        fractions = values[(values != np.rint(values)) | (np.abs(values) > 2**53)]
        if len(fractions):
            raise BadFileError(
                f'The label map {path} holds {fractions[0]:g}, which is not the number of a class. A label map holds '
                'whole numbers; NaN and the declared nodata value of a TIFF stand for pixels without a label. Save the '
                'numbers of the classes.'
            )
        values = values.astype(np.int64)
    if missing is not None and not missing.any():
        missing = None
    if values.size and (int(values.max()) >= 2**63 or (missing is None and int(values.min()) <= VOID)):
        raise BadFileError(
            f'The label map {path} holds numbers from {values.min()} to {values.max()}; they must be above {VOID} and '
            'below 2 ** 63. Declare the number that stands for no label as nodata, or write another one.'
        )
    return LabelMap(values.astype(np.uint8) if values.dtype == bool else values, missing, stored)


@TRANSFORMS.register_module()
class LoadLabelMap(LoadAnnotations):
    """MMSegmentation's `LoadAnnotations` without its cast to 8 bits, by which 265 becomes 9.

    The evaluation puts it in place of `LoadAnnotations`. Label maps of 8 bits come out as `LoadAnnotations` gives them.
    In others, pixels without a label are `VOID`: 0 with `reduce_zero_label`, and 255 or 65535, if that is the largest
    number of the file's bits; classes that the dataset leaves out; NaN; and what a TIFF declares as no data.

    Args:
        mark_void: Make pixels without a label `VOID` in label maps of 8 bits, too, where MMSegmentation has 255.
        **kwargs: Those of `LoadAnnotations`.

    Raises:
        BadFileError: See `read_label_map`.
    """

    def __init__(self, *args: Any, mark_void: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.mark_void = mark_void

    def _load_seg_map(self, results: dict) -> None:
        path = results.get('seg_map_path')
        if path is None:  # a photograph that belongs to no dataset, as `inference_model` brings it
            return
        found = read_label_map(fileio.get(path, backend_args=self.backend_args), path)
        if found.missing is not None:
            results.setdefault(NOTES, []).append(_missing_note(path, found.missing))
        reduce = results.get('reduce_zero_label', False) if self.reduce_zero_label is None else self.reduce_zero_label
        results['gt_seg_map'] = labels_of(found, reduce, results.get('label_map'), self.mark_void)
        results['seg_fields'].append('gt_seg_map')


def labels_of(
    found: LabelMap, reduce_zero_label: bool = False, label_map: dict[int, int] | None = None, mark_void: bool = True
) -> np.ndarray:
    """The labels of a dataset, (H, W), from the numbers of a file.

    Args:
        found: Of the file.
        reduce_zero_label: 0 stands for no label, and all other numbers are lowered by one.
        label_map: From an old label to a new one, or to 255 for none, as MMSegmentation makes it where a config chooses
            some of a dataset's classes.
        mark_void: Pixels without a label are `VOID`; else 255 in what MMSegmentation itself can hold.
    """
    values = found.values
    eight = values.dtype == np.uint8 and found.missing is None and not mark_void
    void = _MMSEG_VOID if eight else VOID
    largest = np.iinfo(values.dtype).max if values.dtype in (np.uint8, np.uint16) else None
    wide = values.max(initial=0) >= 2**31 or values.min(initial=0) <= VOID
    labels = values.astype(np.int64 if wide else np.int32)
    if reduce_zero_label:
        labels = np.where((values == 0) | (values == largest), void, np.where(labels > 0, labels - 1, labels))
    if label_map is not None:
        before, left_out = labels.copy(), _left_out(label_map)
        for old, new in label_map.items():
            labels[before == old] = void if old in left_out else new
    if found.missing is not None:
        labels[found.missing] = VOID
    return labels.astype(np.uint8) if eight else labels


def _left_out(label_map: dict[int, int]) -> set[int]:
    """The old labels that a dataset leaves out, for which MMSegmentation writes 255 (or -1)."""
    kept = {new for new in label_map.values() if new not in (-1, _MMSEG_VOID)}
    return {old for old, new in label_map.items() if new == -1 or (new == _MMSEG_VOID and len(kept) <= _MMSEG_VOID)}


def _missing_note(path: str, missing: np.ndarray) -> Note:
    count = int(missing.sum())
    text = f'{count} pixels of the label map {path} are NaN or the declared nodata value. Such pixels are not counted.'
    return Note('no data', text, count)


def _is_lossy(content: bytes) -> bool:
    if tiff.is_tiff(content):
        return tiff.is_lossy(content)
    if content[:4] == b'RIFF' and content[8:12] == b'WEBP':
        return b'VP8 ' in content[12:64]
    if content[:2] == b'\xff\x4f' or content[4:8] == b'jP  ':  # JPEG 2000: its wavelets tell
        wavelets = re.search(rb'\xff\x52.{11}(.)', content, re.DOTALL)
        return wavelets is not None and wavelets[1] == b'\x00'
    return content.startswith(b'\xff\xd8') or content[4:12] in (b'ftypavif', b'ftypavis')


def _numbers(picture: Image.Image | None, content: bytes, path: str | Path) -> np.ndarray:
    """What a file other than TIFF holds; Pillow scales numbers of 2 and 4 bits to 255."""
    if picture is None:
        raise BadFileError(f'The label map {path} cannot be read. Save it as PNG.')
    values = np.asarray(picture)
    if picture.format == 'PNG' and content[_PNG_COLOUR] == 0 and content[_PNG_DEPTH] in (2, 4):
        values = values // (255 // (2 ** content[_PNG_DEPTH] - 1))
    if picture.format == 'PPM' and values.dtype.kind != 'f':
        header = re.sub(rb'#[^\n]*\n', b' ', content[:512]).split(maxsplit=4)
        if header[0] in (b'P2', b'P5') and header[3] not in (b'255', b'65535'):
            raise BadFileError(
                f'The label map {path} says that its largest value is {header[3].decode(errors="replace")}, to which '
                'readers scale its numbers. Save it as PNG, or with a largest value of 255.'
            )
    return values


def _read_tiff(content: bytes) -> tuple[np.ndarray, np.ndarray | None]:
    """Values and what is declared as no data, (H, W) each; with several bands (H, W, C)."""
    with tiff.open_tiff(content) as source:
        values = source.read().transpose(1, 2, 0)
        inverted = 'MINISWHITE' in source.tags(ns='IMAGE_STRUCTURE')
        nodata = source.nodata
        kinds = [kind.name for kind in source.mask_flag_enums[0]]
        mask = source.read_masks(1) if kinds == ['per_dataset'] else None  # a mask inside of the file
    if values.shape[2] > 1:
        return values, None
    values = values[..., 0]
    missing = None if mask is None else mask == 0
    if mask is None and nodata is not None and (values.dtype.kind == 'f' or float(nodata).is_integer()):
        with np.errstate(over='ignore'):
            same = nodata if values.dtype.kind == 'f' else int(nodata)
            missing = values == (values.dtype.type(same) if values.dtype.kind == 'f' else same)
    return (np.iinfo(values.dtype).max - values if inverted and values.dtype == np.uint8 else values), missing
