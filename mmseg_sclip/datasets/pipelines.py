"""This package's readers of files in place of those of MMCV and MMSegmentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config
from mmseg.datasets.transforms import LoadAnnotations, PackSegInputs
from mmseg.registry import TRANSFORMS

from ..checks import class_of, is_a
from ..images import CheckImageFile, LoadImage
from .label_maps import LoadLabelMap


def use_own_readers(config: Config, loader: str = 'test_dataloader') -> None:
    """Let a dataset of a config read its files by `LoadImage` and `LoadLabelMap`.

    Args:
        config: It is changed.
        loader: Which dataset. Where it is trained on, pixels without a label are those of MMSegmentation, since steps
            of trainings know them.
    """
    for part in parts_of(config[loader].dataset):
        if part.get('pipeline') is not None:
            part['pipeline'] = with_own_readers(part['pipeline'], mark_void=loader != 'train_dataloader')


def parts_of(dataset: Mapping) -> list[Mapping]:
    """The configs of a dataset's parts: those in a ConcatDataset or another wrapper, or the dataset itself."""
    return [part for _, part in places_of(dataset, '')]


def places_of(dataset: Mapping, where: str) -> Iterator[tuple[str, Mapping]]:
    """As `parts_of`, each with its place in the config, such as `test_dataloader.dataset.datasets.0`.

    Args:
        dataset: The config of a dataset.
        where: Its own place.
    """
    inside = [(f'{where}.datasets.{number}', part) for number, part in enumerate(dataset.get('datasets') or ())]
    if not inside and isinstance(dataset.get('dataset'), Mapping):
        inside = [(f'{where}.dataset', dataset['dataset'])]
    for place, part in inside:
        yield from places_of(part, place)
    if not inside:
        yield where, dataset


def with_own_readers(steps: Sequence[Any], mark_void: bool = True) -> list[Any]:
    """A pipeline, or the steps in `TestTimeAug`, with this package's readers.

    Args:
        steps: The steps, of which built ones are left as they are.
        mark_void: See `LoadLabelMap`. Nothing is marked where another step works on the label map, since some handle 8
            bits only.
    """
    found = []
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        if isinstance(step, (list, tuple)):
            found.append(with_own_readers(step, mark_void))
            continue
        if not isinstance(step, Mapping):  # built already
            found.append(step)
            continue
        step, kind = dict(step), class_of(TRANSFORMS, step['type'])
        if kind is CheckImageFile:  # `LoadImage` checks what it reads
            continue
        if kind is LoadImageFromFile:
            step['type'] = LoadImage.__name__
        elif kind in (LoadAnnotations, LoadLabelMap):
            last = after is None or (isinstance(after, Mapping) and is_a(TRANSFORMS, after, PackSegInputs))
            step.update(type=LoadLabelMap.__name__, mark_void=mark_void and last)
        if 'transforms' in step:
            step['transforms'] = with_own_readers(step['transforms'], mark_void)
        found.append(step)
    return found


def bands_of(config: Mapping) -> list[int] | None:
    """Which bands of files the test pipeline of a config shows; None for the files' own colours."""
    for part in parts_of((config.get('test_dataloader') or {}).get('dataset') or {}):
        for step in part.get('pipeline') or ():
            if isinstance(step, Mapping) and step.get('bands') is not None:
                return step['bands']
    return None


def choose_bands(config: Config, bands: Sequence[int] | None) -> None:
    """Put `--bands` into every step of the test pipelines that reads images; None changes nothing."""
    if bands is None:
        return
    holders = [(part, 'pipeline') for part in parts_of(config.test_dataloader.dataset)] + [(config, 'tta_pipeline')]
    for holder, key in holders:
        if holder.get(key) is not None:
            steps = with_own_readers(holder[key])
            for step in steps:
                if isinstance(step, dict) and step['type'] == LoadImage.__name__:
                    step['bands'] = list(bands)
            holder[key] = steps
