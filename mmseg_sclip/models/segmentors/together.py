"""Several methods over one record of the image tower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from ...errors import ConfigError
from ..image.geometry import axis_matrix, image_axes
from ..image.scores import PatchAffinity, PixelScores
from ..image.windows import WindowGrid, score_windows
from ..towers.source import TowerSource, build_source


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
    groups: dict[Any, list[int]] = {}
    for index, model in enumerate(models):
        settings = model.test_cfg
        windows = None if settings.mode == 'whole' else (settings.crop_size, settings.stride)
        groups.setdefault((id(model.backbone.tower), windows, settings.window_batch), []).append(index)
    scores: list[list[PixelScores]] = [[] for _ in models]
    for (_, windows, window_batch), members in groups.items():
        together = [models[index] for index in members]
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        grids = []
        for size in sizes:
            crop, stride = (size, size) if windows is None else windows
            grids.append(WindowGrid.cut(*size, crop, stride))
        each = score_windows(images, grids, window_batch, partial(_score, together))
        for index, patches in zip(members, each, strict=True):
            scores[index] = [
                _pixel_scores(models[index], *one) for one in zip(patches, grids, sizes, samples, strict=True)
            ]
    return scores


def _score(models: Sequence[EncoderDecoder], crops: Tensor) -> list[tuple[Tensor, Tensor | None]]:
    """What each model makes of windows (B, 3, H, W), over one record of their tower."""
    needs = frozenset().union(*(model.backbone.decoder.needs for model in models))
    memory = models[0].backbone.record(crops, needs)
    results = []
    for model in models:
        tokens = model.backbone.encode(crops, model.decode_head.between_passes, memory)
        results.append((model.decode_head.distinct(model.decode_head(tokens)), tokens.affinity))
    return results


def _pixel_scores(
    model: EncoderDecoder,
    patches: tuple[Tensor, Tensor | None],
    grid: WindowGrid,
    size: tuple[int, int],
    sample: SegDataSample,
) -> PixelScores:
    """The scores of an image at its pixels, from those of its windows' patches."""
    scores, affinity = patches
    axes, settings = image_axes(size, sample.metainfo), model.test_cfg
    direct = settings.mode == 'whole' and settings.whole_resize == 'direct'
    spans = (None, None) if direct else (grid.rows, grid.columns)
    shape = (scores.shape[0] // len(grid.rows), scores.shape[2] // len(grid.columns))  # of a window
    relation = None if affinity is None else PatchAffinity(affinity, shape, axes, spans)
    rows, columns = map(axis_matrix, axes, spans, shape)
    return PixelScores(scores, rows, columns, model.decode_head.phrase_of_query, relation)


@MODELS.register_module()
class MethodBundle(BaseModel):
    """Segmentors that are tested in one pass over the images, whose pipeline and preprocessor they share.

    Args:
        methods: Configs of `SCLIPSegmentor`s by name. Those with equal `clip` entries share its towers.

    Attributes:
        methods: The segmentors, in the order of their configs.
    """

    def __init__(self, methods: Mapping[str, Mapping]) -> None:
        sources: list[tuple[dict, TowerSource]] = []
        models = []
        for config in map(dict, methods.values()):
            clip = dict(config['clip'])
            source = next((source for known, source in sources if known == clip), None)
            if source is None:
                source = build_source(clip, 'MethodBundle')
                sources.append((clip, source))
            config['clip'] = source
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
