"""Predicted labels at the size of the ground truth, also of segmentors that do not bring them to it themselves."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor

from ..errors import ConfigError


def labels_at(labels: Tensor, shape: Sequence[int], meta: Mapping[str, Any], warn: bool = False) -> Tensor:
    """A label map at another size: each pixel has the nearest label.

    MMSegmentation's own segmentors bring their logits to the size of the image, and their labels pass as they are.

    Args:
        labels: (h, w), of the whole image.
        shape: (H, W), the size at which the labels are needed.
        meta: Of the sample.
        warn: Say that the size differs.

    Returns:
        (H, W); the same tensor where it has that size.

    Raises:
        ConfigError: The size differs, and the image was padded or flipped, which the labels may contain or not.
    """
    shape = tuple(shape[:2])
    if tuple(labels.shape) == shape:
        return labels
    sizes = f'{labels.shape[0]} x {labels.shape[1]} labels, but is evaluated at {shape[0]} x {shape[1]} pixels'
    what = f'The prediction of {meta.get("img_path", "an image")} has {sizes}'
    padding = meta.get('img_padding_size', meta.get('padding_size'))
    if meta.get('flip') or (any(padding) if padding is not None else 'pad_shape' in meta):
        raise ConfigError(
            f'{what}, and the image was padded or flipped before, which the labels may contain or not. Let the '
            'segmentor bring its logits to the size of the image, as EncoderDecoder.postprocess_result does.'
        )
    if warn:
        print_log(
            f'{what}. Here and in all other images each pixel gets the nearest label. A segmentor that brings its '
            'logits to the size of the image is more exact, see EncoderDecoder.postprocess_result of MMSegmentation.',
            logger='current',
            level=logging.WARNING,
        )
    rows, columns = (
        ((torch.arange(wanted, dtype=torch.float64) + 0.5) * there / wanted).long().to(labels.device)
        for wanted, there in zip(shape, labels.shape, strict=True)
    )
    return labels[rows[:, None], columns]
