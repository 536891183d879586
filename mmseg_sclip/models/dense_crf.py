"""Refinement by a fully connected CRF (Kraehenbuehl and Koltun, 2011), through the package pydensecrf2."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

# The weights that most work on weakly supervised segmentation uses, from DeepLab.
DEFAULTS = dict(steps=0, smoothness=3.0, smoothness_xy=1.0, appearance=4.0, appearance_xy=67.0, appearance_rgb=3.0)


def dense_crf(image: Tensor, probabilities: Tensor, settings: Mapping) -> Tensor:
    """Mean-field inference over pixels, with a smoothness and an appearance kernel.

    Args:
        image: (3, H, W), RGB in 0..255.
        probabilities: (C, H, W), of classes; they need not sum to 1.
        settings: `steps` of inference; the weights `smoothness` and `appearance` of the kernels, and their widths
            `smoothness_xy` and `appearance_xy` in pixels and `appearance_rgb` in grey levels.

    Returns:
        (C, H, W), float32, summing to 1 over the classes, on the device of `probabilities`.

    Raises:
        ImportError: pydensecrf2 is not installed.
    """
    try:
        from pydensecrf.densecrf import DenseCRF2D
    except ImportError as error:
        raise ImportError(
            'test_cfg.crf needs the package pydensecrf2. Install it with pip install "mmseg_sclip[crf]", or set '
            'crf=dict(steps=0).'
        ) from error
    classes, height, width = probabilities.shape
    unary = -torch.log((probabilities / probabilities.sum(0, keepdim=True)).clamp_min(1e-8))
    field = DenseCRF2D(width, height, classes)
    field.setUnaryEnergy(np.ascontiguousarray(unary.float().cpu().numpy().reshape(classes, -1)))
    field.addPairwiseGaussian(sxy=settings['smoothness_xy'], compat=settings['smoothness'])
    rgb = image.round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()  # (H, W, 3)
    field.addPairwiseBilateral(
        sxy=settings['appearance_xy'],
        srgb=settings['appearance_rgb'],
        rgbim=np.ascontiguousarray(rgb),
        compat=settings['appearance'],
    )
    refined = np.asarray(field.inference(settings['steps']), dtype=np.float32)
    return torch.from_numpy(refined).view(classes, height, width).to(probabilities.device)
