"""Looking at a dataset's files before anything large is loaded, and at its samples when they are read."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mmengine import fileio
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log
from mmseg.registry import DATASETS
from torchvision.datasets.folder import IMG_EXTENSIONS

from ..errors import BadFileError, MissingFileError
from ..images import open_image


def check_files(dataset: Mapping, loader: str = 'test_dataloader') -> None:
    """Check the folders and the split file that a dataset names, and say which images of its folder it leaves out.

    MMSeg's own classes answer a wrong folder with a bare assertion or an empty dataset, and list the images of one
    suffix only.

    Args:
        dataset: Its config.
        loader: Where it stands in the whole config, for messages.

    Raises:
        MissingFileError: Something is missing; the message says what was expected where.
    """
    for part in dataset.get('datasets', []):  # of a ConcatDataset
        check_files(part, loader)
    root = dataset.get('data_root')
    if not isinstance(root, str) or '://' in root:
        return
    prefixes, split = dataset.get('data_prefix') or {}, dataset.get('ann_file')
    expected = [value for value in (*prefixes.values(), split) if isinstance(value, str) and value]
    layout = f'{root} must hold {", ".join(expected)}' if expected else f'data_root is {root}'
    remedy = (
        f'{layout}. Say where the dataset is with --data-root DIR, or {loader}.dataset.data_root in the config; '
        'the documentation (docs/data.md) says where to get it.'
    )
    for part in ('', *expected):
        path = Path(root) / part
        if not path.exists():
            raise MissingFileError(f'{dataset["type"]}: {path.absolute()} does not exist. {remedy}')
        if path.is_dir() and next(path.iterdir(), None) is None:
            raise MissingFileError(f'{dataset["type"]}: {path.absolute()} is empty. {remedy}')
    if split:
        if (Path(root) / split).is_file() and not (Path(root) / split).read_text().strip():
            raise MissingFileError(
                f'{dataset["type"]}: {(Path(root) / split).absolute()} names no image. It must hold one file name '
                'without suffix a line; fetch it again.'
            )
    elif prefixes.get('img_path') is not None:
        _check_suffix(DATASETS.build({**dataset, 'lazy_init': True, 'pipeline': []}), remedy)


def _check_suffix(dataset: BaseDataset, remedy: str) -> None:
    """Say which images a dataset leaves out that lists those of one suffix.

    Raises:
        MissingFileError: It leaves out all.
    """
    suffix = getattr(dataset, 'img_suffix', None)
    if not isinstance(suffix, str):  # it lists images in another way
        return
    folder = Path(dataset.data_prefix['img_path'] or '').absolute()
    names, others = list_images(folder), Counter()
    maps = label_maps(names, folder, dataset.data_prefix.get('seg_map_path'), dataset.seg_map_suffix)
    for name in names:
        if name.endswith(suffix) or name not in maps:
            others[suffix if name.endswith(suffix) else Path(name).suffix] += 1
    taken = others.pop(suffix, 0)
    if not taken:
        raise MissingFileError(f'{_name(dataset)}: {folder} holds no image whose name ends with {suffix}. {remedy}')
    if others:
        print_log(
            f'{folder} holds {taken + others.total()} images, but {_name(dataset)} takes only the {taken} whose names '
            f'end with {suffix}. Left out are {others.total()}: '
            f'{", ".join(f"{count} with {other}" for other, count in others.most_common())}. To evaluate all, set '
            "type='ImageFolderDataset' in the config, or rename them.",
            'current',
            logging.WARNING,
        )


def list_images(folder: Path | str) -> list[str]:
    """All image files in a folder and in those inside, relative to it and sorted; hidden ones are left out."""
    names = fileio.list_dir_or_file(str(folder), list_dir=False, recursive=True)
    return sorted(name for name in names if name.lower().endswith(IMG_EXTENSIONS))


def label_maps(names: Sequence[str], folder: Path | str, labels: Path | str | None, suffix: str) -> set[str]:
    """Those of the files in a folder of images that are label maps.

    Args:
        names: Of the files, relative to the folder.
        folder: Of the images.
        labels: Of the label maps; None where there are none.
        suffix: Tells label maps from images that lie in the same folder.
    """
    inside = '..' if labels is None else os.path.relpath(labels, folder)
    if inside == '.':
        return {name for name in names if name.endswith(suffix)}
    return {name for name in names if name.startswith(f'{inside}{os.sep}')}


def _name(dataset: BaseDataset) -> str:
    return type(dataset).__name__


def inputs_of(dataset: BaseDataset) -> list[str]:
    """The images and label maps that a dataset lists, and their folders, as `outputs.refuse_inputs` takes it.

    Args:
        dataset: Its files are listed.
    """
    samples = map(dataset.get_data_info, range(len(dataset)))
    paths = [value for sample in samples for key, value in sample.items() if key.endswith('_path')]
    folders = getattr(dataset, 'data_prefix', {}).values()
    return [path for path in (*folders, *paths) if isinstance(path, str) and path]


def name_files_in_errors(dataset: BaseDataset) -> None:
    """Make the pipeline of a dataset say which file is wrong."""
    for part in getattr(dataset, 'datasets', [dataset]):  # of a ConcatDataset
        if callable(getattr(part, 'pipeline', None)):
            part.pipeline = _NamingPipeline(part.pipeline)


class _NamingPipeline:
    """A pipeline that names the damaged file, and checks that a label map belongs to its image."""

    def __init__(self, pipeline: Callable[[dict], dict]) -> None:
        self.pipeline = pipeline

    def __call__(self, sample: dict) -> dict:
        image, labels = sample.get('img_path'), sample.get('seg_map_path')
        try:
            packed = self.pipeline(sample)
        except Exception as error:  # decoders and transforms raise many kinds
            for path in filter(None, (image, labels)):
                if path in str(error) and not isinstance(error, (FileNotFoundError, AssertionError)):
                    raise
                _check_readable(path)
            raise BadFileError(
                f'The test pipeline cannot process {image} ({type(error).__name__}: {error}).'
            ) from error
        _check_label_map(packed, labels)
        return packed


def _check_readable(path: str) -> None:
    try:
        content = fileio.get(path)
    except FileNotFoundError as error:
        raise MissingFileError(
            f'{path} does not exist, but the dataset lists it. Complete the dataset, or take it out of the list.'
        ) from error
    open_image(content, path)


def _check_label_map(packed: dict, path: str | None) -> None:
    sample = packed.get('data_samples') if isinstance(packed, dict) else None
    if sample is None or 'gt_sem_seg' not in sample or 'ori_shape' not in sample.metainfo:
        return
    shape, wanted = tuple(sample.gt_sem_seg.data.shape), tuple(sample.ori_shape[:2])
    if len(shape) == 3 and shape[0] == 1 and shape[1:] == wanted:
        return
    if len(shape) == 3 and shape[0] == 1:
        problem = f'is {shape[1]} x {shape[2]} pixels (height x width), but its image is {wanted[0]} x {wanted[1]}'
    else:
        problem = f'has the shape {shape}: it has channels, as a picture in colour'
    raise BadFileError(
        f'The label map {path} {problem}. A label map holds one class number a pixel, at the size of its image; in the '
        'test pipeline LoadAnnotations must stand behind Resize.'
    )
