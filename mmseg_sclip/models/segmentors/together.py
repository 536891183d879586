"""Several methods over one record of the image tower."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from ...checks import build_strategy
from ..companions.base import Companion, load_frozen
from ..image.geometry import Placement, image_axes
from ..image.scores import MixedScores, PixelScores
from ..image.windows import PatchScores, Place, WindowGrid, score_windows, side_by_side
from ..record import JoinedRecord, Record, Source
from ..towers.source import build_source


def score_together(
    models: Sequence[EncoderDecoder], images: Tensor | Sequence[Tensor], samples: Sequence[SegDataSample]
) -> list[list[PixelScores]]:
    """Score images with several segmentors; those whose towers give the same outputs of equal windows share a run.

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
    sources = [Source(image, sample.metainfo) for image, sample in zip(images, samples, strict=True)]
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, model in enumerate(models):
        grids = _windows(model, sources)
        outputs = {model.backbone.tower.outputs_key(grid.window_size) for grid in grids}
        key = (frozenset(outputs), grids, model.settings.window_batch)
        groups.setdefault(key, []).append(index)
    scores: list[list[PixelScores]] = [[] for _ in models]
    for (_, grids, window_batch), members in groups.items():
        found = _score([models[index] for index in members], sources, grids, window_batch)
        for index, each in zip(members, found, strict=True):
            model = models[index]
            lie = [grid.joined() for grid in grids] if _joins(model) else grids
            scores[index] = [_pixel_scores(model, *one) for one in zip(each, lie, sources, strict=True)]
    return scores


def _joins(model: EncoderDecoder) -> bool:
    """Whether the scores of a model are one map of the whole image."""
    return model.stitch is not None and model.stitch.joins


def _windows(model: EncoderDecoder, sources: Sequence[Source]) -> tuple[WindowGrid, ...]:
    """The windows of each image."""
    settings, grids = model.settings, []
    for source in sources:
        size = (source.image.shape[-2], source.image.shape[-1])
        crop, stride = (size, size) if settings.mode == 'whole' else (settings.crop_size, settings.stride)
        grids.append(WindowGrid.cut(*size, crop, stride, settings.window_multiple))
    return tuple(grids)


def _score(
    models: Sequence[EncoderDecoder], sources: Sequence[Source], grids: Sequence[WindowGrid], window_batch: int
) -> list[list[PatchScores]]:
    """What each model, of one tower and equal windows, makes of each image.

    Models with a part that must see all windows of an image read the records of the same batches, put together image by
    image.
    """
    steps = [model for model in models if model.all_windows]
    plain = [model for model in models if model not in steps]
    needs, later = (frozenset().union(*(model.needs for model in group)) for group in (models, steps))
    batches: list[tuple[Record, Sequence[Place]]] = []  # what such models read later

    def score(crops: Tensor, places: Sequence[Place]) -> list[PatchScores]:
        record = models[0].record(crops, needs, places, sources)
        if steps:
            batches.append((record, places))
        return [_results(model, record) for model in plain]

    scored = score_windows([source.image for source in sources], grids, window_batch, score)
    found = dict(zip(map(id, plain), scored, strict=True)) | {id(model): [] for model in steps}
    for number, grid in enumerate(grids if steps else ()):
        pieces = [
            (record, [i for i, place in enumerate(places) if place.image == number]) for record, places in batches
        ]
        record = JoinedRecord([piece for piece in pieces if piece[1]], later)
        for model in steps:
            results = _results(model, record)
            seen = tuple(None if part is None else part[0] for part in results.seen)  # kept where there is one window
            mixes = [None] * len(results.scores) if results.mix is None else results.mix
            windows = [PatchScores(scores, seen, mix) for scores, mix in zip(results.scores, mixes, strict=True)]
            found[id(model)].append(side_by_side(windows, grid.joined() if _joins(model) else grid))
    return [found[id(model)] for model in models]


