"""Vision Transformers of timm as companions: files of each released structure, damaged ones, grids, and no weights."""

import builtins

import pytest
import torch
from conftest import tensors
from mmengine.config import Config
from safetensors.torch import save_file
from timm import create_model

from mmseg_sclip.engine.fingerprint import weights_identity
from mmseg_sclip.errors import BadFileError, ConfigError, MissingFileError
from mmseg_sclip.models.companions import TimmCompanion
from mmseg_sclip.models.companions.base import load_frozen
from mmseg_sclip.models.pretrained import weights_root

TINY = dict(embed_dim=128, depth=3, num_heads=2)
DINO, REGISTERS, MAE, ROTARY = (
    'vit_base_patch16_224.dino',
    'vit_base_patch14_reg4_dinov2.lvd142m',
    'vit_base_patch16_224.mae',
    'vit_base_patch16_dinov3.lvd1689m',
)


@pytest.fixture
def states(recipe_extra):
    """The state dict of each network in its original naming."""
    dino = tensors(recipe_extra.dino_state_dict(0, 16))
    return {DINO: dino, MAE: dino, REGISTERS: tensors(recipe_extra.dinov2_state_dict(0))}


def companion(model, file=None, **more):
    return load_frozen(TimmCompanion(model, None if file is None else str(file), model_args=TINY, **more))


def prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


STRUCTURES = {
    'DINO': (DINO, lambda state: state),
    "DINO's training": (
        DINO,
        lambda state: dict(
            student={},
            teacher={**prefixed(state, 'module.backbone.'), 'module.head.mlp.0.bias': torch.ones(3)},
            epoch=1,
        ),
    ),
    'MAE with its decoder': (
        MAE,
        lambda state: dict(model={**state, 'mask_token': torch.ones(1, 1, 64), 'decoder_embed.bias': torch.ones(64)}),
    ),
    'a classifier': (DINO, lambda state: {**state, 'head.weight': torch.ones(10, 128), 'head.bias': torch.ones(10)}),
}


@pytest.mark.parametrize('structure', STRUCTURES)
@torch.no_grad()
def test_released_structures(tmp_path, states, structure):
    model, wrap = STRUCTURES[structure]
    torch.save(wrap(states[model]), tmp_path / 'a.pth')
    loaded = companion(model, tmp_path / 'a.pth')
    reference = create_model(model, num_classes=0, **TINY).eval()
    reference.load_state_dict(states[model])
    images = torch.randn(2, 3, 224, 224)
    tokens = reference.forward_features(images)[:, 1:]
    features = loaded.features(images)
    torch.testing.assert_close(features.map.flatten(2), tokens.transpose(1, 2), atol=1e-5, rtol=0)
    assert features.queries.shape == features.keys.shape == features.values.shape == (2, 128, 14, 14)


@torch.no_grad()
def test_layers_and_projections_are_those_of_timms_own_run(tmp_path, states):
    """DINOv2's registers and LayerScale, in the original naming and in timm's, and DINOv3's rotary positions."""
    torch.save(states[REGISTERS], tmp_path / 'a.pth')
    networks = [companion(REGISTERS, tmp_path / 'a.pth', layer=-2), companion(ROTARY, layer=-3)]
    save_file(networks[0].network.state_dict(), tmp_path / 'a.safetensors')
    networks.append(companion(REGISTERS, tmp_path / 'a.safetensors', layer=-1))
    for network, index in zip(networks, (1, 0, 2), strict=True):
        own = network.network
        inputs = []
        hook = own.blocks[2].attn.register_forward_pre_hook(lambda _, args, seen=inputs: seen.append(args[0]))
        images = torch.randn(1, 3, *own.patch_embed.img_size)
        (expected,) = own.forward_intermediates(images, [index], norm=index == 2, intermediates_only=True)
        hook.remove()
        features = network.features(images)
        torch.testing.assert_close(features.map, expected, atol=2e-5, rtol=0)
        qkv = own.blocks[2].attn.qkv(inputs[0])[:, own.num_prefix_tokens :]
        ours = torch.cat([features.queries, features.keys, features.values], dim=1).flatten(2).transpose(1, 2)
        torch.testing.assert_close(ours, qkv, atol=2e-5, rtol=0)
    wide = networks[1].features(torch.randn(1, 3, 70, 40))  # which is cut to 4 x 2 patches
    assert wide.grid == (4, 2)


