"""SAM's image encoder as a companion: the released files, the official numbers, and images of any shape."""

import sys

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from mmseg_sclip.errors import BadFileError, ConfigError, MissingFileError
from mmseg_sclip.models.companions import Companion, FilterBank, SamCompanion
from mmseg_sclip.models.companions.base import load_frozen
from mmseg_sclip.models.companions.sam_weights import ENCODERS, _renamed
from mmseg_sclip.models.pretrained import weights_root

TINY = dict(  # the network of recipe_extra
    hidden_size=64, num_hidden_layers=3, num_attention_heads=2, global_attn_indexes=[2], output_channels=32
)
SMALL = dict(TINY, image_size=128)  # 8 x 8 cells


def small(**changes):
    """With random weights; relative positions, which transformers begins with zeros, too."""
    companion = load_frozen(SamCompanion(pretrained=None, changes={**SMALL, **changes}))
    torch.manual_seed(0)
    for name, parameter in companion.named_parameters():
        if 'pos' in name or 'qkv' in name:
            parameter.normal_(0, 0.2)
    return companion


@pytest.fixture(scope='module')
def state(recipe_extra):
    return {name: torch.from_numpy(value) for name, value in recipe_extra.sam_encoder_state_dict(0).items()}


def load(path):
    return load_frozen(SamCompanion(pretrained=str(path), changes=TINY))


@torch.no_grad()
def test_sams_own_file_and_the_hubs_give_the_same_network(state, tmp_path):
    own = {
        **state,
        'mask_decoder.iou_token.weight': torch.ones(2),
        'prompt_encoder.no_mask_embed.weight': torch.ones(2),
    }
    torch.save(own, tmp_path / 'sam.pth')
    hubs = {f'vision_encoder.{_renamed(name)}': value for name, value in state.items()}
    save_file({**hubs, 'shared_image_embedding.positional_embedding': torch.ones(2)}, tmp_path / 'model.safetensors')
    first, second = load(tmp_path / 'sam.pth'), load(tmp_path / 'model.safetensors')
    entries = second.state_dict()
    assert len(entries) == len(state) and all(torch.equal(v, entries[k]) for k, v in first.state_dict().items())
    assert not any(parameter.requires_grad or parameter.is_meta for parameter in first.parameters())
    images = torch.rand(2, 3, 40, 56)
    seen = first.features(images).map
    stretched = torch.nn.functional.interpolate(images[1:], (1024, 1024), mode='bilinear')
    expected = first.network(stretched).last_hidden_state  # by transformers' own loop
    torch.testing.assert_close(seen[1:], expected, atol=1e-5, rtol=0)
    assert seen.shape == (2, 32, 64, 64) and (seen[0] - seen[1]).abs().max() > 0.1


WRONG = {
    'a missing entry': (lambda s: s.pop('image_encoder.neck.3.bias'), 'neck.layer_norm2.bias is missing in the file'),
    'an unknown entry': (
        lambda s: s.update({'image_encoder.blocks.0.attn.extra': torch.ones(1)}),
        'layers.0.attn.extra is unknown to the model',
    ),
    'another network beside it': (lambda s: s.update(tracker=torch.ones(1)), 'tracker .no entry of the image encoder.'),
    'another size': (
        lambda s: s.update({'image_encoder.pos_embed': torch.ones(1, 32, 32, 64)}),
        'pos_embed is 1x32x32x64 in the file and 1x64x64x64 in the model. They are no weights of SAM ViT-B',
    ),
    'not finite': (
        lambda s: s.update({'image_encoder.neck.3.bias': torch.full((32,), torch.nan)}),
        "'image_encoder.neck.3.bias' holds NaN",
    ),
    'no tensors': (
        lambda s: (s.clear(), s.update(a=3)),
        'holds no state dict of tensors, where SAM ViT-B was expected',
    ),
}


