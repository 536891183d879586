"""GroupViT beside the official code, from files in the structure of the released ones."""

import numpy as np
import pytest
import torch
from conftest import tensors
from helpers import peer_demos, random_peer, sample
from methods import painting
from mmseg.registry import MODELS
from safetensors.torch import save_file
from torch.nn import functional as F

from mmseg_sclip.errors import BadFileError, ConfigError, MissingFileError
from mmseg_sclip.models.heads.group_painting import paint_values
from mmseg_sclip.models.methods.groupvit import GroupViTSource
from mmseg_sclip.models.steps import Stitch
from mmseg_sclip.models.tokens import GroupTokens
from mmseg_sclip.models.towers import build_source
from mmseg_sclip.visual.attention import check_layers

SIZES = dict(width=128, heads=2, depths=(2, 2, 1), group_tokens=(16, 5, 0), output_groups=(16, 5))
SIZES |= dict(text_width=64, text_heads=1, text_layers=2, out_dim=64)


@pytest.fixture(scope='module')
def state(recipe_peers):
    return tensors(recipe_peers.groupvit_state_dict(0))


@pytest.fixture(scope='module')
def file(state, tmp_path_factory):
    """A file as the official one: the state dict beside what a training keeps."""
    path = tmp_path_factory.mktemp('groupvit') / 'group_vit_gcc_yfcc_30e.pth'
    torch.save({'model': state, 'epoch': 29, 'optimizer': {'state': {}}}, path)
    return path


@pytest.fixture(scope='module')
def source(file):
    return GroupViTSource(str(file), **SIZES)


@pytest.fixture(scope='module')
def model(source, peers):
    return painting.build('groupvit', source, peers['text'])


def test_texts(source, peers):
    encoder, device = source.text_encoder(), torch.device('cpu')
    simple, itap = 'a photo of a {}.', 'itap of a {}.'
    for key, templates in ('text', [simple]), ('text_two_templates', [simple, itap]):
        found = encoder.encode(painting.FIVE, templates, device)
        np.testing.assert_allclose(found, peers[f'groupvit/{key}'], atol=5e-6)
    with pytest.raises(ConfigError, match='longer than the 77 tokens'):
        encoder.encode(['cat ' * 80], [simple], device)


@pytest.mark.parametrize('size', [(224, 224), (160, 224), (336, 448), (150, 210)], ids=str)
def test_windows(model, recipe, peers, size):
    tokens = painting.check_stages(model, recipe, peers, 'groupvit', size)
    painting.check_painting(model, peers, 'groupvit', size, (0.95, 0.35, 0.1), tokens)


