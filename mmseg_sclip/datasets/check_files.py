"""Looking at a dataset's files before anything large is loaded, and at its samples when they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mmengine import fileio
from mmengine.dataset import BaseDataset
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from ..checks import is_a
from ..errors import BadFileError, MissingFileError
from ..images import open_image
from ..notes import NOTES, Note, Notes, say_once
from .building import build_dataset, built_parts
from .image_folder import ImageFolderDataset
from .listing import left_out, list_names
from .pipelines import parts_of
from .split_file import read_names


def check_files(dataset: Mapping, loader: str = 'test_dataloader') -> None:
    """Check the folders and the split file that a dataset names, and say what of its folders it leaves out.

    MMSeg's own classes answer a wrong folder with a bare assertion or an empty dataset, and list the images of one
    suffix only.

    Args:
        dataset: Its config.
        loader: Where it stands in the whole config, for messages.

    Raises:
        MissingFileError: Something is missing; the message says what was expected where.
    """
    for part in parts_of(dataset):
        if part is not dataset:
            check_files(part, loader)
    root = dataset.get('data_root')
    if not isinstance(root, (str, Path)) or '://' in str(root):
        return
    prefixes, split = dataset.get('data_prefix') or {}, dataset.get('ann_file')
    expected = [value for value in (*prefixes.values(), split) if isinstance(value, str) and value]
    layout = f'{root} must hold {", ".join(expected)}' if expected else f'data_root is {root}'
    remedy = (
        f'{layout}. Say where the dataset is with --data-root DIR, or {loader}.dataset.data_root in the config; '
        'the documentation (docs/data.md) says where to get it.'
    )
    for part in ('', *expected):
        if '://' in part:  # an address, which MMEngine's file client reads
            continue
        path = Path(root) / part
        if not path.exists():
            raise MissingFileError(f'{dataset["type"]}: {path.absolute()} does not exist. {remedy}')
        if path.is_dir() and next(path.iterdir(), None) is None:
            raise MissingFileError(f'{dataset["type"]}: {path.absolute()} is empty. {remedy}')
    if (
        split
        and '://' not in split
        and (Path(root) / split).is_file()
        and not read_names(Path(root) / split, tabs=True)
    ):
        raise MissingFileError(
            f'{dataset["type"]}: {(Path(root) / split).absolute()} names no image. It must hold one file name '
            'without suffix per line; fetch it again.'
        )
    named = prefixes.get('img_path') is not None and is_a(DATASETS, dataset, BaseSegDataset)
    if not split and (named or is_a(DATASETS, dataset, ImageFolderDataset)):
        built = build_dataset({**dataset, 'pipeline': []}, listed=False)
        folder = built.data_prefix['img_path'] or '.'
        if '://' not in folder:
            names = list_names(folder)
            _refuse_other_suffix(built, names, remedy)
            for note in left_out(built, names):
                say_once(note)


def _refuse_other_suffix(dataset: BaseSegDataset, names: Sequence[str], remedy: str) -> None:
    """Refuse a dataset that lists images of one suffix, where none of the files has it.

    Raises:
        MissingFileError: None of the files has it.
    """
    suffix = dataset.img_suffix
    if isinstance(suffix, str) and not any(name.endswith(suffix) for name in names):
        folder = Path(dataset.data_prefix['img_path'] or '').absolute()
        raise MissingFileError(
            f'{type(dataset).__name__}: {folder} holds no image whose name ends with {suffix}. {remedy}'
        )


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
    for part in built_parts(dataset):
        if callable(getattr(part, 'pipeline', None)):
            part.pipeline = _NamingPipeline(part.pipeline)


class _NamingPipeline:
    """A pipeline that names the damaged file, and checks that a label map belongs to its image."""

    def __init__(self, pipeline: Callable[[dict], dict]) -> None:
        self.pipeline = pipeline

    def __call__(self, sample: dict) -> dict:
        image, labels = sample.get('img_path'), sample.get('seg_map_path')
        sample[NOTES] = Notes()
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
        return with_notes(packed, sample[NOTES])


def with_notes(packed: dict, notes: Sequence[Note]) -> dict:
    """Put what readers of files have noticed into the metadata of a packed sample; of its first view with `--tta`."""
    if notes and isinstance(packed, dict):
        sample = packed.get('data_samples')
        sample = sample[0] if isinstance(sample, list) else sample
        if sample is not None:
            sample.set_metainfo({NOTES: tuple(dict.fromkeys(notes))})
    return packed


def _check_readable(path: str) -> None:
    try:
        content = fileio.get(path)
    except FileNotFoundError as error:
        raise MissingFileError(
            f'{path} does not exist, but the dataset lists it. Complete the dataset, or take it out of the list.'
        ) from error
    except (OSError, ImportError) as error:  # an address
        raise BadFileError(
            f'{path} cannot be read ({" ".join(str(error).split()) or type(error).__name__}). Correct the dataset, or '
            'install what is missing.'
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
        f'The label map {path} {problem}. A label map holds one class number per pixel, at the size of its image; in '
        'the test pipeline LoadAnnotations must stand after Resize.'
    )
