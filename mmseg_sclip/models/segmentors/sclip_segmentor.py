"""SCLIP as an MMSegmentation segmentor."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from ...errors import ConfigError
from ..image.labels import label_in_bands
from ..image.scores import ChangedScores, ClassScores, PixelScores, Scores
from ..record import Source
from ..refinements.base import CLASS_SCORES, COSINES
from ..towers.source import TowerSource, build_source
from .assembly import assemble, build_preprocessor, build_refinements, check_config
from .base import Images, TwoTowerSegmentor
from .checkpoints import forget_frozen_keys
from .refining import refine, relabel
from .settings import InferenceSettings
from .together import score_together


@MODELS.register_module()
class SCLIPSegmentor(TwoTowerSegmentor):
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
        companions: Configs of `Companion`s by the names under which parts read them.
        stitch: Config of a `Stitch`, a step on the tokens of all windows of an image; None for none.
        propagation: Config of a `Propagation`, a step on the scores of all windows of an image; None for none.
        neck: Refused: the text knows the features of the backbone only.
        auxiliary_head: Refused for the same reason.
        pretrained: Kept for MMSeg's `init_model`, which sets it to None.
        init_cfg: Refused, as in the backbone and the head: `clip` names the weights.

    Attributes:
        source: Where its towers come from.
        test_cfg: The settings as a config. Values may be set on a built model; they are checked at their next use.
        needs: Block outputs that the decoder, the head, the refinements and the steps read together.

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
        companions: Mapping[str, Mapping] | None = None,
        stitch: Mapping | None = None,
        propagation: Mapping | None = None,
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
        check_config(backbone, decode_head, init_cfg)
        # Settings first: a typing error must not cost the loading of weights.
        settings = InferenceSettings.parse(test_cfg)
        settings.check_background(decode_head.get('background_index'))
        source = build_source(clip, 'SCLIPSegmentor')
        super().__init__(
            backbone={**backbone, 'clip': source},
            decode_head={**decode_head, 'clip': source},
            data_preprocessor=build_preprocessor(data_preprocessor, source),
            train_cfg=train_cfg,
            test_cfg=ConfigDict(settings.as_dict()),
        )
        self.source = source
        self._checked: tuple[Any, InferenceSettings] | None = None
        self.companions, self.stitch, self.propagation = assemble(self, companions, stitch, propagation)
        _ = self.settings  # which checks them
        self.register_load_state_dict_post_hook(forget_frozen_keys)

    @property
    def settings(self) -> InferenceSettings:
        """The settings in `test_cfg`, checked against the model where they have changed since their last use.

        Raises:
            ConfigError: A key is unknown, a value is not allowed, or does not fit the model.
        """
        now = _snapshot(self.test_cfg)
        if self._checked is None or self._checked[0] != now:
            settings = InferenceSettings.parse(self.test_cfg)
            refinements = build_refinements(self, settings)
            self.refinements = refinements
            self._checked = (now, settings)
        return self._checked[1]

    @property
    def needs(self) -> frozenset[int]:
        """Block outputs that the parts of the model read together."""
        return frozenset().union(*(getattr(part, 'needs', ()) for part in self._parts))

    @property
    def all_windows(self) -> bool:
        """Whether a part must see all windows of an image together."""
        return any(getattr(part, 'all_windows', False) for part in self._parts)

    @property
    def _parts(self) -> Sequence[Any]:
        return (self.backbone.decoder, self.decode_head, self.stitch, self.propagation, *self.refinements)

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
        self.settings.check_background(background_index)
        self.decode_head.set_vocabulary(vocabulary, class_names, background_index, folder)
        self.num_classes, self.out_channels = self.decode_head.num_classes, self.decode_head.out_channels
        self._checked = None

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
        model.test_cfg = ConfigDict({**self.test_cfg, **test_cfg})
        model._checked = None
        _ = model.settings
        return model

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
        classes = ClassScores(parts, sizes, self.settings.logit_scale)
        refined = refine(self, CLASS_SCORES, classes, scores, image)
        return classes if refined is classes else ClassScores(refined, [1] * len(sizes))

    def refine_cosines(self, scores: PixelScores, image: Tensor, sample: SegDataSample) -> Scores:
        """The cosines of `score` after the refinements of their stage; arguments as in `class_scores`."""
        return refine(self, COSINES, scores, scores, image)

    def label(self, scores: PixelScores, image: Tensor, sample: SegDataSample) -> SegDataSample:
        """From the cosines of an image to its labels, which are put into the sample.

        Args:
            scores: Of `score`.
            image: (3, H, W), the same image.
            sample: The same sample.
        """
        with torch.autocast(scores.device.type, enabled=False):
            source = scores.source or Source(image, sample.metainfo)
            return self.label_classes(self.class_scores(scores, image, sample), sample, source)

    def label_classes(self, scores: ClassScores, sample: SegDataSample, source: Source) -> SegDataSample:
        """From class scores to labels: the thresholds, the best class, and the refinements of labels."""
        settings = self.settings
        labels, kept = label_in_bands(
            scores, settings.prob_thd, settings.area_thd, self.decode_head.background_index, settings.keep_scores
        )
        if kept is not None:
            sample.seg_logits = PixelData(data=kept)
        sample.pred_sem_seg = PixelData(data=relabel(self, labels, source)[None])
        return sample


def _snapshot(value: Any) -> Any:
    """A copy that does not change when parts of the config are set later."""
    if isinstance(value, Mapping):
        return {key: _snapshot(entry) for key, entry in value.items()}
    return tuple(map(_snapshot, value)) if isinstance(value, (list, tuple)) else value