@pytest.mark.parametrize(
    'key, short, crop, background',
    [
        pytest.param('e2e_bg/375x500', 448, 448, 0.1, marks=pytest.mark.slow),
        ('e2e_bg/500x333', 224, 224, 0.95),
        ('e2e_nobg/500x333', 224, 224, None),
    ],
)
def test_images(source, recipe, peers, key, short, crop, background):
    cfg = dict(crop_size=(crop, crop), stride=(crop // 2, crop // 2))
    model = painting.build('groupvit', source, peers['text'], background, **cfg)
    original = tuple(map(int, key.rpartition('/')[2].split('x')))
    painting.check_prediction(painting.predicted(model, recipe, original, short), peers, f'groupvit/{key}')


def test_scores_of_groups_are_those_of_whole_maps(source, peers, recipe):
    """Windows of groups give what the average of their dense scores gives, flipped images too."""
    model = painting.build('groupvit', source, peers['text'], 0.5, crop_size=(96, 112), stride=(64, 64))
    image, original = recipe.image(5, 150, 210), (90, 100)
    found = model.score([painting.pixels(model, image)], [sample(original)])[0]
    dense, counts = torch.zeros(8, 150, 210), torch.zeros(150, 210)
    for top in (0, 54):
        for left in (0, 64, 98):
            crop = painting.pixels(model, image)[None, :, top : top + 96, left : left + 112]
            dense[:, top : top + 96, left : left + 112] += model._forward(crop)[0]
            counts[top : top + 96, left : left + 112] += 1
    dense /= counts
    expected = F.interpolate(dense[None], original, mode='bilinear')[0]
    torch.testing.assert_close(found.phrases(), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.moved(found.placement.at_input()).phrases(), dense, atol=1e-4, rtol=0)
    flipped = sample(original, flip=True, flip_direction='horizontal')
    (mirrored,) = model.score([painting.pixels(model, image)], [flipped])
    torch.testing.assert_close(mirrored.phrases(), expected.flip(2), atol=1e-4, rtol=0)
    assert (found.peaks() >= dense.amax(dim=(1, 2)) - 1e-6).all()


def test_painting_by_hand():
    """Two groups and three classes, of which one may be painted; the background of a pixel has no text."""
    texts = torch.eye(4)[[0, 0, 1, 2]]  # the first class has two phrases
    groups, image = torch.tensor([[[1.0, 0, 0, 0], [0, 1.0, 0, 0]]]), torch.tensor([[0.6, 0.8, 0, 0]])
    found = paint_values(groups, image, texts, [2, 1, 1], scale=2.0, top_classes=1)
    e = np.exp(2)
    torch.testing.assert_close(found, torch.tensor([[[0, 1 / (e + 2), 0], [0, e / (e + 2), 0]]], dtype=torch.float32))
    head = MODELS.build(
        dict(type='GroupPaintingHead', clip=random_peer('GroupViTSource'), vocabulary=['none', ['a', 'b'], 'c', 'd'])
        | dict(background_index=0, bg_thresh=0.9, top_classes=1)
    )
    head.text_bank = torch.cat([torch.ones(1, 4) / 2, texts])
    tokens = GroupTokens.of(groups, image, torch.tensor([[[[1.0, 0]], [[0, 1.0]]]]))
    scores = head.group_scores(tokens)  # the threshold is the largest score, so its group is no background
    assert scores[0, :, 0].tolist() == [1, 0]
    assert torch.equal(scores[..., 1], scores[..., 2]) and (scores[0, :, 3] > 0).all() and not scores[0, :, 4].any()


def hub_names(state):
    source = GroupViTSource(None, **SIZES)
    return {name: value.contiguous() for name, value in source.rename(state).items()}


def test_files_of_transformers_say_the_same(state, model, recipe, peers, tmp_path):
    """As a folder, and as a pickle whose position numbers old versions saved."""
    hub = hub_names(state)
    save_file(hub, tmp_path / 'model.safetensors')
    torch.save(hub | {'text_model.embeddings.position_ids': torch.arange(77)[None]}, tmp_path / 'old.bin')
    image = painting.window(model, recipe, (96, 112))
    expected = model.encode(image).groups
    for place in (tmp_path, tmp_path / 'old.bin'):
        again = painting.build('groupvit', dict(type='GroupViTSource', pretrained=str(place), **SIZES), peers['text'])
        assert torch.equal(again.encode(image).groups, expected)


def test_where_the_released_file_lies(fresh_cache, file, monkeypatch):
    source = GroupViTSource(**SIZES)
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    with pytest.raises(MissingFileError, match='GroupViT.*group_vit_gcc_yfcc_30e-879422e0.pth'):
        source.image_tower('size')
    place = fresh_cache / 'weights' / 'group_vit_gcc_yfcc_30e-879422e0.pth'
    place.parent.mkdir(parents=True)
    place.symlink_to(file)
    assert source.image_tower('size').width == 128 and source.weights == place


def without(name):
    return lambda state: {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    'change, message',
    [
        (without('logit_scale'), 'logit_scale is missing in the file'),
        (without('img_encoder.norm.weight'), 'vision_model.layernorm.weight is missing'),
        (without('text_encoder.ln_final.bias'), 'text_model.final_layer_norm.bias is missing'),
        (lambda state: state | {'img_encoder.norm.extra': torch.ones(3)}, 'layernorm.extra is unknown'),
        (lambda state: state | {'img_encoder.pos_embed': torch.ones(1, 49, 128)}, 'position_embeddings is 1x49x128'),
        (lambda state: state | {'img_encoder.norm.bias': torch.full((128,), torch.nan)}, 'holds NaN or infinity'),
        (lambda state: {'visual.conv1.weight': torch.ones(3)}, 'is missing in the file'),
        (lambda state: {}, 'holds no state dict of tensors'),
        (None, 'damaged or was not downloaded completely'),
    ],
)
def test_wrong_files(state, file, tmp_path, change, message):
    path = tmp_path / 'wrong.pth'
    if change is None:
        path.write_bytes(file.read_bytes()[:100_000])
    else:
        torch.save({'model': change(state)}, path)
    for build in (lambda source: source.image_tower('size'), lambda source: source.network('text')):
        with pytest.raises(BadFileError, match=message) as caught:
            build(GroupViTSource(str(path), **SIZES))
        assert str(path) in str(caught.value)


def test_identities(file, source, tmp_path, fresh_cache):
    other = tmp_path / 'other.pth'
    torch.save({'model': {}}, other)
    each = [GroupViTSource(str(path), **SIZES) for path in (file, other)]
    assert len({str(source.weights_identity()) for source in each}) == 2
    assert len({str(source.text_encoder().identity()) for source in each}) == 2
    assert random_peer('GroupViTSource').text_encoder().identity() is None


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(positions='scale'), "Set backbone.positions='size'"),
        (dict(decoder=dict(type='LastBlock', attention=dict(type='CorrelativeSelfAttention'))), 'rebuilds blocks, but'),
    ],
)
def test_blocks_are_refused(settings, message):
    model = peer_demos()['GroupViTSource'].model.to_dict()
    with pytest.raises(ConfigError, match=message):
        MODELS.build({**model, 'clip': random_peer('GroupViTSource'), 'backbone': {**model['backbone'], **settings}})


