"""SCLIP written as it is described, one step after the other, without any of the package's shortcuts.

Tests compare results with it, and `tools/benchmark.py` compares speed. open_clip's own image tower runs on one window
at a time, every window's map is padded to the whole image, and synonyms are merged by a product of classes and queries.
Of the package it uses the weights, the map that an attention defines (`weights`), the rule that fits
positions, and the encoded words; all else is its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.nn import functional as F

from mmseg_sclip.models import BlockInput, SCLIPSegmentor


class Reference:
    """The same method as a segmentor, with its settings, words and weights.

    Args:
        model: The segmentor. Its weights are shared.
    """

    def __init__(self, model: SCLIPSegmentor) -> None:
        self.model = model
        self.visual = model.source.empty_visual()
        self.visual.load_state_dict(model.backbone.tower.visual.state_dict(), assign=True)

    @torch.no_grad()
    def predict(self, image: Tensor, original: Sequence[int]) -> Tensor:
        """Labels (H, W) of a normalised image (3, h, w) at original size; no refinement, no flips, no padding."""
        head, settings = self.model.decode_head, self.model.test_cfg
        scores = self.score(image, original)
        probabilities = class_probabilities(scores, head.vocabulary.sizes, settings, head.background_index)
        best, labels = probabilities.max(dim=0)
        if settings.prob_thd:
            labels[best < settings.prob_thd] = head.background_index
        return labels

    @torch.no_grad()
    def score(self, image: Tensor, original: Sequence[int]) -> Tensor:
        """Cosines (Q, H, W) at original size (height, width)."""
        settings = self.model.test_cfg
        if settings.mode == 'slide':
            scores = self.slide(image, settings.crop_size, settings.stride)
        else:
            scores = self.patch_scores(image[None])
            if settings.whole_resize == 'input':
                scores = enlarge(scores, image.shape[1:])
        return enlarge(scores, original)[0]

    def slide(self, image: Tensor, crop_size: Sequence[int], stride: Sequence[int]) -> Tensor:
        """Cosines (1, Q, H, W) of an image (3, H, W): every window's map is padded to the whole image and added."""
        height, width = image.shape[1:]
        total, count = 0, torch.zeros(1, 1, height, width, device=image.device)
        for row in range(max(height - crop_size[0] + stride[0] - 1, 0) // stride[0] + 1):
            for column in range(max(width - crop_size[1] + stride[1] - 1, 0) // stride[1] + 1):
                bottom = min(row * stride[0] + crop_size[0], height)
                right = min(column * stride[1] + crop_size[1], width)
                top, left = max(bottom - crop_size[0], 0), max(right - crop_size[1], 0)
                crop = image[None, :, top:bottom, left:right]
                scores = enlarge(self.patch_scores(crop), crop.shape[2:])
                total = total + F.pad(scores, (left, width - right, top, height - bottom))
                count[:, :, top:bottom, left:right] += 1
        return total / count

    def patch_scores(self, crop: Tensor) -> Tensor:
        """Cosines (1, Q, h, w) of one crop (1, 3, H, W)."""
        features = self.features(crop)[0].float()  # (n, D)
        features = features / features.norm(dim=-1, keepdim=True)
        head = self.model.decode_head
        bank = head.encode_vocabulary(crop.device)  # (distinct phrases, D)
        scores = features @ bank[[head.vocabulary.distinct.index(query) for query in head.vocabulary.queries]].T
        grid = tuple(side // patch for side, patch in zip(crop.shape[2:], self.visual.patch_size, strict=True))
        return scores.T.unflatten(1, grid)[None]

    def features(self, crop: Tensor) -> Tensor:
        """Projected patches (1, n, D): open_clip's own blocks, then the last one with the attention of the decoder."""
        visual, decoder = self.visual, self.model.backbone.decoder
        x = visual.conv1(crop)  # (1, width, h, w)
        grid = tuple(x.shape[2:])
        x = torch.cat([visual.class_embedding.expand(1, 1, -1), x.flatten(2).transpose(1, 2)], dim=1)
        positions = self.model.backbone.tower.fit_positions(visual.positional_embedding, visual.grid_size, grid)
        streams = [visual.ln_pre(x + positions)]
        for block in visual.transformer.resblocks[:-1]:
            streams.append(block(streams[-1]))
        last = visual.transformer.resblocks[-1]
        b = self._block_input(len(streams), streams, crop, grid)
        values = decoder.attention.weights(b) @ b.v  # (1, heads, N, head_dim)
        x = last.ls_1(last.attn.out_proj(values.transpose(1, 2).flatten(2)))
        x = x + streams[-1] if decoder.residual else x
        x = x + last.ls_2(last.mlp(last.ln_2(x))) if decoder.ffn else x
        return (visual.ln_post(x) @ visual.proj)[:, 1:]

    def _block_input(self, number: int, streams: Sequence[Tensor], crop: Tensor, grid: tuple[int, int]) -> BlockInput:
        """Queries, keys and values of a block, which counts from 1."""
        number = number if number > 0 else len(self.visual.transformer.resblocks) + 1 + number
        block = self.visual.transformer.resblocks[number - 1]
        x = block.ln_1(streams[number - 1])
        projected = F.linear(x, block.attn.in_proj_weight, block.attn.in_proj_bias).chunk(3, dim=-1)
        q, k, v = (part.unflatten(2, (block.attn.num_heads, -1)).transpose(1, 2) for part in projected)
        record = SimpleNamespace(tower=SimpleNamespace(prefix=1), images=crop, grid=grid)
        record.block_input = lambda earlier, feedback: self._block_input(earlier, streams, crop, grid)
        return BlockInput(q, k, v, x, block.attn.head_dim**-0.5, record)


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


def enlarge(scores: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resizing of (1, Q, h, w) to a size (height, width)."""
    return F.interpolate(scores, size=tuple(size), mode='bilinear', align_corners=False)
