"""The configs of a comparison: their names, datasets and classes, and what their models predict."""

from __future__ import annotations

import copy
import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.runner.amp import autocast
from mmseg.structures import SegDataSample
from torch import nn

from ..config import check_checkpoint, named_head
from ..datasets.building import build_dataset, list_files
from ..datasets.check_files import check_files, name_files_in_errors
from ..datasets.palette import classes_of
from ..datasets.pipelines import use_own_readers
from ..engine.ignored import ignored_in
from ..engine.loading import build_model
from ..engine.metric import ExactIoUMetric
from ..engine.sharing import bundle
from ..errors import ConfigError
from ..models.segmentors import MethodBundle
from ..models.text import load_vocabulary
from ..models.text.class_names import dataset_meta


class Method:
    """One config of a comparison.

    Args:
        name: What figures call it.
        config: A whole config of any segmentor, from `load_config`.

    Attributes:
        classes: Names of the dataset's classes; those of the vocabulary if the dataset has none.
        palette: Their colours in RGB.
        ignore_index: The labels that the evaluation is told not to count.

    Raises:
        ConfigError: The vocabulary or the head has another number of classes than the dataset, or the dataset is made
            of other datasets.
        MissingFileError: The checkpoint of `load_from` is not there.
    """

    def __init__(self, name: str, config: Config) -> None:
        init_default_scope(config.get('default_scope') or 'mmseg')
        self.name = name
        self.config = config = copy.deepcopy(config)
        use_own_readers(config)
        check_checkpoint(config, f'It is the load_from of {name}: correct the path.')
        head, dataset = named_head(config), config.test_dataloader.dataset
        if 'datasets' in dataset or 'dataset' in dataset:
            raise ConfigError(
                f'The dataset of {name} is a {dataset.type}, which holds other datasets. Name a config of one of them.'
            )
        meta, number, source, remedy = {}, head.get('num_classes'), 'decode head', 'Set its num_classes, or name'
        if head.get('vocabulary') is not None:
            vocabulary = load_vocabulary(head.vocabulary)
            meta = dataset_meta(vocabulary, head.get('class_names'), head.get('background_index'))
            number, source, remedy = vocabulary.num_classes, 'vocabulary', 'Name'
        self.classes, self.palette = classes_of(dataset, meta)
        if number is not None and len(self.classes) != number:
            raise ConfigError(
                f'The {source} of {name} has {number} classes, but its dataset {dataset.type} has '
                f'{len(self.classes)}. {remedy} the one that belongs to the dataset.'
            )
        self.ignore_index = ignored_in(config, len(self.classes))
        self._order: list[int] | None = None

    @cached_property
    def dataset(self) -> BaseDataset:
        """The test dataset; its files are not listed yet.

        Raises:
            MissingFileError: It is not where the config says.
        """
        check_files(self.config.test_dataloader.dataset)
        return build_dataset(self.config.test_dataloader.dataset, listed=False)

    @cached_property
    def listed(self) -> BaseDataset:
        """The test dataset with its files listed.

        Raises:
            MissingFileError: It is not where the config says.
        """
        list_files(self.dataset)
        name_files_in_errors(self.dataset)
        return self.dataset

    @cached_property
    def samples(self) -> list[tuple]:
        """What identifies each sample of the dataset, whichever way its paths are written.

        The image, its label map, whether label 0 is left out, and the class of each label.
        """
        infos = map(self.listed.get_data_info, range(len(self.listed)))
        return [
            (
                _real(info['img_path']),
                _real(info.get('seg_map_path')),
                bool(info.get('reduce_zero_label')),
                frozenset((info.get('label_map') or {}).items()),
            )
            for info in infos
        ]

    def follow(self, first: Method) -> None:
        """Number the images as another method does, whose dataset lists the same samples."""
        index_of = {sample: index for index, sample in enumerate(self.samples)}
        self._order = [index_of[sample] for sample in first.samples]

    def info(self, index: int) -> dict:
        """What the dataset knows about an image.

        Args:
            index: In the dataset of the method that this one follows, else in its own.
        """
        return self.listed.get_data_info(index if self._order is None else self._order[index])

    def metric(self) -> ExactIoUMetric:
        """A fresh metric of the evaluation's kind; it warns once of labels that are not a class."""
        metric = ExactIoUMetric(ignore_index=self.ignore_index, prefix=self.name)
        metric.dataset_meta = dict(classes=self.classes)
        return metric


@contextmanager
def model_of(methods: Sequence[Method], device: torch.device | str | None = None) -> Iterator[nn.Module]:
    """The model of methods that share a pass, with its weights, and the checkpoint of `load_from` where there is one.

    It is dropped at the end of the block, so that the models of one pass are in memory at a time.

    Args:
        methods: One or more.
        device: Where it runs; None for a GPU where there is one.
    """
    yield build_model(methods[0].config if len(methods) == 1 else bundle([each.config for each in methods]), device)
    gc.collect()  # MMEngine's modules hold each other
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def predict(methods: Sequence[Method], model: nn.Module, packed: dict) -> list[SegDataSample]:
    """What the evaluation's loop does with one image out of the pipeline: a sample with `pred_sem_seg` for each method.

    Args:
        methods: Of one pass.
        model: Theirs, see `model_of`.
        packed: The image.

    Raises:
        ConfigError: The model does not predict classes.
    """
    test_cfg = methods[0].config.get('test_cfg') or {}
    with torch.no_grad(), autocast(enabled=bool(test_cfg.get('fp16', False))):
        sample = model.test_step(pseudo_collate([packed]))[0]
    if isinstance(model, MethodBundle):
        return [_with_labels(sample, MethodBundle.prediction(number)) for number in range(len(methods))]
    if 'pred_sem_seg' not in sample:
        raise ConfigError(
            f'The model of {methods[0].name}, a {type(model).__name__}, predicts no classes (pred_sem_seg). Leave it '
            'out.'
        )
    return [sample]


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


def _with_labels(sample: SegDataSample, prediction: str) -> SegDataSample:
    """A sample with the ground truth of another one, and one of its predictions."""
    found = SegDataSample(metainfo=sample.metainfo, pred_sem_seg=sample.get(prediction))
    if 'gt_sem_seg' in sample:
        found.gt_sem_seg = sample.gt_sem_seg
    return found


def _real(path: str | None) -> str | None:
    """A path without links and dots; an address as it is."""
    return path if path is None or '://' in path else os.path.realpath(path)