@MODELS.register_module()
class IdleStitch(Stitch):
    """Changes nothing."""

    def forward(self, tokens):
        return tokens


def test_a_stitch_that_the_head_would_not_see_is_refused():
    model = peer_demos()['GroupViTSource'].model.to_dict()
    with pytest.raises(ConfigError, match='IdleStitch changes the tokens of patches, but GroupPaintingHead reads more'):
        MODELS.build({**model, 'clip': random_peer('GroupViTSource'), 'stitch': dict(type='IdleStitch')})


def test_every_way_to_a_block_is_refused():
    tower = random_peer('GroupViTSource').image_tower('size')
    calls = ('run_block', 'norm', 'project_qkv', 'query_weights', 'merge_heads', 'feed_forward_branch', 'project')
    for name in calls:
        with pytest.raises(ConfigError, match='runs as a whole, without blocks'):
            getattr(tower, name)(*([1, None] if name not in ('query_weights', 'project') else [1]))
    with pytest.raises(ConfigError, match='GroupViTTower runs as a whole, so it has no blocks whose attention'):
        check_layers(tower, [-1])
    for needs in (-1, 11):
        with pytest.raises(ConfigError, match=f'Block {needs} is asked for'):
            tower.block_number(needs)


@pytest.mark.parametrize(
    'wrong, message',
    [
        (dict(depths=(1, 1)), 'Each stage has one of the first two'),
        (dict(group_tokens=(16, 8, 4)), 'Each stage has one'),
        (dict(output_groups=(12, 8)), 'both numbers must be equal'),
        (dict(width=65), 'no multiple of its 2 heads'),
    ],
)
def test_sizes_that_do_not_fit(wrong, message):
    clip = {**peer_demos()['GroupViTSource'].model.clip, **wrong}
    with pytest.raises(ConfigError, match=message):
        build_source(clip, 'A test').image_tower('size')