@torch.no_grad()
def test_only_the_native_grid_of_dino_takes_the_table_as_it_is():
    """A grid of as many patches does not, other than CLIP's in SCLIP."""
    network = companion(DINO)
    images = torch.randn(1, 3, 7 * 16, 28 * 16)
    ours = network.features(images).map
    network.network.pos_embed.zero_()
    assert (ours - network.features(images).map).abs().max() > 1e-3
    by_size = companion(DINO, positions='size').features(images).map
    assert (ours - by_size).abs().max() > 1e-4
    with pytest.raises(BadFileError, match='A window of 15 x 64 pixels holds no patch of vit_base_patch16_224.dino'):
        network.features(torch.zeros(1, 3, 15, 64))


def test_files_that_do_not_fit(tmp_path, states):
    state = states[DINO]
    other = {name: value for name, value in state.items() if name != 'norm.bias'}
    table = {**state, 'pos_embed': torch.zeros(1, 50, 128)}
    contents = {
        'cls_token is missing in the file; .* and 40 more': {'a': torch.ones(1)},
        'norm.bias is missing in the file': other,
        'pos_embed is 1x50x128 in the file and 1x197x128 in the model': table,
        'holds no state dict of tensors': [1, 2],
        "entry 'norm.bias' holds NaN": {**state, 'norm.bias': torch.full((128,), torch.nan)},
        'ls1.gamma is unknown to the model': {**state, 'blocks.0.ls1.gamma': torch.ones(128)},
    }
    for number, (message, content) in enumerate(contents.items()):
        torch.save(content, tmp_path / f'{number}.pth')
        with pytest.raises(BadFileError, match=message) as error:
            companion(DINO, tmp_path / f'{number}.pth')
        assert f'{number}.pth' in str(error.value)
    torch.save(state, tmp_path / 'cut.pth')
    (tmp_path / 'cut.pth').write_bytes((tmp_path / 'cut.pth').read_bytes()[:10000])
    with pytest.raises(BadFileError, match='cut.pth cannot be read as weights'):
        companion(DINO, tmp_path / 'cut.pth')
    with pytest.raises(MissingFileError, match='DINO .* are missing: .*pretrained names .*gone.pth'):
        companion(DINO, tmp_path / 'gone.pth')


def test_names(monkeypatch, fresh_cache, states):
    pretrained = TimmCompanion(DINO).pretrained
    assert (pretrained.licence, pretrained.size, pretrained.find()) == ('Apache-2.0', 343, None)
    with pytest.raises(MissingFileError, match='copy dino_vitbase16_pretrain.pth, published'):
        load_frozen(TimmCompanion(DINO))
    weights_root().mkdir(parents=True)
    torch.save(states[DINO], weights_root() / 'dino_vitbase16_pretrain.pth')
    load_frozen(TimmCompanion(DINO, model_args=TINY))
    config = Config(dict(model=dict(companions=dict(a=dict(type='TimmCompanion', model=DINO)))))
    identity = weights_identity(config)['companions']['a']
    assert identity['name'] == f'DINO ({DINO})' and len(identity['sha256']) == 64
    assert TimmCompanion(DINO, None).pretrained is None
    for arguments, message in {
        ('vit_base_patch16_224',): 'needs the tag of the weights behind it',
        ('vit_base_patch16_224.dyno', None): "timm cannot make the companion 'vit_base_patch16_224.dyno'.*mean 'vit_",
        ('resnet18.a1_in1k', None): 'is a ResNet of timm, but a plain Vision Transformer is needed',
    }.items():
        with pytest.raises(ConfigError, match=message):
            load_frozen(TimmCompanion(*arguments))
    with pytest.raises(ConfigError, match=r'divisible by num_heads\)\.$'):  # and no hint at the name that was given
        load_frozen(TimmCompanion(DINO, None, model_args=dict(num_heads=5)))
    for layer in (-4, 0):
        with pytest.raises(ConfigError, match=f'layer is {layer}; blocks of .* count from -1, the last, to -3'):
            companion(DINO, layer=layer)
    original = builtins.__import__

    def without_timm(name, *args, **more):
        if name == 'timm':
            raise ImportError(name)
        return original(name, *args, **more)

    monkeypatch.setattr(builtins, '__import__', without_timm)
    with pytest.raises(ConfigError, match='needs the package timm, which comes with open_clip'):
        companion(DINO)
