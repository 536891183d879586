"""The plain way of tests/reference.py: which configs it can run, and its encoding of a phrase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models import SCLIPSegmentor, TextSimilarityHead
from mmseg_sclip.models.decoders import LastBlock


def check(model: SCLIPSegmentor, config: Mapping) -> None:
    """Refuse what is not written out there, since the comparison would be with another method.

    Raises:
        ConfigError: With the setting.
    """
    settings, head, decoder = model.test_cfg, model.decode_head, model.backbone.decoder
    flips = [step['type'] for step in config['test_dataloader']['dataset']['pipeline'] if 'Flip' in str(step['type'])]
    for present, what in (
        (settings.refine, 'test_cfg.refine. Set model.test_cfg.refine=[]'),
        (type(decoder) is not LastBlock, f'the decoder {type(decoder).__name__}'),
        (decoder.passes > 1, 'decoders of several passes'),
        (not isinstance(head, TextSimilarityHead), f'the head {type(head).__name__}'),
        (getattr(head, 'pd_thresh', None) is not None, 'decode_head.pd_thresh. Set it to None'),
        (getattr(head, 'ks_thresh', None) is not None, 'decode_head.ks_thresh. Set it to None'),
        (flips, f'the step {flips and flips[0]} of the test pipeline'),
    ):
        if present:
            raise ConfigError(f'The benchmark compares with a plain implementation, which does not have {what}.')


@torch.no_grad()
def encode_phrase(tower: nn.Module, tokenizer, phrase: str, templates: Sequence[str]) -> Tensor:
    """The vector (D,) of one phrase: all prompts at all positions, unit norm before and after the average."""
    prompts = tokenizer([template.replace('{}', phrase) for template in templates])
    features = tower.encode_text(prompts.to(next(tower.parameters()).device)).float()  # (templates, D)
    features = features / features.norm(dim=-1, keepdim=True)
    mean = features.mean(dim=0)
    return mean / mean.norm()
