"""Refinement by a fully connected CRF (Kraehenbuehl and Koltun, 2011), through the package pydensecrf2."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from mmseg.registry import MODELS
from torch import Tensor

from ...errors import ConfigError
from ...rules import AtLeast
from .base import CLASS_SCORES, ImageView, Refinement


@MODELS.register_module()
class DenseCRF(Refinement):
    """Mean-field inference over pixels, with a smoothness and an appearance kernel.

    The defaults are the weights that most work on weakly supervised segmentation takes from DeepLab.

    Args:
        steps: Steps of inference.
        smoothness: Weight of the smoothness kernel.
        smoothness_xy: Width of the smoothness kernel in pixels.
        appearance: Weight of the appearance kernel.
        appearance_xy: Width of the appearance kernel in pixels.
        appearance_rgb: Width of the appearance kernel in grey levels of 0 to 255.

    Raises:
        ConfigError: The package pydensecrf2 is not installed.
    """

    stage = CLASS_SCORES

    def __init__(
        self,
        steps: Annotated[int, AtLeast(0)] = 10,
        smoothness: float = 3.0,
        smoothness_xy: float = 1.0,
        appearance: float = 4.0,
        appearance_xy: float = 67.0,
        appearance_rgb: float = 3.0,
    ) -> None:
        super().__init__()
        try:
            from pydensecrf.densecrf import DenseCRF2D  # an optional package
        except ImportError as error:
            raise ConfigError(
                'The refinement DenseCRF needs the package pydensecrf2. Install it with pip install '
                '"mmseg_sclip[crf]", or take DenseCRF out of test_cfg.refine.'
            ) from error
        self._field = DenseCRF2D
        self.steps = steps
        self.smoothness = dict(sxy=smoothness_xy, compat=smoothness)
        self.appearance = dict(sxy=appearance_xy, srgb=appearance_rgb, compat=appearance)

    def refine(self, scores: Tensor, view: ImageView) -> Tensor:
        """Refine class scores (C, H, W), which need not sum to 1 over the classes; the result does."""
        classes, height, width = scores.shape
        total = scores.sum(0, keepdim=True).clamp_min(torch.finfo(scores.dtype).tiny)  # all can be 0 in some heads
        unary = -torch.log((scores / total).clamp_min(1e-8))
        field = self._field(width, height, classes)
        field.setUnaryEnergy(np.ascontiguousarray(unary.float().cpu().numpy().reshape(classes, -1)))
        field.addPairwiseGaussian(**self.smoothness)
        pixels = np.ascontiguousarray(view.rgb.permute(1, 2, 0).cpu().numpy())  # (H, W, 3)
        field.addPairwiseBilateral(rgbim=pixels, **self.appearance)
        refined = np.asarray(field.inference(self.steps), dtype=np.float32)
        return torch.from_numpy(refined).view(classes, height, width).to(scores.device)
