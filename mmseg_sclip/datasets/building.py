"""Building a test dataset whose lists of names are read with care, whichever class it is of."""

from __future__ import annotations

import copy
import inspect
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from ..checks import class_of
from ..errors import ConfigError
from .checked_layout import CheckedLayout
from .image_folder import ImageFolderDataset
from .pipelines import parts_of
from .split_file import exists_beside, read_split, with_class_names


def build_dataset(config: Mapping, listed: bool = True) -> Any:
    """Build a dataset by its config.

    MMSegmentation takes what no editor shows for a part of a name: marks of encodings, second columns, suffixes. Here
    its datasets read split files and files of class names as this package's own do.

    Args:
        config: Of the dataset.
        listed: Whether its files are listed now.

    Raises:
        BadFileError: A list of names cannot be read.
        ConfigError: Two classes have one name.
    """
    config = copy.deepcopy(config.to_dict() if hasattr(config, 'to_dict') else dict(config))
    for part in (config, *parts_of(config)):
        if _may_wait(part['type']):
            part['lazy_init'] = True
        if part.get('metainfo') is not None:
            part['metainfo'] = with_class_names(part['metainfo'])
    with _named(config):
        dataset = DATASETS.build(config)
        if listed:
            list_files(dataset)
    return dataset


@contextmanager
def _named(config: Mapping) -> Iterator[None]:
    """Say in a sentence why the files at an address cannot be listed, or a split file cannot be read.

    Raises:
        ConfigError: In place of what MMEngine's file clients and MMSegmentation's assertion raise.
    """
    try:
        yield
    except (ImportError, AttributeError, NotImplementedError, AssertionError) as error:
        values = [config.get('data_root'), config.get('ann_file'), *(config.get('data_prefix') or {}).values()]
        address = next((value for value in values if '://' in str(value)), None)
        if address is None and not isinstance(error, AssertionError):
            raise
        where = f' at {address}' if address else ''
        raise ConfigError(
            f'The files of {config["type"]}{where} cannot be listed ({" ".join(str(error).split())}). MMSegmentation '
            'reads images and label maps from http addresses where data_prefix holds them and ann_file is a file on '
            'this machine; for s3 the package petrel_client is needed.'
            if address
            else f'The files of {config["type"]} cannot be listed ({error}). Correct ann_file and data_prefix.'
        ) from error


def _may_wait(kind: Any) -> bool:
    """Whether a dataset can be built before its files are listed."""
    cls = class_of(DATASETS, kind)
    if not inspect.isclass(cls):
        return False
    return issubclass(cls, BaseDataset) or 'lazy_init' in inspect.signature(cls).parameters


def list_files(dataset: Any) -> None:
    """List the files of a dataset that was built without."""
    for part in built_parts(dataset):
        if _reads_lines(part) and part.ann_file and Path(part.ann_file).is_file():
            _list_by_split(part)
        elif hasattr(part, 'full_init'):
            part.full_init()
    if hasattr(dataset, 'full_init'):
        dataset.full_init()


def built_parts(dataset: Any) -> list[Any]:
    """The datasets in a ConcatDataset or another wrapper, or the dataset itself."""
    inside = getattr(dataset, 'datasets', None) or ([dataset.dataset] if hasattr(dataset, 'dataset') else [])
    return [found for part in inside for found in built_parts(part)] if inside else [dataset]


def _reads_lines(dataset: Any) -> bool:
    """Whether a dataset reads its split file as MMSegmentation's base class does."""
    if isinstance(dataset, ImageFolderDataset) or not isinstance(dataset, BaseSegDataset):
        return False
    return type(dataset).load_data_list in (BaseSegDataset.load_data_list, CheckedLayout.load_data_list)


def _list_by_split(dataset: BaseSegDataset) -> None:
    """List the files of a plain copy of the split file."""
    given, folder = dataset.ann_file, dataset.data_prefix.get('img_path') or ''
    names = read_split(given, exists_beside(folder, dataset.img_suffix), (dataset.img_suffix,))
    with tempfile.TemporaryDirectory(prefix='mmseg_sclip-') as place:
        dataset.ann_file = str(Path(place) / Path(given).name)
        Path(dataset.ann_file).write_text(''.join(f'{name}\n' for name in names), encoding='utf-8')
        try:
            dataset.full_init()
        finally:
            dataset.ann_file = given
