"""Where OVSegmentor's two towers come from (CVPR 2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from mmseg.registry import MODELS

from ....errors import ConfigError
from ....rules import AtLeast
from ...pretrained import Pretrained
from ...towers.grouping_source import GroupingSource, in_folder
from ...towers.released import RELEASED
from .text import LETTERS, OVSegmentorText, build_text, rename_text

TOKENIZER = 'distilbert-base-uncased'
_VOCAB = 'vocab.txt'
_WORDS = Pretrained(
    what=f'the words of the tokenizer {TOKENIZER}',
    setting='model.clip.tokenizer',
    repository=TOKENIZER,
    hub_names=(_VOCAB,),
    published=f'huggingface.co/{TOKENIZER}',
    licence='Apache-2.0',
    size=1,
)
_Count = Annotated[int, AtLeast(1)]


@MODELS.register_module()
class OVSegmentorSource(GroupingSource):
    """OVSegmentor (CVPR 2023) with ViT-B and BERT-base: its image encoder, text encoder and projectors.

    The network is GroupViT's with two stages, one of which groups, and without LayerNorm after the patches. The sizes
    are those of the released weights; other ones are for small networks of one's own.

    Args:
        pretrained: 'released' for the published file in `weights_root()`, the path of a file, or None for random
            weights.
        tokenizer: The words that the text encoder knows: 'distilbert-base-uncased' for those that it was trained with,
            whose `vocab.txt` is looked for as files of weights are; the path of such a file, or of its folder; or None
            for single letters, which is allowed with random weights only.
        keep_text: See `NetworkSource`.
        cache_dir: See `NetworkSource`.
        width: Channels of an image token.
        heads: Attention heads of the image encoder.
        depths: Blocks of each stage.
        group_tokens: Group tokens of each stage, 0 for the last one, which does not group.
        output_groups: Groups that leave each stage that groups.
        bert: Settings of transformers' `BertConfig` where they are not those of BERT-base.
        hidden: Channels inside the projectors.
        out_dim: Channels of the joint space.

    Raises:
        ConfigError: There are weights, but no tokenizer.
    """

    build_text = staticmethod(build_text)
    rename_text = staticmethod(rename_text)
    release = Pretrained(
        what='OVSegmentor',
        setting='model.clip.pretrained',
        names=('ovsegmentor_vitb_bert.pth',),
        published='github.com/Jazzcharles/OVSegmentor (a link to Google Drive)',
        licence='NVIDIA Source Code License, non-commercial',
    )

    def __init__(
        self,
        pretrained: str | None = RELEASED,
        tokenizer: str | None = TOKENIZER,
        keep_text: bool = False,
        cache_dir: str | None = None,
        width: _Count = 768,
        heads: _Count = 8,
        depths: Sequence[_Count] = (6, 6),
        group_tokens: Sequence[Annotated[int, AtLeast(0)]] = (64, 0),
        output_groups: Sequence[_Count] = (8,),
        bert: Mapping[str, Any] | None = None,
        hidden: _Count = 4096,
        out_dim: _Count = 256,
    ) -> None:
        if tokenizer is None and pretrained is not None:
            raise ConfigError(
                f'model.clip.tokenizer is None, but the weights were trained with the words of {TOKENIZER}. Set '
                f"model.clip.tokenizer='{TOKENIZER}', or name its folder or its vocab.txt."
            )
        image = dict(
            width=width,
            heads=heads,
            depths=depths,
            group_tokens=group_tokens,
            output_groups=output_groups,
            patch_norm=False,
        )
        letters = dict(vocab_size=len(LETTERS)) if tokenizer is None else {}
        text = dict(bert=dict(bert or {}) | letters, hidden=hidden, out_dim=out_dim)
        super().__init__(pretrained, image, text, keep_text=keep_text, cache_dir=cache_dir)
        self.tokenizer = tokenizer

    @property
    def words(self) -> Pretrained | None:
        """The file of the tokenizer's words, which need not be there; None for single letters."""
        if self.tokenizer is None:
            return None
        return replace(_WORDS, given=None if self.tokenizer == TOKENIZER else in_folder(self.tokenizer, [_VOCAB]))

    @property
    def all_pretrained(self) -> dict[str, Pretrained]:
        """See `TowerSource.all_pretrained`."""
        return super().all_pretrained | ({} if self.words is None else {'tokenizer': self.words})

    def build_text_encoder(self) -> OVSegmentorText:
        """See `TowerSource.build_text_encoder`."""
        return OVSegmentorText(self)
