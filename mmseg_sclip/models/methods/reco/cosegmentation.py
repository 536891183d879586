"""What several images of one class have in common (ReCo, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def patch_weights(
    features: Tensor, dense: Tensor, text: Tensor, context: Sequence[Tensor] = (), scale: float = 10
) -> Tensor:
    """How likely each patch shows the class, and none of the context.

    Args:
        features: (N, C, h, w), of the encoder.
        dense: (N, D, h', w'), in the space of images and text, on a grid of its own.
        text: (D,), the unit vector of the class.
        context: (C,) each, reference vectors of what is not meant.
        scale: Multiplies the cosines with the text.

    Returns:
        (N, h, w), in 0..1.
    """
    cosines = torch.einsum('ndhw,d->nhw', F.normalize(dense, dim=1), text)
    attention = (scale * cosines).sigmoid()[:, None]
    weights = F.interpolate(attention, features.shape[2:], mode='bilinear', align_corners=False)[:, 0]
    units = F.normalize(features, dim=1)
    for vector in context:
        weights = weights * (1 - torch.einsum('nchw,c->nhw', units, vector).sigmoid())
    return weights


def seeds(features: Tensor, weights: Tensor, official_slices: bool = True) -> Tensor:
    """The patch of each image that all images have a like of.

    A patch is scored with the mean over the images of its best match in each, a match being the cosine times the weight
    of the patch that is matched.

    Args:
        features: (N, C, h, w).
        weights: (N, h, w), see `patch_weights`.
        official_slices: Look for the best match in image j, from 0, in all images from j to 2 j, as the official code
            does by an error in its slices.

    Returns:
        (N, C), the features of the best patch of each image, not normalised.
    """
    number = len(features)
    tokens = features.flatten(2).transpose(1, 2)  # (N, n, C)
    units = F.normalize(tokens, dim=-1)
    matched = (units * weights.flatten(1)[..., None]).flatten(0, 1).T  # (C, N * n)
    first = torch.arange(number, device=features.device)
    inside = (first >= first[:, None]) & (first <= 2 * first[:, None])  # (N, N): image j looks into these
    found = []
    for own, image in zip(tokens, units, strict=True):  # the products of all with all would fill the memory
        best = (image @ matched).unflatten(1, (number, -1)).amax(dim=2)  # (n, N)
        if official_slices:
            best = best[:, None].masked_fill(~inside, -torch.inf).amax(dim=2)
        found.append(own[best.mean(dim=1).argmax()])
    return torch.stack(found)


def reference(found: Tensor) -> Tensor:
    """The reference vector (C,), unit norm, of a class whose seeds are (N, C)."""
    return F.normalize(found.mean(dim=0), dim=0)
