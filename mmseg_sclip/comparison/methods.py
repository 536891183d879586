"""The configs that are compared: their names, their common dataset and classes, and their models one by one."""

from __future__ import annotations

import copy
import gc
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmengine.runner.amp import autocast
from mmseg.apis import init_model
from mmseg.registry import DATASETS
from mmseg.structures import SegDataSample
from torch import nn

from ..cli.data_checks import check_test_files
from ..models.heads.class_names import dataset_meta
from ..models.text import load_vocabulary
from ..utils.checks import nearest


class Method:
    """One config of a comparison.

    Args:
        name: What figures call it.
        config: A whole config, from `load_config`.

    Attributes:
        classes: Names of the dataset's classes, or the vocabulary's where it names none.
        palette: Their colours in RGB.
        ignore_index: The label that the evaluation does not count.

    Raises:
        ValueError: The vocabulary has another number of classes than the dataset.
    """

    def __init__(self, name: str, config: Config) -> None:
        init_default_scope(config.get('default_scope') or 'mmseg')
        self.name = name
        self.config = config
        head, dataset = config.model.decode_head, config.test_dataloader.dataset
        vocabulary = load_vocabulary(head.vocabulary)
        meta = dataset_meta(vocabulary, head.get('class_names'))
        self.classes, self.palette = _names_and_colours(dataset, meta)
        if len(self.classes) != vocabulary.num_classes:
            raise ValueError(
                f'The vocabulary of {name} has {vocabulary.num_classes} classes, but its dataset {dataset.type} has '
                f'{len(self.classes)}. Name the vocabulary that belongs to the dataset.'
            )
        evaluators = config.test_evaluator if isinstance(config.test_evaluator, list) else [config.test_evaluator]
        found = [e['ignore_index'] for e in evaluators if 'IoUMetric' in str(e.get('type')) and 'ignore_index' in e]
        self.ignore_index = found[0] if found else 255  # IoUMetric's default

    @cached_property
    def dataset(self) -> BaseDataset:
        """The test dataset; its files are not listed yet.

        Raises:
            FileNotFoundError: It is not where the config says.
        """
        check_test_files(self.config)
        return DATASETS.build({**self.config.test_dataloader.dataset, 'lazy_init': True})

    def build(self, device: torch.device | str | None = None) -> nn.Module:
        """The model with its weights, and the checkpoint of `load_from` where the config names one."""
        config = copy.deepcopy(self.config)  # `init_model` changes it
        return init_model(config, config.get('load_from'), device=str(device or get_device()))

    def predict(self, model: nn.Module, packed: dict) -> SegDataSample:
        """What the evaluation's loop does with one image out of the pipeline."""
        with torch.no_grad(), autocast(enabled=bool(self.config.test_cfg.get('fp16', False))):
            return model.test_step(pseudo_collate([packed]))[0]


class OneModel:
    """Builds the models of methods, and holds one at a time.

    Args:
        device: Where they run; None for a GPU where there is one.
    """

    def __init__(self, device: torch.device | str | None = None) -> None:
        self.device = device
        self._method: Method | None = None
        self._model: nn.Module | None = None

    def of(self, method: Method) -> nn.Module:
        """The model of a method; that of another one is dropped first."""
        if method is not self._method:
            self._method = self._model = None
            gc.collect()  # MMEngine's modules hold each other
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._method, self._model = method, method.build(self.device)
        return self._model


def short_names(configs: Sequence[str]) -> list[str]:
    """The stems of config files; where two have one stem, all are called as they were given.

    Raises:
        ValueError: A config was given twice.
    """
    if len(set(configs)) != len(configs):
        twice = next(name for name in configs if configs.count(name) > 1)
        raise ValueError(f'The config {twice} is given twice. Name each config once.')
    stems = [Path(name).stem for name in configs]
    return stems if len(set(stems)) == len(stems) else [name.removesuffix('.py') for name in configs]


def check_comparable(methods: Sequence[Method]) -> None:
    """Refuse configs that do not speak of the same images and classes.

    Raises:
        ValueError: With the first difference.
    """
    first = methods[0]
    for other in methods[1:]:
        if first.classes != other.classes:
            raise ValueError(
                f'{first.name} and {other.name} have different classes: {_difference(first.classes, other.classes)}. '
                'Compare configs of one dataset.'
            )
        ours, theirs = (dict(method.config.test_dataloader.dataset) for method in (first, other))
        for key in sorted({*ours, *theirs} - {'pipeline'}):
            if ours.get(key) != theirs.get(key):
                raise ValueError(
                    f'{first.name} and {other.name} have different datasets: {key} is {ours.get(key)!r} in the first '
                    f'and {theirs.get(key)!r} in the other. Compare configs of one dataset.'
                )
        if first.ignore_index != other.ignore_index:
            raise ValueError(
                f'{first.name} and {other.name} ignore different labels: {first.ignore_index} and '
                f'{other.ignore_index} (ignore_index of test_evaluator).'
            )


def _names_and_colours(dataset: Mapping, model: Mapping) -> tuple[list[str], list[tuple[int, ...]]]:
    """Classes and palette as the dataset has them, whose files need not be there, or else as the model has them.

    Args:
        dataset: Config of the dataset.
        model: `classes` and `palette`.
    """
    cls = DATASETS.get(dataset['type']) if isinstance(dataset['type'], str) else dataset['type']
    if cls is None:
        raise ValueError(
            f"test_dataloader.dataset has the type '{dataset['type']}', which is not registered."
            f'{nearest(dataset["type"], DATASETS.module_dict)}'
        )
    chosen = dataset.get('metainfo') or {}
    meta = cls._load_metainfo(chosen)
    names, palette = list(meta.get('classes') or model['classes']), meta.get('palette')
    if palette and 'palette' not in chosen:
        # MMSeg gives chosen classes the colours that they have among all.
        colour_of = dict(zip(cls.METAINFO['classes'], palette, strict=True))
        palette = [colour_of[name] for name in names] if set(names) <= set(colour_of) else None
    return names, [tuple(colour) for colour in palette or model['palette']]


def _difference(ours: Sequence[str], theirs: Sequence[str]) -> str:
    if len(ours) != len(theirs):
        return f'{len(ours)} and {len(theirs)}'
    index = next(i for i, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one != other)
    return f'class {index} is {ours[index]!r} in the first and {theirs[index]!r} in the other'
