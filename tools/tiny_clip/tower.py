"""The image tower as it learns: what it goes without at random, so that its patches come to speak for themselves."""

from dataclasses import dataclass

import numpy as np
import open_clip
import torch
from open_clip.transformer import VisionTransformer
from torch import Generator, Tensor
from torch.nn import functional as F

from mmseg_sclip.datasets.materials import smooth_noise

_POSITION_SCALE, _POSITION_CELL = 0.3, 5  # standard deviation, and patches from one drawn value to the next
_QUERY_KEY_GAIN = 2
_HIDDEN = -1e4  # finite: where all tokens are hidden, all are looked at alike


@dataclass(frozen=True)
class Recipe:
    """What a training step does at random; captions judge the class token alone, so patches need help to mean words.

    Args:
        patches: The share of its patches that each picture goes without.
        attention: How often an earlier block's attention is left out, for a whole batch. Patches know less of the rest
            of their window then.
        skip: How often the last block's skip connection and feed-forward part are left out, for a sample. What the
            class token gathers from the values of the patches must then match the words by itself.
        itself: How often the class token cannot look at itself in the last block, for a sample.
        tokens: The largest share of the tokens that the class token cannot look at in the last block, for a sample
            whose skip connection is left out. Any patch must do then, and not only a few.
        enlarged: How often the pictures of a batch have the positions of a part of an image of twice the size, so that
            whole images, for which positions are interpolated, are no surprise.
    """

    patches: float = 0.5
    attention: float = 0.8
    skip: float = 0.5
    itself: float = 0.5
    tokens: float = 0.9
    enlarged: float = 0.5


def prepare(model: open_clip.CLIP, seed: int) -> None:
    """Begin with positions that are smooth over the image, and with queries and keys that are wider than open_clip's.

    Neighbours have similar positions then, as in a trained CLIP, and attention is less flat.
    """
    tower = model.visual
    rng = np.random.default_rng(seed)
    channels = range(tower.positional_embedding.shape[1])
    fields = np.stack([smooth_noise(rng, tower.grid_size, _POSITION_CELL).ravel() for _ in channels], axis=1)
    fields -= fields.mean(0)
    fields *= _POSITION_SCALE / fields.std()
    with torch.no_grad():
        tower.positional_embedding[1:] = torch.from_numpy(fields)
        for block in tower.transformer.resblocks:
            block.attn.in_proj_weight[: 2 * block.attn.embed_dim] *= _QUERY_KEY_GAIN


def encode_image(model: open_clip.CLIP, pixels: Tensor, recipe: Recipe, generator: Generator) -> Tensor:
    """CLIP's image features (B, D), of which the last block is computed for the class token alone.

    Args:
        model: The CLIP that learns.
        pixels: (B, 3, H, W), normalised.
        recipe: What is done at random.
        generator: The only source of randomness.
    """

    def chance(probability: float | Tensor, *shape: int) -> Tensor:
        return torch.rand(shape, generator=generator) < probability

    tower = model.visual
    x = tower.conv1(pixels).flatten(2).transpose(1, 2)
    x = x + (_enlarged(tower, generator) if chance(recipe.enlarged) else tower.positional_embedding[1:])
    batch, count, width = x.shape
    kept = round(count * (1 - recipe.patches))
    if kept < count:
        chosen = torch.rand(batch, count, generator=generator).topk(kept, dim=1).indices
        x = x.gather(1, chosen[..., None].expand(-1, -1, width))
    class_token = (tower.class_embedding + tower.positional_embedding[0]).expand(batch, 1, -1)
    x = tower.ln_pre(torch.cat([class_token, x], dim=1))
    *earlier, last = tower.transformer.resblocks
    for block in earlier:
        if not chance(recipe.attention):
            x = x + block.attention(block.ln_1(x))
        x = x + block.mlp(block.ln_2(x))
    skips = ~chance(recipe.skip, batch, 1)
    share = recipe.tokens * torch.rand(batch, 1, generator=generator) * ~skips
    mask = torch.zeros(batch, x.shape[1]).masked_fill(chance(share, batch, x.shape[1]), _HIDDEN)
    mask[:, :1].masked_fill_(chance(recipe.itself, batch, 1), -torch.inf)
    tokens = last.ln_1(x)
    gathered = last.attention(
        tokens[:, :1], tokens, tokens, attn_mask=mask[:, None].repeat_interleave(last.attn.num_heads, dim=0)
    )[:, 0]
    y = gathered + x[:, 0] * skips
    y = y + last.mlp(last.ln_2(y)) * skips
    return tower.ln_post(y) @ tower.proj


def _enlarged(tower: VisionTransformer, generator: Generator) -> Tensor:
    """Positions (patches, width) of a window somewhere in an image of twice the size."""
    rows, columns = tower.grid_size
    table = tower.positional_embedding[1:].T.unflatten(1, (rows, columns))
    table = F.interpolate(table[None], scale_factor=2, mode='bicubic')[0]
    top, left = (int(torch.randint(side + 1, (), generator=generator)) for side in (rows, columns))
    return table[:, top : top + rows, left : left + columns].flatten(1).T