@pytest.mark.parametrize('damage', WRONG)
def test_a_wrong_file_is_refused_with_what_is_wrong(state, tmp_path, damage):
    change, message = WRONG[damage]
    change(state := dict(state))
    torch.save(state, tmp_path / 'sam.pth')
    with pytest.raises(BadFileError, match=f'sam.pth.*{message}'):
        load(tmp_path / 'sam.pth')


def test_a_truncated_or_missing_file_and_a_missing_package_are_named(state, tmp_path, fresh_cache, monkeypatch):
    torch.save(state, tmp_path / 'sam.pth')
    (tmp_path / 'half.pth').write_bytes((tmp_path / 'sam.pth').read_bytes()[:5000])
    with pytest.raises(BadFileError, match='half.pth cannot be read as weights'):
        load(tmp_path / 'half.pth')
    with pytest.raises(MissingFileError, match='SAM ViT-B are missing: .*pretrained names .*none.pth'):
        load(tmp_path / 'none.pth')
    monkeypatch.setattr(constants, 'ENDPOINT', 'http://127.0.0.1:9')
    with pytest.raises(MissingFileError, match='SAM ViT-L'):
        SamCompanion('vit_l').load()
    weights_root().mkdir(parents=True)
    (weights_root() / ENCODERS['vit_l'].file).write_bytes(b'x')
    assert SamCompanion('vit_l').pretrained.find() == weights_root() / 'sam_vit_l_0b3195.pth'
    monkeypatch.setitem(sys.modules, 'transformers', None)
    with pytest.raises(ConfigError, match=r'transformers, .*pip install "mmseg_sclip\[transformers\]"'):
        SamCompanion(pretrained=None).load()


@pytest.mark.parametrize('name, width, blocks', [('vit_b', 768, 12), ('vit_l', 1024, 24), ('vit_h', 1280, 32)])
def test_the_published_sizes(name, width, blocks):
    companion = SamCompanion(name)
    companion.load(weights=False)  # which looks for no file and takes no memory
    network = companion.network
    assert (len(network.layers), network.layers[0].attn.qkv.in_features) == (blocks, width)
    assert [i for i, block in enumerate(network.layers) if not block.window_size] == [
        blocks // 4 * (i + 1) - 1 for i in range(4)
    ]
    assert network.neck.conv1.out_channels == 256 and all(parameter.is_meta for parameter in network.parameters())


@torch.no_grad()
@pytest.mark.parametrize(
    'size, grid', [((100, 130), (6, 8)), ((300, 40), (8, 1)), ((64, 64), (8, 8)), ((9, 900), (1, 8))]
)
def test_relations_are_cut_from_attention_over_the_padding(size, grid):
    companion = small()
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    relations = companion.relations(image)
    number = grid[0] * grid[1]
    assert relations.grid == grid and relations.values.shape == (2, number, 32)
    block = companion.network.layers[-1]
    x = block.layer_norm1(companion._stream(companion._whole(image)[0], 2))
    values = block.attn.qkv(x)[0, : grid[0], : grid[1], 128:].reshape(number, 2, 32)
    torch.testing.assert_close(relations.values, values.transpose(0, 1))
    heads = list(relations.attention)
    assert len(heads) == 2
    for weights in heads:
        assert weights.shape == (number, number)
        assert (weights.sum(dim=1) <= 1.0001).all() and (weights.sum(dim=1).min() < 0.999) == (number < 64)


def test_what_cannot_say_how_cells_relate_says_so():
    with pytest.raises(ConfigError, match='SamCompanion attends in windows of 14 cells.*: 2'):
        small(global_attn_indexes=[1]).relations(torch.zeros(3, 20, 20, dtype=torch.uint8))
    wrong = (dict(hiden_size=64), "Did you mean 'hidden_size'"), (dict(hidden_size='x'), 'no network can be made')
    for changes, message in wrong:
        with pytest.raises(ConfigError, match=message):
            SamCompanion(pretrained=None, changes=changes).load()
    with pytest.raises(ConfigError, match='A part asks FilterBank how the cells of a whole image relate'):
        Companion.relations(FilterBank(), torch.zeros(3, 20, 20, dtype=torch.uint8))
