"""SCLIP as an MMSegmentation segmentor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from ..attention.base import Feedback
from ..clip import ClipSource
from ..data_preprocessor import CLIPDataPreProcessor
from ..decoders.base import Tokens
from ..dense_crf import dense_crf
from ..pamr import pamr
from ..postprocess import predict_labels, suppress_small_classes
from .checkpoints import check_checkpoint, forget_frozen_keys
from .labelling import class_scores_in_bands, label_in_bands
from .original import to_original
from .resampling import MapScores, PixelScores, axis_matrix, image_axes
from .settings import complete_test_cfg, is_on
from .windows import WindowGrid, score_windows

Images = Tensor | Sequence[Tensor]


@MODELS.register_module()
class SCLIPSegmentor(EncoderDecoder):
    """Training-free open-vocabulary segmentation with CLIP (SCLIP, ECCV 2024).

    An `EncoderDecoder` whose windows run in batches and whose post-processing is SCLIP's. Images may
    come as a tensor (B, 3, H, W) or as a list of (3, H, W) of any sizes; the result of an image does
    not depend on the others of its batch, unless a preprocessor of the user's own pads them.

    Args:
        clip: Which CLIP, for both towers; see `ClipConfig`.
        backbone: Config of a `CLIPVisionTransformer`, without `clip`.
        decode_head: Config of a `TextSimilarityHead`, without `clip`.
        data_preprocessor: Left out, a `CLIPDataPreProcessor` with the mean and std of the loaded CLIP.
        train_cfg: Given to the head's loss.
        test_cfg: See `complete_test_cfg`.
        neck: Refused: the text knows the features of the backbone only.
        auxiliary_head: Refused likewise.
        pretrained: Kept for MMSeg's `init_model`, which sets it to None.
        init_cfg: Kept for MMEngine's interface.

    Raises:
        ValueError: The config is wrong; see the message.
    """

    def __init__(
        self,
        clip: Mapping,
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
            raise ValueError(
                'SCLIPSegmentor has no neck, no auxiliary_head and no top-level pretrained. The weights of '
                'CLIP are named in clip=dict(model_name=..., pretrained=...).'
            )
        for name, part in (('backbone', backbone), ('decode_head', decode_head)):
            if 'clip' in part:
                raise ValueError(f'model.{name}.clip is set, but both towers come from model.clip. Move it there.')
        # Settings first: a typing error must not cost the loading of weights.
        test_cfg = complete_test_cfg(test_cfg, decode_head.get('background_index'))
        source = ClipSource(clip)
        super().__init__(
            backbone={**backbone, 'clip': source},
            decode_head={**decode_head, 'clip': source},
            data_preprocessor=_build_preprocessor(data_preprocessor, source),
            train_cfg=train_cfg,
            test_cfg=test_cfg,
            init_cfg=init_cfg,
        )
        self._check_crop()
        self.dataset_meta = self.decode_head.dataset_meta
        self.register_load_state_dict_post_hook(forget_frozen_keys)

    def _load_from_state_dict(self, state_dict: Mapping, prefix: str, *args) -> None:
        """Refuse a checkpoint that does not fit this model; MMEngine would only log it."""
        if not prefix:
            check_checkpoint(self, state_dict)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def set_vocabulary(self, vocabulary, class_names=None, background_index: int | None = None) -> None:
        """Change the classes of a built model; nothing but the text tower is loaded again.

        Args:
            vocabulary: See `load_vocabulary`.
            class_names: See `TextSimilarityHead`.
            background_index: The new background class, or None.

        Raises:
            ValueError: The vocabulary is wrong, or a threshold is set and there is no background.
        """
        complete_test_cfg(self.test_cfg, background_index)
        filename = getattr(getattr(self, 'cfg', None), 'filename', None)  # `init_model` keeps the config
        folder = Path(filename).resolve().parent if filename else None
        self.decode_head.set_vocabulary(vocabulary, class_names, background_index, folder)
        self.num_classes, self.out_channels = self.decode_head.num_classes, self.decode_head.out_channels
        self.dataset_meta = self.decode_head.dataset_meta

    def _check_settings(self) -> None:
        """Check `test_cfg`, which users may change on a built model."""
        self.test_cfg = complete_test_cfg(self.test_cfg, self.decode_head.background_index)
        self._check_crop()

    def _check_crop(self) -> None:
        patch, crop = self.backbone.tower.patch_size, self.test_cfg.crop_size
        if self.test_cfg.mode == 'slide' and (crop[0] < patch[0] or crop[1] < patch[1]):
            raise ValueError(
                f'model.test_cfg.crop_size is {tuple(crop)}, smaller than a patch of this CLIP, '
                f'{patch}. Give a larger crop.'
            )

    def encode(self, images: Tensor) -> Tokens:
        """Tokens of (B, 3, H, W), all passes of the decoder over one run of the tower."""
        memory = self.backbone.record(images)
        tokens = self.backbone.decode(memory)
        for _ in range(self.backbone.passes - 1):
            tokens = self.backbone.decode(memory, Feedback(images, self.decode_head(tokens)))
        return tokens

    def extract_feat(self, inputs: Images) -> tuple[Tensor] | list[tuple[Tensor]]:
        """Dense features: a tuple with one map (B, D, h, w), or a list of such tuples for a list of images."""
        if isinstance(inputs, Tensor):
            return (self.encode(inputs).map,)
        return [(self.encode(image[None]).map,) for image in inputs]

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Scores (B, Q, H, W) of (B, 3, H, W), enlarged as `TextSimilarityHead.predict` says."""
        self._check_settings()
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
        """Label maps at original size.

        Args:
            inputs: (B, 3, H, W) or a list of (3, H, W), normalised, RGB.
            data_samples: With `ori_shape`; padding and flips that their metainfo names are undone.

        Returns:
            Samples with `pred_sem_seg` (1, H, W) int64, and `seg_logits` (C, H, W), the class scores after
            the area threshold, where `test_cfg.keep_scores` is set.
        """
        self._check_settings()
        if data_samples is None:
            data_samples = [SegDataSample(metainfo=dict(ori_shape=tuple(image.shape[-2:]))) for image in inputs]
        for image, sample in zip(inputs, data_samples, strict=True):
            # Deep in the network the name of the file is not known.
            self.backbone.tower.check_size(image, sample.metainfo.get('img_path', 'An image'))
        for image, sample, scores in zip(
            inputs, data_samples, self._score_images(list(inputs), data_samples), strict=True
        ):
            with torch.autocast(scores.device.type, enabled=False):
                self._label(scores, image, sample)
        return list(data_samples)

    def _score_images(self, images: list[Tensor], samples: Sequence[SegDataSample]) -> list[PixelScores]:
        """Cosines of each image with each distinct phrase, ready to be read at any row of pixels."""
        whole = self.test_cfg.mode == 'whole'
        crop, stride = self.test_cfg.crop_size, self.test_cfg.stride
        sizes = [tuple(image.shape[-2:]) for image in images]
        grids = [WindowGrid.cut(*size, *((size, size) if whole else (crop, stride))) for size in sizes]
        each = score_windows(
            images,
            grids,
            self.test_cfg.window_batch,
            lambda crops: self.decode_head.distinct(self.decode_head(self.encode(crops))),
        )
        found = []
        for scores, grid, size, sample in zip(each, grids, sizes, samples, strict=True):
            patches = (scores.shape[0] // len(grid.rows), scores.shape[2] // len(grid.columns))
            axes = image_axes((grid.rows, grid.columns), patches, size, sample.metainfo, self.test_cfg)
            found.append(PixelScores(scores, *map(axis_matrix, axes), self.decode_head.phrase_of_query))
        return found

    def _label(self, pixels: PixelScores, image: Tensor, sample: SegDataSample) -> None:
        """Post-process the cosines of an image (3, H, W), normalised, into the sample."""
        settings, sizes, background = (
            self.test_cfg,
            self.decode_head.vocabulary.sizes,
            self.decode_head.background_index,
        )
        cosines = pixels
        if is_on(settings.pamr) or is_on(settings.crf):
            guide = self._guide(image, sample.metainfo)
        if is_on(settings.pamr):
            refined = pamr(guide, pixels.whole(), settings.pamr.steps, settings.pamr.dilations)
            cosines = MapScores(refined, pixels.queries)
        if settings.keep_scores or is_on(settings.crf):
            scores = class_scores_in_bands(cosines, sizes, settings.logit_scale)
            if is_on(settings.crf):
                rgb = guide * self.data_preprocessor.std + self.data_preprocessor.mean
                scores = dense_crf(rgb, scores, settings.crf)
            if settings.area_thd is not None:
                scores = suppress_small_classes(scores, settings.area_thd, background)
            labels = predict_labels(scores, settings.prob_thd, background)
            if settings.keep_scores:
                sample.seg_logits = PixelData(data=scores)
        else:
            labels = label_in_bands(
                cosines, sizes, settings.logit_scale, settings.prob_thd, settings.area_thd, background
            )
        sample.pred_sem_seg = PixelData(data=labels[None])

    def _guide(self, image: Tensor, meta: Mapping) -> Tensor:
        """The normalised image (3, H, W) at original size, for refinements."""
        restore = partial(
            to_original,
            input_size=image.shape[-2:],
            meta=meta,
            test_cfg=self.test_cfg,
            enlarge=self.decode_head.enlarge,
        )
        # Channel by channel, since torch picks its kernel for three channels by the number of threads.
        return torch.cat([restore(channel[None]) for channel in image])


def _build_preprocessor(config: Mapping | torch.nn.Module | None, source: ClipSource) -> torch.nn.Module:
    """The user's preprocessor, or CLIP's own with the mean and std of the loaded weights."""
    if isinstance(config, torch.nn.Module):
        return config
    config = dict(config or dict(type='CLIPDataPreProcessor'))
    if config.get('type') in ('CLIPDataPreProcessor', 'mmseg.CLIPDataPreProcessor', CLIPDataPreProcessor):
        config = dict(mean=source.mean, std=source.std) | config
    return MODELS.build(config)
