"""Painted scenes and captions for the training; the label maps only say what a caption names."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from mmseg_sclip.datasets.materials import MATERIALS
from mmseg_sclip.datasets.scenes import PURPOSES, scene

TEMPLATES = ('a photo of {}.', '{}.', 'an image of {}.', 'a picture with {} in it.')

_MAX_REGIONS = 5
_VISIBLE = 0.03  # a smaller share of the picture is not named
_LEFT_OUT = 0.1  # how often a caption leaves out one of its materials


def write_caption(rng: np.random.Generator, label: np.ndarray) -> tuple[str, frozenset[int]]:
    """A caption for `label` (H, W) and the set of materials that it names, in a random order."""
    share = np.bincount(label.ravel(), minlength=len(MATERIALS)) / label.size
    named = [int(i) for i in rng.permutation(np.flatnonzero(share > _VISIBLE))]
    if len(named) > 1 and rng.random() < _LEFT_OUT:
        named.pop()
    template = TEMPLATES[rng.integers(len(TEMPLATES))]
    return template.format(' and '.join(MATERIALS[i] for i in named)), frozenset(named)


class CaptionedScenes(Dataset):
    """Pairs (image (3, H, W) uint8 RGB, caption, bit set of the named materials).

    Args:
        seed: Of the scenes and of the captions.
        count: Number of pairs.
        size: Side of a scene in pixels.
    """

    def __init__(self, seed: int, count: int, size: int) -> None:
        self.seed, self.count, self.size = seed, count, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, str, int]:
        image, label = scene('training', self.seed, index, self.size, _MAX_REGIONS)
        words = np.random.SeedSequence([PURPOSES['training'].number, self.seed, index, 1])
        caption, named = write_caption(np.random.default_rng(words), label)
        return torch.from_numpy(image).permute(2, 0, 1), caption, sum(1 << i for i in named)


def contrastive_loss(images: Tensor, texts: Tensor, named: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric loss, in which pairs whose captions name the same set are all positives.

    Args:
        images: (B, D) unit features.
        texts: (B, D) unit features.
        named: (B,) bit sets.
        scale: The learned temperature, a scalar.
    """
    positive = (named[:, None] == named[None]).float()
    target = positive / positive.sum(1, keepdim=True)
    logits = scale.clamp(max=100) * images @ texts.T
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
