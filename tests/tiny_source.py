"""A source of towers that is not a model of open_clip: a tiny Vision Transformer of timm, and words as hashed letters.

Both towers lie in one safetensors file, see `write_weights`. Configs name the module in their `custom_imports`.
"""

import zlib
from functools import cached_property
from pathlib import Path

import torch
from mmseg.registry import MODELS
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from mmseg_sclip.files import file_hash
from mmseg_sclip.models.clip.positions import POSITION_RULES
from mmseg_sclip.models.text import TextEncoder
from mmseg_sclip.models.towers import ImageTower, TowerSource

PATCH, WORDS = 8, 97


def make_vit():
    return VisionTransformer(img_size=32, patch_size=PATCH, embed_dim=32, depth=3, num_heads=2, num_classes=16).eval()


def write_weights(path, seed):
    torch.manual_seed(seed)
    state = {f'vit.{name}': value for name, value in make_vit().state_dict().items()}
    save_file({**state, 'words.weight': torch.randn(WORDS, 16)}, path)
    return path


class TinyTower(ImageTower):
    depth, width, heads, patch_size, out_dim = 3, 32, 2, (PATCH, PATCH), 16

    def __init__(self, vit, positions):
        super().__init__()
        self.vit, self.fit_positions = vit, POSITION_RULES[positions]

    def embed(self, images):
        self.check_size(images)
        x = self.vit.patch_embed.proj(images)  # (B, width, h, w); it floors
        grid = tuple(x.shape[-2:])
        x = torch.cat([self.vit.cls_token.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
        return x + self.fit_positions(self.vit.pos_embed[0], (4, 4), grid), grid

    def run_block(self, number, x):
        return self.vit.blocks[number - 1](x)

    def norm(self, number, x):
        return self.vit.blocks[number - 1].norm1(x)

    def project_qkv(self, number, x):
        return tuple(self.vit.blocks[number - 1].attn.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4))

    def query_weights(self, number):
        return self.vit.blocks[number - 1].attn.qkv.weight[: self.width]

    def merge_heads(self, number, heads):
        return self.vit.blocks[number - 1].attn.proj(heads.transpose(1, 2).flatten(2))

    def feed_forward_branch(self, number, x):
        block = self.vit.blocks[number - 1]
        return block.mlp(block.norm2(x))

    def project(self, x):
        return self.vit.head(self.vit.norm(x))


class TinyWords(TextEncoder):
    logit_scale = 20.0

    def __init__(self, file, cache_dir):
        super().__init__(cache_dir=cache_dir)
        self.file = file

    def load(self):
        words = nn.EmbeddingBag(WORDS, 16)
        words.load_state_dict({'weight': load_file(self.file)['words.weight']})
        return words.requires_grad_(False)

    def embed(self, network, prompts):
        letters = [[zlib.crc32(word.encode()) % WORDS for word in prompt.split()] for prompt in prompts]
        return torch.cat([network(torch.tensor([row], device=network.weight.device)) for row in letters])

    def identity(self):
        return dict(kind='tiny', weights=file_hash(self.file))


@MODELS.register_module()
class TinySource(TowerSource):
    def __init__(self, file, cache_dir=None):
        super().__init__('tiny-vit', mean=(120.0, 110.0, 100.0), std=(60.0, 60.0, 60.0))
        self.weights, self.cache_dir = Path(file), cache_dir

    @cached_property
    def vit(self):
        vit, state = make_vit(), load_file(self.weights)
        vit.load_state_dict({name.removeprefix('vit.'): value for name, value in state.items() if 'vit.' in name})
        return vit.requires_grad_(False)

    def build_image_tower(self, positions):
        return TinyTower(self.vit, positions)

    def empty_image_tower(self, positions='scale'):
        with torch.device('meta'):
            return TinyTower(make_vit(), positions)

    def build_text_encoder(self):
        return TinyWords(self.weights, self.cache_dir)