def _results(model: EncoderDecoder, shared: Record) -> PatchScores:
    """What a model makes of the windows of a record."""
    record, head = shared.read_by(model.companions), model.decode_head
    tokens, _ = model.backbone.decoder.run(record, head.between_passes)
    if model.stitch is not None:
        tokens = replace(model.stitch(tokens), record=record)
    seen = tuple(refinement.look(record) for refinement in model.refinements)
    if model.propagation is not None:
        return PatchScores(model.propagation(head.distinct(head(tokens)), tokens), seen)
    factors = head.factors(tokens)
    if factors is None:
        return PatchScores(head.distinct(head(tokens)), seen)
    return PatchScores(factors[0], seen, factors[1])


def _pixel_scores(model: EncoderDecoder, patches: PatchScores, grid: WindowGrid, source: Source) -> PixelScores:
    """The scores of an image at its pixels, from those of its windows' patches."""
    settings, scores = model.settings, patches.scores
    joins = _joins(model)
    direct = joins or (settings.mode == 'whole' and settings.whole_resize == 'direct')
    spans = (None, None) if direct else (grid.rows, grid.columns)
    placement = Placement(image_axes(source.image.shape[-2:], source.meta), spans, grid.multiple, joins)
    shape = (scores.shape[0] // len(grid.rows), scores.shape[2] // len(grid.columns))  # of a window
    more: Any = dict(queries=model.decode_head.phrase_of_query, seen=patches.seen, placement=placement, source=source)
    if patches.mix is not None:
        return MixedScores(patches.mix, scores, *placement.matrices(shape), **more)
    return PixelScores(scores, *placement.matrices(shape), **more)


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
    """Segmentors that are tested in one pass over the images, whose pipeline they share.

    Args:
        methods: Configs of `SCLIPSegmentor`s by name. Equal `clip` entries share their towers, and
            equal companions are one network. What else prepares images than mean and std must be the same in all.

    Attributes:
        methods: The segmentors, in the order of their configs.
    """

    def __init__(self, methods: Mapping[str, Mapping]) -> None:
        source = _Shared(lambda clip: build_source(clip, 'MethodBundle'))
        network = _Shared(lambda config: load_frozen(build_strategy('model.companions', config, Companion)))
        models = []
        for config in map(dict, methods.values()):
            config['clip'] = source.of(config['clip'])
            if config.get('companions'):
                config['companions'] = {name: network.of(own) for name, own in config['companions'].items()}
            models.append(MODELS.build(config))
        super().__init__(data_preprocessor=BaseDataPreprocessor())  # each method normalises the images itself
        self.methods: Any = torch.nn.ModuleList(models)

    @staticmethod
    def prediction(index: int) -> str:
        """The key under which a sample holds the labels of the method `index`."""
        return f'pred_sem_seg_{index}'

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = 'predict') -> list[SegDataSample]:
        """Labels of all methods; see `prediction`.

        Args:
            inputs: (B, 3, H, W) or a list of (3, H, W), as they are loaded.
            data_samples: With `ori_shape`.
            mode: Only 'predict' makes sense here.
        """
        if mode != 'predict':
            raise NotImplementedError('Several methods at once can only be tested.')
        for members in self._alike():
            models = [self.methods[index] for index in members]
            own = [SegDataSample(metainfo=sample.metainfo) for sample in data_samples]
            data = models[0].data_preprocessor(dict(inputs=list(inputs), data_samples=own), False)
            images, samples = data['inputs'], data['data_samples']
            for index, model, scores in zip(members, models, score_together(models, images, samples), strict=True):
                for sample, *one, meta in zip(data_samples, scores, images, samples, strict=True):
                    labelled = model.label(*one, SegDataSample(metainfo=meta.metainfo))
                    sample.set_data({self.prediction(index): PixelData(data=labelled.pred_sem_seg.data)})
        return list(data_samples)

    def _alike(self) -> list[list[int]]:
        """The methods by number, those together whose images are prepared in the same way."""
        groups: dict[tuple, list[int]] = {}
        for index, model in enumerate(self.methods):
            preprocessor = model.data_preprocessor
            values = (tuple(getattr(preprocessor, name).flatten().tolist()) for name in ('mean', 'std'))
            groups.setdefault((type(preprocessor), *values), []).append(index)
        return list(groups.values())
