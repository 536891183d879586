"""TCL's trained network behind the frozen CLIP: a last block, and convolutions up to a quarter of the pixels."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ....compat import open_clip
from ...clip.fused import FusedBlock, fuse_block

STAGES = 2  # each doubles both sides
_SLOPE, _OFFSET = 10.0, -2.5  # of the masks, before training
_SWITCH = threading.Lock()


def identity_block(block: FusedBlock, x: Tensor) -> Tensor:
    """A block of CLIP in which every token keeps its own value: (B, N, width) to (B, N, width)."""
    value = block.attn.project(block.ln_1(x))[2]
    x = x + block.ls_1(block.attn.merge(value))
    return x + block.ls_2(block.mlp(block.ln_2(x)))


class GatedConv(nn.Module):
    """What a convolution adds to a map, with a learned share (arXiv 2212.00785, appendix on the decoder).

    Args:
        width: Channels.
        device: Of the parameters.
    """

    def __init__(self, width: int, device: torch.device) -> None:
        super().__init__()
        self.norm = open_clip.transformer.LayerNormFp32(width, device=device)
        self.conv = nn.Conv2d(width, width, 3, padding=1, device=device)
        self.gate = nn.Parameter(torch.zeros((), device=device))

    def activate(self, x: Tensor) -> Tensor:
        """LayerNorm over the channels and exact GELU, of (B, width, h, w)."""
        return F.gelu(self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) of the same."""
        with exact_convolutions(x.device):
            return x + self.gate.tanh() * self.conv(self.activate(x))

    def doubled(self, x: Tensor) -> Tensor:
        """`forward` of the map (B, width, 2h, 2w) in which each place of `x` (B, width, h, w) stands four times.

        Under a window of 3 x 3 such places are 2 x 2 different ones, so the weights of equal ones are added
        beforehand: one kernel for each of the four places of a square, and less than half of the products.
        """
        batch, width, height, length = x.shape
        active, gate = self.activate(x), self.gate.tanh()
        result = x.new_empty(batch, height, 2, length, 2, width)
        with exact_convolutions(x.device):
            for lower in (0, 1):
                for right in (0, 1):
                    kernel = _halved(_halved(self.conv.weight, 2, lower), 3, right)
                    padded = F.pad(active, (1 - right, right, 1 - lower, lower))
                    added = F.conv2d(padded, kernel.contiguous(memory_format=torch.channels_last), self.conv.bias)
                    result[:, :, lower, :, right] = (x + gate * added).permute(0, 2, 3, 1)
        return result.view(batch, 2 * height, 2 * length, width).permute(0, 3, 1, 2)


def _halved(kernel: Tensor, dim: int, second: int) -> Tensor:
    """Of three weights along `dim` two: what falls on the place before or at the middle, and what falls behind it."""
    first, middle, last = kernel.unbind(dim)
    return torch.stack([first + middle, last] if second else [first, middle + last], dim)


@contextmanager
def exact_convolutions(device: torch.device) -> Iterator[None]:
    """Convolutions on GPUs in float32, which would silently round to TF32; the switch is one for all threads."""
    if device.type != 'cuda':
        yield
        return
    with _SWITCH:
        before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
        try:
            yield
        finally:
            torch.backends.cudnn.allow_tf32 = before


class Projection(nn.Module):
    """LayerNorm and projection to the joint space, trained copies of CLIP's.

    Args:
        visual: CLIP's image tower.
    """

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.ln: Any = copy.deepcopy(visual.ln_post)
        self.proj = nn.Parameter(visual.proj.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) to (..., D)."""
        return self.ln(x) @ self.proj


class Masker(nn.Module):
    """From CLIP's last input but one to dense vectors of the joint space, four to a patch on each side.

    Untrained it is CLIP's own last block with identity attention, each patch repeated.

    Args:
        visual: CLIP's image tower; its last block, LayerNorm and projection are copied.
    """

    slope: Tensor
    offset: Tensor

    def __init__(self, visual: Any) -> None:
        super().__init__()
        width, device = visual.transformer.width, visual.proj.device
        self.block = fuse_block(copy.deepcopy(visual.transformer.resblocks[-1]))
        pairs = ([GatedConv(width, device), GatedConv(width, device)] for _ in range(STAGES))
        self.stages = nn.ModuleList(nn.ModuleDict(dict(zip(('conv', 'conv2'), pair, strict=True))) for pair in pairs)
        self.image_proj = Projection(visual)
        for name, value in (('slope', _SLOPE), ('offset', _OFFSET)):
            self.register_buffer(name, torch.full((), value, device=device))  # no parameter, so it stays float32

    def decode(self, x: Tensor) -> Tensor:
        """(B, width, h, w) to (B, width, 4h, 4w)."""
        stage: Any
        for stage in self.stages:
            x = stage['conv2'](stage['conv'].doubled(x))
        return x

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Vectors of the joint space, not normalised.

        Args:
            x: (B, N, width), the input of CLIP's last block.
            grid: (h, w) in patches; the last h * w tokens are theirs.

        Returns:
            (B, 4h * 4w, D), row by row.
        """
        x = identity_block(self.block, x)[:, -grid[0] * grid[1] :]
        x = self.decode(x.unflatten(1, grid).permute(0, 3, 1, 2))
        return self.image_proj(x.permute(0, 2, 3, 1).flatten(1, 2))
