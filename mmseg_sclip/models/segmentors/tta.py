"""Test-time augmentation for scores that are thresholded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseTTAModel
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from ...errors import ConfigError
from ..image.scores import ClassScores, MeanScores
from ..record import Source
from .sclip_segmentor import SCLIPSegmentor


@MODELS.register_module()
class SCLIPTTAModel(BaseTTAModel):
    """Average the class scores of several views of an image, then apply the thresholds.

    A view is scored as any image; its flip and scale are undone when its scores are read at the pixels of the
    original image. What is averaged are the class scores after the softmax over queries, the maximum of each class and
    the refinements, band by band, so that no map of a view is held unless a refinement needs one. MMSeg's `SegTTAModel`
    would apply a second softmax, which flattens the scores, and would lose the thresholds. One view alone gives exactly
    the result of the plain test.

    Args:
        module: An `SCLIPSegmentor` or its config.
        data_preprocessor: For a module that has none.
    """

    module: SCLIPSegmentor

    def test_step(self, data: Mapping[str, Sequence]) -> list[SegDataSample]:
        """Labels of the images of a batch.

        Args:
            data: `inputs` and `data_samples`: for each view a list with one entry per image, as `TestTimeAug` and
                `pseudo_collate` give it.

        Raises:
            ConfigError: The pipeline gives no views.
        """
        model, images = self.module, data['inputs']
        if not isinstance(images[0], (list, tuple)):
            raise ConfigError(
                'SCLIPTTAModel got images without views. Its pipeline needs a TestTimeAug step: use the tta_pipeline '
                'of the config, as `tools/test.py --tta` does.'
            )
        each_view = []
        for inputs, samples in zip(images, data['data_samples'], strict=True):
            view = model.data_preprocessor(dict(inputs=list(inputs), data_samples=list(samples)), False)
            scores = model.score(view['inputs'], view['data_samples'])
            with torch.autocast(scores[0].device.type, enabled=False):
                each_view.append(
                    [
                        (model.class_scores(*one), one[2], one[0].source)
                        for one in zip(scores, view['inputs'], view['data_samples'], strict=True)
                    ]
                )
        return [self._merge(views) for views in zip(*each_view, strict=True)]

    def merge_preds(self, data_samples_list: Any) -> Any:
        """Not used: scores are merged, and not predictions."""
        raise NotImplementedError('SCLIPTTAModel merges class scores in test_step.')

    def _merge(self, views: Sequence[tuple[ClassScores, SegDataSample, Source]]) -> SegDataSample:
        """The labels of one image from the class scores of its views, in the sample of the first view."""
        (first, sample, source), *others = views
        if not others:
            return self.module.label_classes(first, sample, source)
        mean = MeanScores([scores for scores, _, _ in views])
        with torch.autocast(mean.device.type, enabled=False):
            return self.module.label_classes(ClassScores(mean, [1] * mean.shape[0]), sample, source)
