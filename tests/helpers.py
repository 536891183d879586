"""What tests share: towers of synthetic or random weights, segmentors around them, and plain NumPy."""

import copy
import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import mmseg_sclip  # isort: skip  # noqa: F401  before anything that imports mmseg, which mmcv-lite needs
import numpy as np
import torch
from huggingface_hub.utils import LocalEntryNotFoundError
from mmengine.config import Config
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmseg_sclip.models import hub
from mmseg_sclip.models.clip import ClipSource
from mmseg_sclip.models.companions import ColourRegions, FilterBank, RegionMaps
from mmseg_sclip.models.companions.base import build_companions
from mmseg_sclip.models.towers import build_source

# The architecture of tests/data/recipe.py in open_clip's words.
MINI = dict(
    embed_dim=64,
    quick_gelu=True,
    vision_cfg=dict(image_size=224, layers=3, width=128, head_width=64, patch_size=16),
    text_cfg=dict(context_length=77, vocab_size=49408, width=64, heads=1, layers=2),
)
CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
WORDS = [['cat', 'kitten'], 'dog', 'tree']
COLOUR_REGIONS = dict(tolerance=4.0, least=3)  # which find several even in noise


class Result(NamedTuple):
    """What a person sees of a command."""

    code: int
    out: str
    err: str

    @property
    def last(self):
        return self.err.rstrip('\n').rpartition('\n')[2]


def softmax(logits):
    """Over the last axis of an array."""
    exp = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


def unit(vectors):
    """Vectors of the last axis of an array, with the norm 1."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def description(text=None, **vision):
    """A copy of `MINI` with changes to its two parts."""
    changed = copy.deepcopy(MINI)
    changed['vision_cfg'].update(vision)
    changed['text_cfg'].update(text or {})
    return changed


def write_clip(folder, state=None, name='clip', text=None, **vision):
    """The `clip` entry of a config, of a changed `MINI` with weights by OpenAI's names; None for random ones."""
    (folder / f'{name}.json').write_text(json.dumps(description(text, **vision)))
    if state is not None:
        torch.save(state, folder / f'{name}.pt')
    return dict(model_name=str(folder / f'{name}.json'), pretrained=state and str(folder / f'{name}.pt'))


def random_source(folder, **vision):
    """A `ClipSource` of random weights, the same in every session: models of it share one pair of towers."""
    source = ClipSource(**write_clip(folder, **vision))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        source.image_tower()  # draws the weights of both towers
    return source


@cache
def peer_demos():
    """The demo configs of trained peers, whose small networks have random weights, by the `type` of their towers."""
    demos = [Config.fromfile(path) for path in sorted(CONFIGS.glob('*/*_demo.py'))]
    return {demo.model.clip.type: demo for demo in demos if 'type' in demo.model.clip}


@cache
def random_peer(kind):
    """The source of random towers of a peer, the same in every session; not to be changed."""
    model = peer_demos()[kind].model
    source = build_source(model.clip, 'A test')
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        source.image_tower(model.backbone.get('positions', 'scale'))
    return source


def random_model(config, source):
    """The model of a config around a source of towers; its words are random vectors, which need no text tower.

    A filter bank stands in for each companion that has weights, and regions of one colour for those from files.
    """
    companions = build_companions(config.model.get('companions'))
    for name, companion in companions.items():
        if isinstance(companion, RegionMaps):
            companions[name] = ColourRegions(**COLOUR_REGIONS)
        elif companion.pretrained is not None:
            companions[name] = FilterBank(patch_size=8)
    model = MODELS.build({**config.model, 'clip': source, 'companions': companions}).eval()
    head = model.decode_head
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(len(head.vocabulary.distinct), model.backbone.tower.out_dim, generator=generator)
    head.text_bank = torch.nn.functional.normalize(vectors, dim=1)
    if hasattr(head, 'reference_bank'):
        channels = companions[head.companion].features(torch.zeros(1, 3, 16, 16)).map.shape[1]
        vectors = torch.randn(len(head.subjects), channels, generator=generator)
        head.reference_bank = torch.nn.functional.normalize(vectors, dim=1)
    return model


def build(clip, attention=None, decoder=None, backbone=None, head=None, data_preprocessor=None, **test_cfg):
    """A segmentor with small windows and three classes of four phrases, the first of them the background.

    Args:
        clip: The `clip` entry of a model config, or a source.
        attention: Of a `LastBlock`; None for SCLIP's.
        decoder, backbone, head: More settings of each, or another `type`.
        data_preprocessor: Its config; None for the source's own.
        **test_cfg: More settings of the test.
    """
    decoder = {'type': 'LastBlock', **(decoder or {})}
    if decoder['type'] == 'LastBlock':
        decoder.setdefault('attention', attention or dict(type='CorrelativeSelfAttention'))
    words = dict(type='TextSimilarityHead', vocabulary=WORDS, templates='simple', background_index=0)
    return MODELS.build(
        dict(
            type='SCLIPSegmentor',
            clip=clip,
            backbone={'type': 'CLIPVisionTransformer', 'decoder': decoder, **(backbone or {})},
            decode_head={**words, **(head or {})},
            data_preprocessor=data_preprocessor,
            test_cfg={**dict(crop_size=(64, 64), stride=(32, 32)), **test_cfg},
        )
    ).eval()


def sample(ori_shape, **meta):
    """A `SegDataSample` of an image of that size."""
    return SegDataSample(metainfo=dict(ori_shape=ori_shape, **meta))


def lose_hub(monkeypatch, folder):
    """A hub that cannot be reached, and a home and a cache of the hub without files."""

    def refuse(address, timeout):
        raise ConnectionError('Name or service not known.\nmore')

    def fail(*args, **kwargs):
        raise LocalEntryNotFoundError('it is not there')

    monkeypatch.setattr(hub, 'get_session', lambda: SimpleNamespace(head=refuse))
    monkeypatch.setattr(hub, 'hf_hub_download', fail)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(folder / 'hub'))
    monkeypatch.setenv('HOME', str(folder / 'home'))
