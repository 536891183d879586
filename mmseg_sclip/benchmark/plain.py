"""The plain way: SCLIP written as it is described, one step after the other, without any of our shortcuts.

It is what speed is compared with, and what tests compare results with. It shares CLIP's modules and the attention
strategy with a built segmentor, and nothing else: windows, text encoding, resizing and post-processing are its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..models import SCLIPSegmentor, TextSimilarityHead
from ..models.clip.tower import Memory
from ..models.segmentors.settings import is_on


def check(model: SCLIPSegmentor, config: Mapping) -> None:
    """Refuse what is not written out here, since the comparison would be with another method.

    Raises:
        ValueError: With the setting.
    """
    settings, head = model.test_cfg, model.decode_head
    flips = [step['type'] for step in config['test_dataloader']['dataset']['pipeline'] if 'Flip' in str(step['type'])]
    for found, what in (
        (is_on(settings.pamr), 'test_cfg.pamr. Set model.test_cfg.pamr.steps=0'),
        (is_on(settings.crf), 'test_cfg.crf. Set model.test_cfg.crf.steps=0'),
        (model.backbone.passes > 1, 'decoders of several passes'),
        (not isinstance(head, TextSimilarityHead), f'the head {type(head).__name__}'),
        (getattr(head, 'pd_thresh', None) is not None, 'decode_head.pd_thresh. Set it to None'),
        (getattr(head, 'ks_thresh', None) is not None, 'decode_head.ks_thresh. Set it to None'),
        (flips, f'the step {flips and flips[0]} of the test pipeline'),
    ):
        if found:
            raise ValueError(f'The benchmark compares with a plain implementation, which does not have {what}.')


@torch.no_grad()
def encode_phrase(tower: nn.Module, tokenizer, phrase: str, templates: Sequence[str]) -> Tensor:
    """The vector (D,) of one phrase: all prompts at all 77 positions, unit norm before and after the average."""
    prompts = tokenizer([template.replace('{}', phrase) for template in templates])
    features = tower.encode_text(prompts.to(next(tower.parameters()).device)).float()  # (templates, D)
    features = features / features.norm(dim=-1, keepdim=True)
    mean = features.mean(dim=0)
    return mean / mean.norm()


@torch.no_grad()
def patch_scores(model: SCLIPSegmentor, crop: Tensor) -> Tensor:
    """Cosines (1, Q, h, w) of one crop (1, 3, H, W): open_clip's own blocks, one after the other."""
    tower, decoder = model.backbone.tower, model.backbone.decoder
    x, grid = tower.embed(crop)
    memory = Memory(grid)
    for number in range(max(decoder.needs) + 1):
        x = x if number == 0 else tower.block(number)(x)
        if number in decoder.needs:
            memory[number] = x
    with torch.enable_grad():  # no fused shortcuts: attention maps, open_clip's own feed-forward part
        features = decoder(tower, memory, grid).patches[0].detach().float()  # (n, D)
    features = features / features.norm(dim=-1, keepdim=True)
    scores = features @ model.decode_head.encode_vocabulary(crop.device).T  # (n, distinct phrases)
    scores = scores[:, [model.decode_head.vocabulary.distinct.index(q) for q in model.decode_head.vocabulary.queries]]
    return scores.T.unflatten(1, grid)[None]


@torch.no_grad()
def slide(model: SCLIPSegmentor, image: Tensor, crop_size: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Cosines (1, Q, H, W) of an image (3, H, W): every window's map is padded to the whole image and added."""
    height, width = image.shape[1:]
    total, count = 0, torch.zeros(1, 1, height, width, device=image.device)
    for row in range(max(height - crop_size[0] + stride[0] - 1, 0) // stride[0] + 1):
        for column in range(max(width - crop_size[1] + stride[1] - 1, 0) // stride[1] + 1):
            bottom, right = min(row * stride[0] + crop_size[0], height), min(column * stride[1] + crop_size[1], width)
            top, left = max(bottom - crop_size[0], 0), max(right - crop_size[1], 0)
            crop = image[None, :, top:bottom, left:right]
            scores = _enlarge(patch_scores(model, crop), crop.shape[2:])
            total = total + F.pad(scores, (left, width - right, top, height - bottom))
            count[:, :, top:bottom, left:right] += 1
    return total / count


@torch.no_grad()
def score_image(model: SCLIPSegmentor, image: Tensor, original: Sequence[int]) -> Tensor:
    """Cosines (Q, H, W) at original size (height, width)."""
    settings = model.test_cfg
    if settings.mode == 'slide':
        scores = slide(model, image, settings.crop_size, settings.stride)
    else:
        scores = patch_scores(model, image[None])
        if settings.whole_resize == 'input':
            scores = _enlarge(scores, image.shape[1:])
    return _enlarge(scores, original)[0]


@torch.no_grad()
def class_probabilities(scores: Tensor, sizes: Sequence[int], settings: Mapping, background: int | None) -> Tensor:
    """(C, H, W) from cosines (Q, H, W): softmax, a one-hot product of classes and queries, the area threshold."""
    probabilities = (scores * settings['logit_scale']).softmax(dim=0)
    if len(sizes) != len(scores):
        of_query = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)).to(scores.device)
        one_hot = F.one_hot(of_query, len(sizes)).T.to(scores.dtype)  # (C, Q)
        probabilities = (one_hot[:, :, None, None] * probabilities[None]).max(dim=1)[0]  # (C, Q, H, W) to (C, H, W)
    if settings['area_thd'] is not None:
        predicted = F.one_hot(probabilities.argmax(dim=0), len(sizes)).permute(2, 0, 1)  # (C, H, W)
        area = predicted.sum(dim=(1, 2)).double()
        area[background] = 0
        kept = area > settings['area_thd'] * area.sum()
        kept[background] = True
        probabilities = probabilities * kept[:, None, None]
    return probabilities


@torch.no_grad()
def predict(model: SCLIPSegmentor, image: Tensor, original: Sequence[int]) -> Tensor:
    """Labels (H, W) of a normalised image (3, h, w) at original size; no refinement, no flips, no padding."""
    head, settings = model.decode_head, model.test_cfg
    scores = score_image(model, image, original)
    probabilities = class_probabilities(scores, head.vocabulary.sizes, settings, head.background_index)
    best, labels = probabilities.max(dim=0)
    if settings.prob_thd:
        labels[best < settings.prob_thd] = head.background_index
    return labels


def _enlarge(scores: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(scores, size=tuple(size), mode='bilinear', align_corners=False)
