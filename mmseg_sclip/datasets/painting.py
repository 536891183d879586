"""Painted scenes as files: a folder of images and label maps in MMSegmentation's layout."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from rich.progress import track

from ..errors import BadFileError, ConfigError, UserError, output_error
from ..files import locked
from .materials import MATERIALS
from .scenes import GENERATOR_VERSION, PURPOSES, scene

_JPEG_QUALITY = 95


@dataclass(frozen=True)
class SceneSet:
    """Which scenes: the first `count` of a purpose and seed, each a square of `size` pixels."""

    purpose: str = 'evaluation'
    seed: int = 0
    count: int = 100
    size: int = 192
    max_regions: int = 6

    def __post_init__(self) -> None:
        if self.purpose not in PURPOSES:
            raise ConfigError(f'purpose is {self.purpose!r}; choose one of {", ".join(map(repr, PURPOSES))}')
        most = {'max_regions': len(MATERIALS)}  # regions differ in material
        for name, least in (('seed', 0), ('count', 1), ('size', 8), ('max_regions', 1)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most.get(name, value):
                limit = f'to {most[name]}' if name in most else 'on'
                raise ConfigError(
                    f'{name} of the painted scenes is {value!r}; it must be a whole number from {least} {limit}. '
                    f'Correct it in the config, or with --cfg-options test_dataloader.dataset.{name}=N.'
                )

    @property
    def name(self) -> str:
        """Folder name; every value that changes a pixel is in it."""
        return (
            f'v{GENERATOR_VERSION}-{self.purpose}-seed{self.seed}-{self.size}px-{self.count}-{self.max_regions}regions'
        )


def paint_folder(scenes: SceneSet, root: Path) -> Path:
    """Return `root / scenes.name`, painted unless it exists: `images/*.jpg` and `annotations/*.png` (indices).

    The folder appears under its name only when it is complete, and one process paints while others wait. What a killed
    one has left is removed.

    Raises:
        OutputError: The cache cannot be written to.
        BadFileError: Somebody changed the painted folder.
    """
    folder = root / scenes.name
    if not folder.is_dir():
        try:
            with locked(folder):
                _paint(scenes, folder)
        except OSError as error:
            if isinstance(error, UserError):
                raise
            what = 'the painted scenes; MMSEG_SCLIP_CACHE moves them'
            raise output_error(folder, error, what) from error
    for kind in ('images', 'annotations'):
        count = len(list((folder / kind).glob('*')))
        if count != scenes.count:
            raise BadFileError(
                f'{folder / kind} holds {count} of {scenes.count} painted files: somebody changed it. '
                f'Delete {folder} and it is painted again.'
            )
    return folder


def _paint(scenes: SceneSet, folder: Path) -> None:
    for left in folder.parent.glob(f'.{folder.name}.*'):  # by processes that were killed
        shutil.rmtree(left, ignore_errors=True)
    if folder.is_dir():  # another process painted it while this one waited
        return
    # A sibling, since a rename is atomic only within one file system.
    unfinished = folder.with_name(f'.{folder.name}.unfinished')
    images, labels = unfinished / 'images', unfinished / 'annotations'
    try:
        for new in (images, labels):
            new.mkdir(parents=True)
        print(f'Painting {scenes.count} scenes into {folder}', flush=True)
        for index in track(range(scenes.count), description='Painting scenes', transient=True):
            painted = scene(scenes.purpose, scenes.seed, index, scenes.size, scenes.max_regions)
            Image.fromarray(painted.image).save(images / f'{index:06d}.jpg', quality=_JPEG_QUALITY)
            Image.fromarray(painted.label).save(labels / f'{index:06d}.png')
        os.rename(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
