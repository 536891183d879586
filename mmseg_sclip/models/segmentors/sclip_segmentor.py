"""SCLIP as an MMSegmentation segmentor."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from mmengine.logging import print_log
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from ...checks import build_strategy
from ...errors import ConfigError
from ..data_preprocessor import CLIPDataPreProcessor
from ..image.geometry import image_axes, restore_image
from ..image.scores import ChangedScores, ClassScores, MapScores, PatchAffinity, PixelScores, Scores, label_in_bands
from ..refinements.base import CLASS_SCORES, COSINES, Refinement
from ..streams import Tokens
from ..towers.source import TowerSource, build_source
from .checkpoints import check_checkpoint, forget_frozen_keys
from .settings import InferenceSettings
from .together import score_together

Images = Tensor | Sequence[Tensor]


@MODELS.register_module()
class SCLIPSegmentor(EncoderDecoder):
    """Training-free open-vocabulary segmentation with CLIP (SCLIP, ECCV 2024).

    An `EncoderDecoder` whose windows run in batches and whose post-processing is SCLIP's. Images may
    come as a tensor (B, 3, H, W) or as a list of (3, H, W) of any sizes; the result of an image does
    not depend on the others of its batch, unless a preprocessor of the user's own pads them.

    Args:
        clip: Which CLIP, for both towers; see `ClipConfig`, or another `TowerSource`. Segmentors of one source share
            its towers.
        backbone: Config of a `CLIPVisionTransformer`, without `clip`.
        decode_head: Config of a `TextSimilarityHead`, without `clip`.
        data_preprocessor: Left out, a `CLIPDataPreProcessor` with the mean and std of the loaded CLIP.
        train_cfg: Given to the head's loss.
        test_cfg: See `InferenceSettings`.
        neck: Refused: the text knows the features of the backbone only.
        auxiliary_head: Refused for the same reason.
        pretrained: Kept for MMSeg's `init_model`, which sets it to None.
        init_cfg: Refused, as in the backbone and the head: `clip` names the weights.

    Attributes:
        source: Where its towers come from.
        test_cfg: `InferenceSettings`; its values may be set on a built model.
        refinements: The `Refinement`s of `test_cfg.refine`.

    Raises:
        ConfigError: The config is wrong; see the message.
    """

    def __init__(
        self,
        clip: Mapping | TowerSource,
        backbone: Mapping,
        decode_head: Mapping,
        data_preprocessor: Mapping | None = None,
        train_cfg: Mapping | None = None,
        test_cfg: Mapping | None = None,
        neck: None = None,
        auxiliary_head: None = None,
        pretrained: None = None,
        init_cfg: Mapping | None = None,
    ) -> None:
        if neck is not None or auxiliary_head is not None or pretrained is not None:
            raise ConfigError(
                'SCLIPSegmentor has no neck, no auxiliary_head and no top-level pretrained. The weights of '
                'CLIP are named in clip=dict(model_name=..., pretrained=...).'
            )
        for name, part in (('backbone', backbone), ('decode_head', decode_head)):
            if 'clip' in part:
                raise ConfigError(f'model.{name}.clip is set, but both towers come from model.clip. Move it there.')
        for name, given in (
            ('model', init_cfg),
            ('model.backbone', backbone.get('init_cfg')),
            ('model.decode_head', decode_head.get('init_cfg')),
        ):
            if given is not None:  # a training would write over CLIP, and MMEngine reads files that run code
                raise ConfigError(
                    f'{name}.init_cfg is set, but the weights of CLIP are named in model.clip, and a checkpoint on top '
                    'of them in load_from. Take it out.'
                )
        # Settings first: a typing error must not cost the loading of weights.
        settings = InferenceSettings.parse(test_cfg)
        settings.check_background(decode_head.get('background_index'))
        source = build_source(clip, 'SCLIPSegmentor')
        super().__init__(
            backbone={**backbone, 'clip': source},
            decode_head={**decode_head, 'clip': source},
            data_preprocessor=_build_preprocessor(data_preprocessor, source),
            train_cfg=train_cfg,
            test_cfg=settings,
        )
        self.source = source
        self._accept(settings)
        self.register_load_state_dict_post_hook(forget_frozen_keys)

    @property
    def test_cfg(self) -> InferenceSettings:
        """The settings; see `InferenceSettings`."""
        return self._settings

    @test_cfg.setter
    def test_cfg(self, config: Mapping | InferenceSettings) -> None:
        settings = InferenceSettings.parse(config)
        if hasattr(self, 'decode_head'):
            self._accept(settings)
        settings.watch(self._accept)
        self.__dict__['_settings'] = settings

    def _accept(self, settings: InferenceSettings) -> None:
        """Check settings against the model, and build their refinements.

        Raises:
            ConfigError: They do not fit.
        """
        settings.check_background(self.decode_head.background_index)
        if (settings.logit_scale is None) != self.decode_head.gives_class_scores:
            name = type(self.decode_head).__name__
            raise ConfigError(
                f'The scores of {name} are class scores already, but model.test_cfg.logit_scale is '
                f'{settings.logit_scale}, which would make probabilities of them once more. Set logit_scale=None, and '
                'thresholds that are meant for these scores.'
                if self.decode_head.gives_class_scores
                else f'model.test_cfg.logit_scale is None, but the scores of {name} are cosines. Set a positive number.'
            )
        patch, crop = self.backbone.tower.patch_size, settings.crop_size
        if settings.mode == 'slide':
            if crop[0] < patch[0] or crop[1] < patch[1]:
                raise ConfigError(
                    f'model.test_cfg.crop_size is {crop}, smaller than a patch of this CLIP, {patch}. Give a larger '
                    'crop.'
                )
            if getattr(self.decode_head, 'needs_whole_image', False):
                raise ConfigError(
                    f'{type(self.decode_head).__name__} compares the patches of a whole image, but '
                    "model.test_cfg.mode is 'slide', in which each window would be refined for itself. Set "
                    "mode='whole', or switch off in the head what compares them."
                )
        refinements = [
            _twin(build_strategy('An entry of model.test_cfg.refine', entry, Refinement)) for entry in settings.refine
        ]
        for index, refinement in enumerate(refinements):
            if refinement.last and any(later.stage == refinement.stage for later in refinements[index + 1 :]):
                raise ConfigError(
                    f'{type(refinement).__name__} must be the last entry of model.test_cfg.refine that works on '
                    f'{refinement.stage}. Put the others in front of it.'
                )
            if refinement.needs_affinity and settings.mode == 'slide':
                raise ConfigError(
                    f'{type(refinement).__name__} looks at the patches of a whole image, but model.test_cfg.mode is '
                    "'slide'. Set mode='whole', or take the entry out of model.test_cfg.refine."
                )
            refinement.bind(self)
        self.refinements = torch.nn.ModuleList(refinements).to(next(self.backbone.parameters()).device)

    @property
    def dataset_meta(self) -> dict[str, list]:
        """MMSeg's `classes` and `palette`, of the vocabulary; see `TextSimilarityHead`."""
        return self.decode_head.dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: Mapping | None) -> None:
        # MMSeg's inferencer sets Cityscapes' names where there is no checkpoint.
        meta = meta or {}
        if list(meta.get('classes', ())) != self.decode_head.dataset_meta['classes']:
            print_log(
                'Classes are named by the vocabulary (decode_head.class_names, or set_vocabulary); other names that '
                'were set as dataset_meta are not taken over.',
                logger='current',
            )
        elif meta.get('palette') is not None:
            self.decode_head.dataset_meta = {**self.decode_head.dataset_meta, 'palette': list(meta['palette'])}

    def _load_from_state_dict(self, state_dict: Mapping, prefix: str, *args) -> None:
        """Refuse a checkpoint that does not fit this model; MMEngine would only log it."""
        if not prefix:
            check_checkpoint(self, state_dict)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def set_vocabulary(
        self, vocabulary, class_names=None, background_index: int | None = None, folder: Path | None = None
    ) -> None:
        """Change the classes of a built model; nothing but the text tower is loaded again.

        Args:
            vocabulary: See `load_vocabulary`.
            class_names: See `TextSimilarityHead`.
            background_index: The new background class, or None.
            folder: Where a relative path of a vocabulary is looked for before the current folder.

        Raises:
            ConfigError: The vocabulary is wrong, or a threshold is set and there is no background.
        """
        self.test_cfg.check_background(background_index)
        self.decode_head.set_vocabulary(vocabulary, class_names, background_index, folder)
        self.num_classes, self.out_channels = self.decode_head.num_classes, self.decode_head.out_channels

    def with_vocabulary(
        self, vocabulary, class_names=None, background_index: int | None = None, **test_cfg
    ) -> SCLIPSegmentor:
        """A segmentor that shares the network and has words and settings of its own; this one is not changed.

        Several threads may use such segmentors at once.

        Args:
            vocabulary: See `set_vocabulary`.
            class_names: See `set_vocabulary`.
            background_index: See `set_vocabulary`.
            test_cfg: Settings to change.

        Raises:
            ConfigError: The vocabulary or a setting is wrong.
        """
        model = copy.copy(self)
        model._modules = dict(self._modules)
        model.decode_head = self.decode_head.with_vocabulary(vocabulary, class_names, background_index)
        model.num_classes, model.out_channels = model.decode_head.num_classes, model.decode_head.out_channels
        model.test_cfg = {**dict(self.test_cfg), **test_cfg}
        return model

    def encode(self, images: Tensor) -> Tokens:
        """Tokens of (B, 3, H, W), all passes of the decoder over one run of the tower."""
        return self.backbone.encode(images, self.decode_head.between_passes)

    def extract_feat(self, inputs: Images) -> tuple[Tensor] | list[tuple[Tensor]]:
        """Dense features: a tuple with one map (B, D, h, w), or a list of such tuples for a list of images."""
        if isinstance(inputs, Tensor):
            return (self.encode(inputs).map,)
        return [(self.encode(image[None]).map,) for image in inputs]

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Scores (B, Q, H, W) of (B, 3, H, W), enlarged as `TextSimilarityHead.predict` says."""
        return self.decode_head.predict(self.encode(inputs), batch_img_metas, self.test_cfg)

    def _forward(self, inputs: Images, data_samples: Sequence[SegDataSample] | None = None) -> Tensor | list[Tensor]:
        """Cosines (B, Q, h, w) at patch resolution; a list of (1, Q, h, w) for a list of images."""
        if isinstance(inputs, Tensor):
            return self.decode_head(self.encode(inputs))
        return [self.decode_head(self.encode(image[None])) for image in inputs]

    def loss(self, inputs: Images, data_samples: Sequence[SegDataSample]) -> dict[str, Tensor]:
        """The head's loss, averaged over the images."""
        each = [
            self.decode_head.loss(self.encode(image[None]), [sample], self.train_cfg)
            for image, sample in zip(inputs, data_samples, strict=True)
        ]
        return {f'decode.{name}': torch.stack([losses[name] for losses in each]).mean() for name in each[0]}

    def predict(self, inputs: Images, data_samples: Sequence[SegDataSample] | None = None) -> list[SegDataSample]:
        """Label maps at original size: `score`, then `label`.

        Args:
            inputs: (B, 3, H, W) or a list of (3, H, W), normalised, RGB.
            data_samples: With `ori_shape`; padding and flips that their metainfo names are undone.

        Returns:
            Samples with `pred_sem_seg` (1, H, W) int64, and `seg_logits` (C, H, W), the class scores after
            the area threshold, where `test_cfg.keep_scores` is set.
        """
        if data_samples is None:
            data_samples = [SegDataSample(metainfo=dict(ori_shape=tuple(image.shape[-2:]))) for image in inputs]
        scores = self.score(inputs, data_samples)
        return [self.label(*each) for each in zip(scores, inputs, data_samples, strict=True)]

    def score(self, images: Images, samples: Sequence[SegDataSample]) -> list[PixelScores]:
        """Cosines of each image with every query, ready to be read at any row of its pixels.

        Args:
            images: (B, 3, H, W) or a list of (3, H, W), normalised, RGB.
            samples: With `ori_shape`, and what was padded and flipped.
        """
        return score_together([self], images, samples)[0]

    def class_scores(self, scores: PixelScores, image: Tensor, sample: SegDataSample) -> ClassScores:
        """Scores of the classes before any threshold, refinements included.

        Args:
            scores: Of `score`.
            image: (3, H, W), the same image.
            sample: The same sample.
        """
        sizes = self.decode_head.vocabulary.sizes
        cosines = self.refine_cosines(scores, image, sample)
        rule = self.decode_head.pixel_rule(cosines)
        parts = cosines if rule is None else ChangedScores(cosines, rule)
        classes = ClassScores(parts, sizes, self.test_cfg.logit_scale)
        refined = self._refine(CLASS_SCORES, classes, image, sample, scores.affinity)
        return classes if refined is classes else ClassScores(refined, [1] * len(sizes))

    def refine_cosines(self, scores: PixelScores, image: Tensor, sample: SegDataSample) -> Scores:
        """The cosines of `score` behind the refinements of their stage; arguments as in `class_scores`."""
        return self._refine(COSINES, scores, image, sample, scores.affinity)

    def label(self, scores: PixelScores, image: Tensor, sample: SegDataSample) -> SegDataSample:
        """From the cosines of an image to its labels, which are put into the sample.

        Args:
            scores: Of `score`.
            image: (3, H, W), the same image.
            sample: The same sample.
        """
        with torch.autocast(scores.device.type, enabled=False):
            return self.label_classes(self.class_scores(scores, image, sample), sample)

    def label_classes(self, scores: ClassScores, sample: SegDataSample) -> SegDataSample:
        """From class scores to labels: the thresholds, and the best class."""
        settings = self.test_cfg
        labels, kept = label_in_bands(
            scores, settings.prob_thd, settings.area_thd, self.decode_head.background_index, settings.keep_scores
        )
        if kept is not None:
            sample.seg_logits = PixelData(data=kept)
        sample.pred_sem_seg = PixelData(data=labels[None])
        return sample

    def _refine(
        self,
        stage: str,
        scores: PixelScores | ClassScores,
        image: Tensor,
        sample: SegDataSample,
        affinity: PatchAffinity | None,
    ) -> Scores:
        """Run the refinements of a stage over whole maps.

        Raises:
            ConfigError: One of them needs the affinity of the patches, and the decoder gives none.
        """
        refinements = [refinement for refinement in self.refinements if refinement.stage == stage]
        if not refinements:
            return scores
        guide = restore_image(image, image_axes(image.shape[-2:], sample.metainfo))
        maps = scores.phrases()
        for refinement in refinements:
            if refinement.needs_affinity and affinity is None:
                raise ConfigError(
                    f'{type(refinement).__name__} looks at the affinity of the patches, but the decoder '
                    f'{type(self.backbone.decoder).__name__} gives none. Use one that does, such as '
                    'LastBlockWithAffinity, or take the entry out of model.test_cfg.refine.'
                )
            maps = refinement(maps, guide, affinity) if refinement.needs_affinity else refinement(maps, guide)
        return MapScores(maps, getattr(scores, 'queries', None))


def _build_preprocessor(config: Mapping | torch.nn.Module | None, source: TowerSource) -> torch.nn.Module:
    """The user's preprocessor, or CLIP's own with the mean and std of the loaded weights."""
    if isinstance(config, torch.nn.Module):
        return config
    config = dict(config or dict(type='CLIPDataPreProcessor'))
    if config.get('type') in ('CLIPDataPreProcessor', 'mmseg.CLIPDataPreProcessor', CLIPDataPreProcessor):
        config = dict(mean=source.mean, std=source.std) | config
    return MODELS.build(config)


def _twin(refinement: Refinement) -> Refinement:
    """A refinement that can be bound to a segmentor while another one is bound to the first, as a copy has to be."""
    twin = copy.copy(refinement)
    twin._buffers, twin._modules = dict(refinement._buffers), dict(refinement._modules)
    return twin
