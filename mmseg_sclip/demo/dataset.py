"""Painted scenes as files: a folder of images and label maps in MMSegmentation's layout."""

import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from rich.progress import track

from .scenes import GENERATOR_VERSION, MATERIALS, PURPOSES, scene

_JPEG_QUALITY = 95


@dataclass(frozen=True)
class SceneSet:
    """Which scenes: the first `count` of a purpose and seed, each a square of `size` pixels."""

    purpose: str = 'evaluation'
    seed: int = 0
    count: int = 200
    size: int = 128
    max_regions: int = 5

    def __post_init__(self) -> None:
        if self.purpose not in PURPOSES:
            raise ValueError(f'purpose is {self.purpose!r}; choose one of {", ".join(map(repr, PURPOSES))}')
        most = {'max_regions': len(MATERIALS)}  # regions differ in material
        for name, least in (('seed', 0), ('count', 1), ('size', 8), ('max_regions', 1)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most.get(name, value):
                limit = f'to {most[name]}' if name in most else 'on'
                raise ValueError(
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

    The folder appears under its name only when it is complete, so several processes may ask at once.
    """
    folder = root / scenes.name
    if not folder.is_dir():
        # A sibling, since a rename is atomic only within one file system.
        unfinished = root / f'.{scenes.name}.{uuid.uuid4().hex}'
        try:
            _paint(scenes, unfinished)
            _publish(unfinished, folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    for kind in ('images', 'annotations'):
        found = len(list((folder / kind).glob('*')))
        if found != scenes.count:
            raise RuntimeError(
                f'{folder / kind} holds {found} of {scenes.count} painted files: somebody changed it. '
                f'Delete {folder} and it is painted again.'
            )
    return folder


def _paint(scenes: SceneSet, folder: Path) -> None:
    images, labels = folder / 'images', folder / 'annotations'
    try:
        for new in (images, labels):
            new.mkdir(parents=True)
    except OSError as error:
        raise OSError(
            f'Cannot paint scenes into {folder.parent}: {error}. Set MMSEG_SCLIP_CACHE to a folder that can be written.'
        ) from error
    print(f'Painting {scenes.count} scenes into {folder.parent / scenes.name}', flush=True)
    for index in track(range(scenes.count), description='Painting scenes', transient=True):
        painted = scene(scenes.purpose, scenes.seed, index, scenes.size, scenes.max_regions)
        Image.fromarray(painted.image).save(images / f'{index:06d}.jpg', quality=_JPEG_QUALITY)
        Image.fromarray(painted.label).save(labels / f'{index:06d}.png')


def _publish(unfinished: Path, folder: Path) -> None:
    try:
        os.rename(unfinished, folder)
    except OSError:
        if not folder.is_dir():
            raise
        # Another process was first, and its scenes are the same.
