"""Several methods over one record of the image tower."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from ...checks import build_strategy
from ...errors import ConfigError
from ..companions import Companion
from ..image.geometry import Placement, image_axes
from ..image.scores import PixelScores
from ..image.windows import PatchScores, Place, WindowGrid, score_windows
from ..towers.source import build_source

Pair = tuple[int, int]


def score_together(
    models: Sequence[EncoderDecoder], images: Tensor | Sequence[Tensor], samples: Sequence[SegDataSample]
) -> list[list[PixelScores]]:
    """Score images with several segmentors; those of one tower and equal windows share its run.

    The tower runs once, to the deepest block output that one of them needs; then each decodes. The result of a
    segmentor is the same, to the last bit, as without the others.

    Args:
        models: One or more `SCLIPSegmentor`s.
        images: (B, 3, H, W) or a list of (3, H, W), normalised, RGB.
        samples: With `ori_shape`, and what was padded and flipped.

    Returns:
        For each model the scores of each image.
    """
    images = list(images)
    for model in models:
        for image, sample in zip(images, samples, strict=True):
            # Deep in the network the name of the file is not known.
            model.backbone.tower.check_size(image, sample.metainfo.get('img_path', 'An image'))
    sizes = [(image.shape[-2], image.shape[-1]) for image in images]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, model in enumerate(models):
        groups.setdefault((id(model.backbone.tower), *_windows(model)), []).append(index)
    scores: list[list[PixelScores]] = [[] for _ in models]
    for (_, windows, window_batch), members in groups.items():
        together = [models[index] for index in members]
        grids = [WindowGrid.cut(*size, *((size, size) if windows is None else windows)) for size in sizes]
        each = score_windows(images, grids, window_batch, partial(_score, together))
        for index, patches in zip(members, each, strict=True):
            scores[index] = [
                _pixel_scores(models[index], *one) for one in zip(patches, grids, sizes, samples, strict=True)
            ]
    return scores


def _windows(model: EncoderDecoder) -> tuple[tuple[Pair, Pair] | None, int | None]:
    """Size and stride of the windows, None for whole images; and how many go through the network at once."""
    settings = model.settings
    windows = None if settings.mode == 'whole' else (settings.crop_size, settings.stride)
    of_image = model.stitch is not None or model.propagation is not None  # which work on all windows of an image
    return windows, None if of_image else settings.window_batch


def _score(models: Sequence[EncoderDecoder], crops: Tensor, places: Sequence[Place]) -> list[PatchScores]:
    """What each model makes of windows (B, 3, H, W), over one record of their tower."""
    needs = frozenset().union(*(model.needs for model in models))
    shared = models[0].backbone.record(crops, needs, places)
    results = []
    for model in models:
        record, head = shared.read_by(model.companions), model.decode_head
        tokens, _ = model.backbone.decoder.run(record, head.between_passes)
        if model.stitch is not None:
            tokens = replace(model.stitch(tokens), record=record)
        scores = head.distinct(head(tokens))
        if model.propagation is not None:
            scores = model.propagation(scores, tokens)
        results.append(PatchScores(scores, tuple(refinement.look(record) for refinement in model.refinements)))
    return results


def _pixel_scores(
    model: EncoderDecoder, patches: PatchScores, grid: WindowGrid, size: Pair, sample: SegDataSample
) -> PixelScores:
    """The scores of an image at its pixels, from those of its windows' patches."""
    settings, scores = model.settings, patches.scores
    direct = settings.mode == 'whole' and settings.whole_resize == 'direct'
    placement = Placement(image_axes(size, sample.metainfo), (None, None) if direct else (grid.rows, grid.columns))
    shape = (scores.shape[0] // len(grid.rows), scores.shape[2] // len(grid.columns))  # of a window
    return PixelScores(scores, *placement.matrices(shape), model.decode_head.phrase_of_query, patches.seen, placement)


class _Shared:
    """What is built from configs, once for equal ones."""

    def __init__(self, build: Callable[[dict], Any]) -> None:
        self.build = build
        self.known: list[tuple[dict, Any]] = []

    def of(self, config: Mapping) -> Any:
        """What this config stands for."""
        config = dict(config)
        for known, built in self.known:
            if known == config:
                return built
        self.known.append((config, self.build(config)))
        return self.known[-1][1]


@MODELS.register_module()
class MethodBundle(BaseModel):
    """Segmentors that are tested in one pass over the images, whose pipeline and preprocessor they share.

    Args:
        methods: Configs of `SCLIPSegmentor`s by name. Equal `clip` entries share their towers, and
            equal companions are one network.

    Attributes:
        methods: The segmentors, in the order of their configs.
    """

    def __init__(self, methods: Mapping[str, Mapping]) -> None:
        source = _Shared(lambda clip: build_source(clip, 'MethodBundle'))
        network = _Shared(lambda config: build_strategy('model.companions', config, Companion))
        models = []
        for config in map(dict, methods.values()):
            config['clip'] = source.of(config['clip'])
            if config.get('companions'):
                config['companions'] = {name: network.of(own) for name, own in config['companions'].items()}
            models.append(MODELS.build(config))
        super().__init__(data_preprocessor=models[0].data_preprocessor)
        self.methods: Any = torch.nn.ModuleList(models)
        for name, model in zip(methods, models, strict=True):
            ours, theirs = ((m.data_preprocessor.mean, m.data_preprocessor.std) for m in (models[0], model))
            if not all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True)):
                raise ConfigError(f'{name} normalises images in another way than the first method; test it by itself.')

    @staticmethod
    def prediction(index: int) -> str:
        """The key under which a sample holds the labels of the method `index`."""
        return f'pred_sem_seg_{index}'

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = 'predict') -> list[SegDataSample]:
        """Labels of all methods; see `prediction`.

        Args:
            inputs: (B, 3, H, W) or a list of (3, H, W), normalised, RGB.
            data_samples: With `ori_shape`.
            mode: Only 'predict' makes sense here.
        """
        if mode != 'predict':
            raise NotImplementedError('Several methods at once can only be tested.')
        each = score_together(self.methods, inputs, data_samples)
        for index, image in enumerate(inputs):
            sample = data_samples[index]
            for number, (model, scores) in enumerate(zip(self.methods, each, strict=True)):
                labelled = model.label(scores[index], image, SegDataSample(metainfo=sample.metainfo))
                sample.set_data({self.prediction(number): PixelData(data=labelled.pred_sem_seg.data)})
        return list(data_samples)
