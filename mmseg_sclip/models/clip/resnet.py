"""CLIP's ResNets as image towers: the attention that pools their map is the one block that a decoder rebuilds."""

from __future__ import annotations

from typing import Any

from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from ...compat import open_clip
from ...errors import ConfigError
from ..towers.image import ImageTower
from .source import ClipSource

_EXAMPLE = 'RN50x16-quickgelu'


class ResNetTower(ImageTower):
    """An open_clip `ModifiedResNet`: the embedding is its map at stride 32, block 1 its attention pool.

    The pool's queries, keys and values are taken at every position, without its positional table and without the mean
    of the map that it pools at. With identity as attention that is MaskCLIP's form of it, called DenseCLIP too:
    c_proj(v_proj(x)) at each position. The block has neither residual nor feed-forward part, and no class token.

    Args:
        visual: The ResNet.
    """

    depth = 1
    prefix = 0
    patch_size = (32, 32)
    has_branches = False

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual = visual
        self.width = visual.attnpool.v_proj.in_features
        self.heads = visual.attnpool.num_heads
        self.out_dim = visual.output_dim

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """See `ImageTower.embed`."""
        self.check_size(images)
        visual = self.visual
        x = visual.stem(images.to(visual.conv1.weight.dtype))
        for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            x = layer(x)
        return x.flatten(2).transpose(1, 2), (x.shape[-2], x.shape[-1])

    def run_block(self, number: int, x: Tensor) -> Tensor:
        """See `ImageTower.run_block`; (B, N, out_dim)."""
        return self.merge_heads(number, F.scaled_dot_product_attention(*self.project_qkv(number, x)))

    def norm(self, number: int, x: Tensor) -> Tensor:
        """The pool has no LayerNorm."""
        return x

    def project_qkv(self, number: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `ImageTower.project_qkv`."""
        pool = self.visual.attnpool
        q, k, v = (
            layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (pool.q_proj, pool.k_proj, pool.v_proj)
        )
        return q, k, v

    def query_weights(self, number: int) -> Tensor:
        """See `ImageTower.query_weights`."""
        return self.visual.attnpool.q_proj.weight

    def merge_heads(self, number: int, heads: Tensor) -> Tensor:
        """See `ImageTower.merge_heads`; (B, N, out_dim), since the pool's output projection is CLIP's."""
        return self.visual.attnpool.c_proj(heads.transpose(1, 2).flatten(2))

    def project(self, x: Tensor) -> Tensor:
        """`merge_heads` has projected already."""
        return x


@MODELS.register_module()
class ClipResNetSource(ClipSource):
    """A CLIP of open_clip whose image tower is a ResNet, such as RN50x16.

    Args:
        mean: Mean of the images in RGB, for values in 0..255; None for CLIP's.
        std: Their standard deviation; None for CLIP's.
        **clip: See `ClipConfig`.

    Raises:
        ConfigError: As `ClipSource`, or the image tower is not a ResNet.
    """

    def __init__(
        self, mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None, **clip: Any
    ) -> None:
        super().__init__(**clip)
        self.mean = self.mean if mean is None else tuple(mean)
        self.std = self.std if std is None else tuple(std)

    def check_architecture(self) -> None:
        """See `ClipSource`."""
        if not isinstance(self.architecture.model['vision_cfg'].get('layers'), (list, tuple)):
            raise ConfigError(
                f"{self.architecture.name} cannot be used with type='ClipResNetSource': its image tower is not a "
                f"ResNet. Name one, such as model_name='{_EXAMPLE}', or take the type out of model.clip."
            )

    def checked_visual(self, visual: nn.Module) -> Any:
        """See `ClipSource`."""
        if type(visual) is not open_clip.modified_resnet.ModifiedResNet:
            raise ConfigError(
                f'{self.architecture.name} cannot be used: its image tower is a {type(visual).__name__}, not a '
                'ModifiedResNet of open_clip.'
            )
        return visual

    def build_image_tower(self, positions: str) -> ResNetTower:
        """See `ClipSource`; a ResNet has no positions to fit."""
        return ResNetTower(self.visual)

    def empty_image_tower(self, positions: str = 'scale') -> ResNetTower:
        """See `ClipSource`."""
        return ResNetTower(self.empty_visual())
