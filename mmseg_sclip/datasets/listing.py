"""The files in a dataset's folders: images, label maps, and what is left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from mmengine import fileio

from ..errors import ConfigError
from ..files import is_ours
from ..images import readable_suffixes
from ..notes import Note, listed


def list_images(folder: Path | str, backend_args: dict | None = None) -> list[str]:
    """All image files in a folder and in those inside, relative to it and sorted; hidden ones are left out."""
    return [name for name in list_names(folder, backend_args) if name.lower().endswith(readable_suffixes())]


def list_names(folder: Path | str, backend_args: dict | None = None) -> list[str]:
    """All files in a folder and in those inside, relative to it and sorted; hidden ones are left out.

    Raises:
        ConfigError: The folder is an address that cannot be listed.
    """
    try:
        return sorted(fileio.list_dir_or_file(str(folder), list_dir=False, recursive=True, backend_args=backend_args))
    except (AttributeError, NotImplementedError) as error:
        raise ConfigError(
            f'The files at {folder} cannot be listed. Name them in an ann_file, one per line without suffix, and take '
            "the dataset type 'BaseSegDataset'."
        ) from error


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


def left_out(dataset: Any, names: Sequence[str]) -> list[Note]:
    """What lies in the folders of a dataset that lists them, and is not taken.

    Args:
        dataset: Built; its folders are on this machine.
        names: Of the files in its folder of images, see `list_names`.
    """
    prefix = getattr(dataset, 'data_prefix', {})
    folder, labels = prefix.get('img_path'), prefix.get('seg_map_path')
    suffix, map_suffix = getattr(dataset, 'img_suffix', None), getattr(dataset, 'seg_map_suffix', None)
    if suffix is None or map_suffix is None or folder is None or not Path(folder or '.').is_dir():
        return []
    folder = Path(folder or '.').absolute()
    maps = label_maps(names, folder, labels, map_suffix)
    images = [name for name in names if _is_taken(name, suffix) and (isinstance(suffix, str) or name not in maps)]
    notes = []
    if not dataset.ann_file:
        known = {*images, *maps}
        others = [name for name in names if name not in known and not is_ours(folder / name)]
        pictures = [name for name in others if name.lower().endswith(readable_suffixes())]
        if pictures and isinstance(suffix, str):
            notes.append(_by_suffix(dataset, folder, len(images), suffix, pictures))
            others = sorted({*others} - {*pictures})
        if others:
            text = (
                f'{folder} holds {_count(others, "file")} that no reader of images knows, left out: {listed(others)}.'
            )
            notes.append(Note('other files', text))
    if labels is not None and Path(labels or '.').is_dir():
        stems = {name[: -len(suffix)] for name in images if isinstance(suffix, str)}
        stems |= {name[: name.rindex('.')] for name in names if name.lower().endswith(readable_suffixes())} - {
            name[: name.rindex('.')] for name in maps
        }
        beside = {*images} if os.path.relpath(labels or '.', folder) == '.' else set()
        notes += _maps_without_image(Path(labels or '.').absolute(), stems, beside, map_suffix)
    return notes


def _is_taken(name: str, suffix: str | tuple[str, ...]) -> bool:
    return name.endswith(suffix) if isinstance(suffix, str) else name.lower().endswith(suffix)


def _by_suffix(dataset: Any, folder: Path, taken: int, suffix: str, pictures: Sequence[str]) -> Note:
    counts = Counter(Path(name).suffix for name in pictures).most_common()
    return Note(
        'images left out',
        f'{folder} holds {taken + len(pictures)} images, but {type(dataset).__name__} takes only the {taken} whose '
        f'names end with {suffix}. Left out are {len(pictures)}: '
        f'{", ".join(f"{count} with {other}" for other, count in counts)}. They are {listed(pictures)}. To evaluate '
        "all, set type='ImageFolderDataset' in the config, or rename them.",
    )


def _maps_without_image(folder: Path, stems: set[str], images: set[str], suffix: str) -> list[Note]:
    """What is said of label maps that have no image of any kind."""
    maps = [name for name in list_names(folder) if name.lower().endswith(suffix.lower()) and name not in images]
    alone = [name for name in maps if name[: -len(suffix)] not in stems]
    if not alone or len(alone) == len(maps):  # where none has an image, the test stops at the first
        return []
    text = f'{folder} holds {_count(alone, "label map")} without an image, left out: {listed(alone)}.'
    return [Note('label maps without an image', text)]


def _count(names: Collection[str], what: str) -> str:
    return f'{len(names)} {what}{"s" * (len(names) != 1)}'
