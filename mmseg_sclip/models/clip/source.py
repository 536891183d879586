"""One place from which both towers of a CLIP are built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from mmengine.logging import print_log
from open_clip.hf_model import HFTextEncoder
from open_clip.tokenizer import HFTokenizer
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from ...paths import cache_root
from ...utils.cache_files import file_stamp
from .architecture import Architecture, find_architecture
from .config import PRECISIONS, TOWERS, ClipConfig
from .identity import text_identity
from .support import activation_message
from .weights import fit_weights, read_weights


class ClipSource:
    """A CLIP that gives memory only to the tower that is asked for.

    The model is laid out without memory, and each tower is filled when it is built: evaluation
    keeps no text tower. The segmentor makes one source and hands it to its backbone and its head.

    Args:
        clip: The `clip` entry of a model config, see `ClipConfig`.

    Raises:
        ValueError: A setting is wrong, the architecture cannot work, or the weights do not fit it.
        FileNotFoundError: A file is missing or cannot be downloaded.
    """

    def __init__(self, clip: Mapping) -> None:
        self.config = ClipConfig.parse(clip)
        self.architecture: Architecture = find_architecture(self.config)
        self._state: dict[str, Tensor] | None = None
        self._stamp: list[int] | None = None  # of the weights file when it was first read
        self._identity: dict[str, Any] | None = None
        self._log_overrides()

    @classmethod
    def of(cls, clip: Mapping | ClipSource | None, owner: str) -> ClipSource:
        """`clip` itself where it is a source already, else a new one.

        Raises:
            ValueError: There is none; `owner` names who needs it.
        """
        if clip is None:
            raise ValueError(
                f"{owner} has no CLIP. Give it clip=dict(model_name='ViT-B-16-quickgelu', "
                "pretrained='openai'), or put that into the SCLIPSegmentor, which hands it on."
            )
        return clip if isinstance(clip, ClipSource) else cls(clip)

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of the images in RGB, for values in 0..255, in thousandths as the configs of this family write it.

        PAMR compares differences of rounding in flat regions, so inputs must equal the official code's to the last bit.
        """
        return tuple(round(255 * value, 3) for value in self.architecture.mean)

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of the images in RGB; see `mean`."""
        return tuple(round(255 * value, 3) for value in self.architecture.std)

    def image_tower(self) -> VisionTransformer:
        """The image tower with its weights, frozen, in `clip.precision`.

        Raises:
            ValueError: It is no Vision Transformer with a class token.
        """
        model = self._layout('image')
        return self._fill(
            self._check_visual(model.visual),
            {
                key.removeprefix('visual.'): value
                for key, value in self._weights(model).items()
                if key.startswith('visual.')
            },
        )

    def empty_image_tower(self) -> VisionTransformer:
        """The image tower on the meta device: shapes without memory, to count what it costs; no weights are read.

        Raises:
            ValueError: It is no Vision Transformer with a class token.
        """
        return self._check_visual(self._layout('image').visual).eval().requires_grad_(False)

    def _check_visual(self, visual: nn.Module) -> VisionTransformer:
        if type(visual) is not VisionTransformer or not visual.transformer.batch_first:
            raise ValueError(
                f'{self.architecture.name} cannot be used: its image tower is a {type(visual).__name__}, '
                'not a Vision Transformer of open_clip.'
            )
        return visual

    def text_tower(self) -> nn.Module:
        """An open_clip model of which only the text side has memory: `encode_text` works, nothing else."""
        model = self._layout('text')
        state = self._weights(model)
        model.visual = nn.Identity()
        model.logit_scale, model.logit_bias = None, None
        return self._fill(model, {key: value for key, value in state.items() if not key.startswith('visual.')})

    def text_cache(self) -> Path:
        """The folder of encoded phrases."""
        root = self.config.cache_dir
        return (cache_root() if root is None else Path(root).expanduser()) / 'text_banks'

    def text_identity(self) -> dict[str, Any] | None:
        """What encoded phrases depend on, without the templates.

        None where they cannot be kept: random weights, and a file that has changed since it was read.
        """
        path = self.architecture.weights
        now = None if path is None else file_stamp(path)
        if now is None:
            return None
        if self._stamp is None:
            self._stamp = now
        if now != self._stamp:
            return None
        if self._identity is None:
            self._identity = text_identity(self.config, self.architecture, self.text_cache() / 'file_hashes.json')
        return self._identity

    def tokenizer(self) -> Callable:
        """The tokenizer of the architecture, with its context length."""
        name = self.config.model_name
        text = self.architecture.model['text_cfg']
        if name.startswith('local-dir:'):
            name = f'local-dir:{Path(name.removeprefix("local-dir:")).expanduser()}'
            return open_clip.get_tokenizer(name, cache_dir=self.config.cache_dir)
        if name.startswith('hf-hub:'):
            return open_clip.get_tokenizer(name, cache_dir=self.config.cache_dir)
        context, more = text.get('context_length', 77), text.get('tokenizer_kwargs') or {}
        if text.get('hf_tokenizer_name'):
            return HFTokenizer(
                text['hf_tokenizer_name'],
                context_length=context,
                cache_dir=self.config.cache_dir,
                tokenizer_mode=text.get('tokenizer_mode'),
                **more,
            )
        return open_clip.SimpleTokenizer(context_length=context, **more)

    def release(self) -> None:
        """Forget the weights read so far; they are read again if a tower is built later."""
        if self.architecture.weights is not None:
            self._state = None

    def _layout(self, tower: str, device: str = 'meta') -> nn.Module:
        """The whole model, without memory on the meta device, with the overrides of one tower."""
        config = dict(self.architecture.model)
        custom = config.pop('custom_text', False) or 'hf_model_name' in config['text_cfg']
        if custom:
            config['text_cfg'] = {**config['text_cfg'], 'hf_model_pretrained': False}
        activation, eps = (self.config.override(key, tower) for key in ('activation', 'norm_eps'))
        if activation is not None:
            config['quick_gelu'] = activation == 'quick_gelu'
        if eps is not None:
            part = 'vision_cfg' if tower == 'image' else 'text_cfg'
            config[part] = {**config[part], 'norm_kwargs': {**(config[part].get('norm_kwargs') or {}), 'eps': eps}}
        with torch.device(device):
            try:
                # With the lower precisions open_clip builds LayerNorms that compute in float32.
                return (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(
                    **config, cast_dtype=PRECISIONS[self.config.precision]
                )
            except TypeError as error:  # a key that open_clip does not know
                raise ValueError(
                    f'{self.architecture.name} is no model description that open_clip {open_clip.__version__} can '
                    f'build ({error}). Correct the key, or install a newer open_clip_torch.'
                ) from error

    def _weights(self, model: nn.Module) -> dict[str, Tensor]:
        """The state dict under the model's names; random where no weights were asked for."""
        if self._state is None:
            path = self.architecture.weights
            if path is None:
                print_log(
                    f'{self.architecture.name} has RANDOM WEIGHTS because clip.pretrained is None: every '
                    "prediction will be meaningless. Set clip=dict(pretrained='openai') or give a file.",
                    logger='current',
                    level=30,
                )
                self._state = self.random_weights()
            else:
                self._stamp = self._stamp or file_stamp(path)
                weights = read_weights(path)
                self._check_activation(weights.from_openai)
                self._state = fit_weights(path, weights.state_dict, model.state_dict(), self.architecture.name)
        return self._state

    def random_weights(self) -> dict[str, Tensor]:
        """A state dict under the model's names, as open_clip initialises it."""
        state = self._layout('image', 'cpu').state_dict()
        return fit_weights('random', state, state, self.architecture.name)

    def _check_activation(self, from_openai: bool | None) -> None:
        """OpenAI's weights need QuickGELU; for other files say which activation is in use."""
        found = self.architecture
        overridden = all(self.config.override('activation', tower) for tower in TOWERS)
        if from_openai and not found.quick_gelu and not overridden:
            raise ValueError(activation_message(f'The OpenAI weights {found.weights}', True, found.name))
        if from_openai is None and found.tag_quick_gelu is None and not found.name.startswith('builtin:'):
            print_log(
                f'{found.weights.name} does not tell its activation; {found.name} runs it with '
                f'{"QuickGELU" if found.quick_gelu else "GELU"}.',
                logger='current',
            )

    def _log_overrides(self) -> None:
        for key in ('activation', 'norm_eps'):
            for tower in TOWERS:
                value = self.config.override(key, tower)
                if value is not None:
                    print_log(f'clip.{key}: the {tower} tower runs with {value} on purpose.', logger='current')

    def _fill(self, module: nn.Module, state: dict[str, Tensor]) -> nn.Module:
        """Give memory to a module laid out on the meta device, and prove that none is left without."""
        module.load_state_dict({key: value.float().clone() for key, value in state.items()}, strict=True, assign=True)
        for owner in module.modules():
            if getattr(owner, 'attn_mask', None) is not None:  # not persistent, so no checkpoint brings it
                side = owner.attn_mask.shape[0]
                owner.attn_mask = torch.full((side, side), float('-inf')).triu_(1)
        empty = [
            name
            for group in (module.named_parameters(), module.named_buffers())
            for name, value in group
            if value.is_meta
        ]
        if empty:
            raise RuntimeError(f'These parts of CLIP were left without memory: {", ".join(empty)}. This is a bug.')
        self._lower(module)
        return module.eval().requires_grad_(False)

    def _lower(self, module: nn.Module) -> None:
        """Bring weights to `clip.precision`, once; LayerNorms, embeddings and Hugging Face's text towers stay."""
        dtype = PRECISIONS[self.config.precision]
        if dtype == torch.float32 or isinstance(getattr(module, 'text', None), HFTextEncoder):
            return
        for part in module.modules():
            if isinstance(part, (nn.LayerNorm, nn.Embedding)):
                continue
            for name, parameter in part.named_parameters(recurse=False):
                if name not in ('positional_embedding', 'class_embedding'):  # fitted in float32, then cast
                    parameter.data = parameter.data.to(dtype)
