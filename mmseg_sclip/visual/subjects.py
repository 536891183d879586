"""The images of a comparison: images of the dataset, by name or path, or other files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine import fileio

from ..datasets.check_files import with_notes
from ..datasets.pipelines import bands_of
from ..errors import ConfigError, MissingFileError, nearest
from ..images import pack_photograph, pack_without_truth, read_evaluated, read_photograph
from ..notes import Note
from .methods import Method


@dataclass(frozen=True)
class Subject:
    """An image.

    Attributes:
        path: Of its file.
        index: In the dataset of the first method; None for a file of the user's own, which has no ground truth and is
            shown upright.
    """

    path: str
    index: int | None = None

    @property
    def name(self) -> str:
        """The stem of the file."""
        return Path(self.path).stem

    def pack(self, method: Method) -> dict:
        """The image after the method's test pipeline, with the ground truth if there is one.

        Raises:
            BadFileError: A file is damaged, or the pipeline cannot process it.
        """
        steps = method.config.test_dataloader.dataset.pipeline
        if self.index is None:
            notes: list[Note] = []
            pixels = read_photograph(self.path, bands_of(method.config), notes)
            return with_notes(pack_photograph(steps, pixels, self.path), notes)
        info = method.info(self.index)
        truth = info.get('seg_map_path')
        if truth is None or not fileio.exists(truth, backend_args=getattr(method.listed, 'backend_args', None)):
            return pack_without_truth(steps, info)
        return method.listed.pipeline(info)

    def pixels(self, method: Method) -> np.ndarray:
        """(H, W, 3) uint8 RGB of the file, turned as for the prediction."""
        if self.index is None:
            return read_photograph(self.path, bands_of(method.config))
        return read_evaluated(self.path, getattr(method.listed, 'backend_args', None), bands_of(method.config))


def all_subjects(method: Method) -> list[Subject]:
    """Every image of the dataset, in its order."""
    return [Subject(method.listed.get_data_info(i)['img_path'], i) for i in range(len(method.listed))]


def find_subjects(names: Sequence[str], method: Method) -> list[Subject]:
    """Images by what people write.

    Args:
        names: Paths of files; an image of the dataset may also be named by its stem, its file name or the end of its
            path. The path of a file in the dataset's folder stands for the image of the dataset.
        method: Any of the methods; its dataset is read only if a name can belong to it.

    Raises:
        MissingFileError: A name is neither a file nor an image of the dataset.
        ConfigError: A name fits several images, or is a folder.
    """
    subjects = [_find(name, method) for name in names]
    for subject in subjects:
        if subjects.count(subject) > 1:
            raise ConfigError(f'The image {subject.path} is given twice. Name each image once.')
    return subjects


def _find(name: str, method: Method) -> Subject:
    path = Path(name).expanduser()
    if path.is_dir():
        raise ConfigError(f'{path} is a folder. Name image files, or --worst N for images of the dataset.')
    if path.is_file():
        return _find_file(path, method)
    try:
        subjects = all_subjects(method)
    except FileNotFoundError as error:
        raise MissingFileError(
            f'There is no file {name}, and the dataset that it could be in cannot be read: {error}'
        ) from error
    parts = Path(name).parts
    fitting = [
        subject
        for subject in subjects
        if parts in (Path(subject.path).parts[-len(parts) :], Path(subject.path).with_suffix('').parts[-len(parts) :])
    ]
    if not fitting:
        raise MissingFileError(
            f'{name} is neither a file nor one of the {len(subjects)} images of {type(method.dataset).__name__}.'
            f'{nearest(Path(name).stem, [subject.name for subject in subjects])}'
        )
    if len(fitting) > 1:
        raise ConfigError(
            f'{name} fits {len(fitting)} images of the dataset, such as {fitting[0].path} and {fitting[1].path}. Give '
            'more of the path.'
        )
    return fitting[0]


def _find_file(path: Path, method: Method) -> Subject:
    """An image of the dataset where the file is one, else a file of the user's own."""
    try:
        folder = method.dataset.data_prefix.get('img_path')
        if folder and '://' not in folder and path.resolve().is_relative_to(Path(folder).resolve()):
            for subject in all_subjects(method):
                if Path(subject.path).resolve() == path.resolve():
                    return subject
    except FileNotFoundError:  # the dataset is missing or incomplete
        pass
    return Subject(str(path))
