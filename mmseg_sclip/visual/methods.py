"""The configs that are compared: their names, their common dataset and classes, and their models."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.runner.amp import autocast
from mmseg.evaluation import IoUMetric
from mmseg.registry import DATASETS, METRICS, TRANSFORMS
from mmseg.structures import SegDataSample
from torch import nn

from ..checks import is_a
from ..datasets.check_files import check_files, name_files_in_errors
from ..datasets.palette import classes_of
from ..datasets.transforms import ScoreCentre
from ..engine.ignored import default_ignored, ignored_labels, settle_ignored
from ..engine.metric import ExactIoUMetric
from ..engine.runner import build_model
from ..errors import ConfigError
from ..models.heads.class_names import dataset_meta
from ..models.text import load_vocabulary


class Method:
    """One config of a comparison.

    Args:
        name: What figures call it.
        config: A whole config, from `load_config`.

    Attributes:
        classes: Names of the dataset's classes, or the vocabulary's where it names none.
        palette: Their colours in RGB.
        ignore_index: The label that the evaluation does not count, or several.

    Raises:
        ConfigError: The vocabulary has another number of classes than the dataset.
    """

    def __init__(self, name: str, config: Config) -> None:
        init_default_scope(config.get('default_scope') or 'mmseg')
        self.name = name
        self.config = config
        head, dataset = config.model.decode_head, config.test_dataloader.dataset
        vocabulary = load_vocabulary(head.vocabulary)
        meta = dataset_meta(vocabulary, head.get('class_names'), head.get('background_index'))
        self.classes, self.palette = classes_of(dataset, meta)
        if len(self.classes) != vocabulary.num_classes:
            raise ConfigError(
                f'The vocabulary of {name} has {vocabulary.num_classes} classes, but its dataset {dataset.type} has '
                f'{len(self.classes)}. Name the vocabulary that belongs to the dataset.'
            )
        evaluators = config.test_evaluator if isinstance(config.test_evaluator, list) else [config.test_evaluator]
        metric = dict(next((entry for entry in evaluators if 'type' in entry and is_a(METRICS, entry, IoUMetric)), {}))
        settle_ignored(metric, dataset)
        self.ignore_index = metric.get('ignore_index', default_ignored(len(self.classes)))

    @cached_property
    def dataset(self) -> BaseDataset:
        """The test dataset; its files are not listed yet.

        Raises:
            MissingFileError: It is not where the config says.
        """
        check_files(self.config.test_dataloader.dataset)
        return DATASETS.build({**self.config.test_dataloader.dataset, 'lazy_init': True})

    @cached_property
    def listed(self) -> BaseDataset:
        """The test dataset with its files listed.

        Raises:
            MissingFileError: It is not where the config says.
        """
        self.dataset.full_init()
        name_files_in_errors(self.dataset)
        return self.dataset

    @contextmanager
    def model(self, device: torch.device | str | None = None) -> Iterator[nn.Module]:
        """The model with its weights, and the checkpoint of `load_from` where the config names one.

        It is dropped at the end of the block, so that one model is in memory at a time.

        Args:
            device: Where it runs; None for a GPU where there is one.
        """
        yield build_model(self.config, device)
        gc.collect()  # MMEngine's modules hold each other
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def metric(self) -> ExactIoUMetric:
        """A fresh metric of the evaluation's kind; labels that are no class are warned of once."""
        metric = ExactIoUMetric(ignore_index=self.ignore_index, prefix=self.name)
        metric.dataset_meta = dict(classes=self.classes)
        return metric

    def predict(self, model: nn.Module, packed: dict) -> SegDataSample:
        """What the evaluation's loop does with one image out of the pipeline."""
        with torch.no_grad(), autocast(enabled=bool(self.config.test_cfg.get('fp16', False))):
            return model.test_step(pseudo_collate([packed]))[0]


def short_names(configs: Sequence[str]) -> list[str]:
    """The stems of config files; where two have one stem, all are called as they were given.

    Raises:
        ConfigError: A config was given twice.
    """
    if len(set(configs)) != len(configs):
        twice = next(name for name in configs if configs.count(name) > 1)
        raise ConfigError(f'The config {twice} is given twice. Name each config once.')
    stems = [Path(name).stem for name in configs]
    return stems if len(set(stems)) == len(stems) else [name.removesuffix('.py') for name in configs]


def check_comparable(methods: Sequence[Method]) -> None:
    """Refuse configs that do not speak of the same images and classes.

    Raises:
        ConfigError: With the first difference.
    """
    first = methods[0]
    for other in methods[1:]:
        if first.classes != other.classes:
            raise ConfigError(
                f'{first.name} and {other.name} have different classes ({len(first.classes)} from '
                f'{first.classes[0]!r} on, {len(other.classes)} from {other.classes[0]!r} on). Compare configs of one '
                'dataset.'
            )
        ours, theirs = (dict(method.config.test_dataloader.dataset) for method in (first, other))
        for key in sorted({*ours, *theirs} - {'pipeline'}):
            if ours.get(key) != theirs.get(key):
                raise ConfigError(
                    f'{first.name} and {other.name} have different datasets: {key} is {ours.get(key)!r} in the first '
                    f'and {theirs.get(key)!r} in the other. Compare configs of one dataset.'
                )
        if _cut(first.config) != _cut(other.config):
            raise ConfigError(
                f'{first.name} and {other.name} are evaluated on different parts of the images: ScoreCentre or a step '
                'before it differs in their test pipelines, and predictions of different sizes cannot be compared. '
                'Compare configs that have the same steps up to ScoreCentre, or both have none.'
            )
        if {*ignored_labels(first.ignore_index)} != {*ignored_labels(other.ignore_index)}:
            raise ConfigError(
                f'{first.name} and {other.name} ignore different labels: {first.ignore_index} and '
                f'{other.ignore_index} (ignore_index of test_evaluator).'
            )


def _cut(config: Config) -> list[Mapping]:
    """The steps that settle which part of an image is evaluated, and at which size; none for all of it."""
    steps = config.test_dataloader.dataset.pipeline
    ends = [number for number, step in enumerate(steps, 1) if is_a(TRANSFORMS, step, ScoreCentre)]
    return steps[: max(ends, default=0)]
