"""Looking at a config's data before anything large is loaded, and at its samples when they are read."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path

from mmengine import fileio
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmseg.registry import DATASETS

from ..engine.loading import decode_strictly


def check_test_files(config: Config) -> None:
    """Check the folders and the split file that the test dataset names.

    MMSeg's own classes answer a wrong folder with a bare assertion or an empty dataset.

    Raises:
        FileNotFoundError: Something is missing; the message says what was expected where.
        ValueError: The dataset's `data_prefix` is none.
    """
    dataset = config.test_dataloader.dataset
    _check_prefix(dataset)
    root = dataset.get('data_root')
    if not isinstance(root, str) or '://' in root:
        return
    prefixes, split = dataset.get('data_prefix') or {}, dataset.get('ann_file')
    expected = [value for value in (*prefixes.values(), split) if isinstance(value, str) and value]
    layout = f'{root} must hold {", ".join(expected)}' if expected else f'data_root is {root}'
    remedy = (
        f'{layout}. Say where the dataset is with --data-root DIR, or test_dataloader.dataset.data_root in the config; '
        'the README tells where to get it.'
    )
    for part in ('', *expected):
        path = Path(root) / part
        if not path.exists():
            raise FileNotFoundError(f'{dataset.type}: {path.absolute()} does not exist. {remedy}')
        if path.is_dir() and next(path.iterdir(), None) is None:
            raise FileNotFoundError(f'{dataset.type}: {path.absolute()} is empty. {remedy}')
    if split:
        if (Path(root) / split).is_file() and not (Path(root) / split).read_text().strip():
            raise FileNotFoundError(
                f'{dataset.type}: {(Path(root) / split).absolute()} names no image. It must hold one file name without '
                'suffix a line; fetch it again.'
            )
    elif 'img_path' in prefixes:
        images, suffix = Path(root) / prefixes['img_path'], _image_suffix(dataset)
        if suffix and next(images.rglob(f'*{suffix}'), None) is None:
            raise FileNotFoundError(
                f'{dataset.type}: {images.absolute()} holds no image whose name ends with {suffix}. {remedy}'
            )


def _check_prefix(dataset: Config) -> None:
    prefix = dataset.get('data_prefix', {})
    if isinstance(prefix, Mapping) or (prefix is None and _default(dataset, 'data_prefix') is None):
        return
    raise ValueError(
        f'{dataset.type}: data_prefix is {prefix!r}; it must be a dict of folders below data_root, such as '
        "dict(img_path='images', seg_map_path='annotations')."
    )


def _default(dataset: Config, name: str) -> object:
    """The default of an argument of the dataset's class, looked for in its bases too; None where there is none."""
    cls = DATASETS.get(dataset.type) if isinstance(dataset.type, str) else dataset.type
    for base in inspect.getmro(cls) if inspect.isclass(cls) else ():
        if '__init__' in vars(base) and name in inspect.signature(base.__init__).parameters:
            return inspect.signature(base.__init__).parameters[name].default
    return None


def _image_suffix(dataset: Config) -> str | None:
    """The end of the images' names: the config's, or the default of the dataset's class."""
    if 'img_suffix' in dataset:
        return dataset.img_suffix
    suffix = _default(dataset, 'img_suffix')
    return suffix if isinstance(suffix, str) else None


def name_files_in_errors(dataset: BaseDataset) -> None:
    """Make the pipeline of a dataset say which file is wrong."""
    if callable(getattr(dataset, 'pipeline', None)):
        dataset.pipeline = _NamingPipeline(dataset.pipeline)


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
                if path in str(error) and not isinstance(error, FileNotFoundError):
                    raise
                _check_readable(path)
            raise ValueError(f'The test pipeline cannot process {image} ({type(error).__name__}: {error}).') from error
        _check_label_map(packed, labels)
        return packed


def _check_readable(path: str) -> None:
    try:
        content = fileio.get(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f'{path} does not exist, but the dataset lists it. Complete the dataset, or take it out of the list.'
        ) from error
    decode_strictly(content, path)


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
    raise ValueError(
        f'The label map {path} {problem}. A label map holds one class number a pixel, at the size of its image; in the '
        'test pipeline LoadAnnotations must stand behind Resize.'
    )
