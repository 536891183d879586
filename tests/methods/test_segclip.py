"""SegCLIP: each step against the official outputs, out of a file with the structure of the released one."""

import mmcv
import numpy as np
import pytest
import torch
from helpers import sample, write_clip
from torch.nn import functional as F

from mmseg_sclip.errors import BadFileError, ConfigError, MissingFileError
from mmseg_sclip.models.methods.segclip import SegclipSource

SEVEN = ['cat', 'dog', 'bird', 'tree', 'house', 'car', 'sky']
SIZES = [(224, 224), (112, 448), pytest.param((448, 448), marks=pytest.mark.slow)]
BLOCKS = 'clip.visual.transformer.'


@pytest.fixture(scope='module')
def state(recipe_peers):
    """The content of the checkpoint, by its names."""
    return {name: torch.from_numpy(np.array(value)) for name, value in recipe_peers.segclip_state_dict(0).items()}


@pytest.fixture
def save(tmp_path):
    """`save(state)` is a checkpoint with it, and with entries of the autoencoder."""

    def write(state):
        torch.save({**state, 'vis_mae_decoder.mask_token': torch.ones(1, 1, 8)}, tmp_path / 'segclip.bin')
        return str(tmp_path / 'segclip.bin')

    return write


@pytest.fixture(scope='module')
def source(tmp_path_factory, state):
    """Its CLIP has random weights, which are not to be used."""
    folder = tmp_path_factory.mktemp('segclip')
    torch.save(state, folder / 'segclip.bin')
    return SegclipSource(clip=write_clip(folder, layers=12), pretrained=str(folder / 'segclip.bin'))


@pytest.fixture
def build(build_method, peers, source):
    """`build(0.8)`: the public model with the goldens' text, and with a background where there is a threshold."""

    def make(threshold=None, **test_cfg):
        options = {f'test_cfg.{name}': value for name, value in test_cfg.items()}
        if threshold is None:
            return build_method('segclip', options, text=peers['text'], clip=source)
        text = np.concatenate([peers['text'][:1] * 0, peers['text']])
        options['decode_head.bg_thresh'] = threshold
        return build_method('segclip', options, ['background', *SEVEN], 0, text, source)

    return make


@pytest.fixture
def window(recipe, source):
    """`window(size)`: the normalised image (3, H, W) of that size."""

    def make(size):
        image = torch.from_numpy(recipe.image(sum(size), *size)[..., ::-1].copy()).permute(2, 0, 1).float()
        mean, std = (torch.tensor(values)[:, None, None] for values in (source.mean, source.std))
        return (image - mean) / std

    return make


@pytest.mark.parametrize('size', SIZES, ids=str)
@torch.no_grad()
def test_groups(build, window, peers, device, size):
    model = build().to(device)
    tower, image = model.backbone.tower, window(size)[None].to(device)

    def equals(name, value, atol):
        np.testing.assert_allclose(value.cpu(), peers[f'segclip/{name}/{size[0]}x{size[1]}'], atol=atol)

    seen = {}
    learner = tower.learner
    parts = dict(cross0=learner.cross_att[0], query=learner.cross_ln, semantic=learner.activation)
    hooks = [
        part.register_forward_hook(lambda *call, name=name: seen.update({name: call})) for name, part in parts.items()
    ]
    record = model.backbone.record(image)
    tokens = tower(record)
    for hook in hooks:
        hook.remove()
    equals('block10', seen['cross0'][1][1][0, ::5], 2e-4)
    for name in parts:
        equals(name, seen[name][2][0], 5e-5)
    equals('soft', tokens.maps[0].flatten(1)[:, ::5], 2e-5)
    equals('assign', tokens.maps[0].flatten(1).max(dim=0)[1], 0)
    equals('image_feat', tokens.groups[0], 5e-5)
    equals('image_x', tokens.image[0], 5e-5)
    tokens = model.encode(image)
    equals('group_map', F.interpolate(tokens.maps, size, mode='bilinear')[0, :, 7::16, 7::16], 2e-5)
    equals(
        'affinity',
        model.decode_head.text_encoder.logit_scale
        * model.decode_head.cosines(tokens.groups[0][..., None, None])[..., 0, 0],
        1e-4,
    )
    scores = model.decode_head.group_scores(tokens)[0]
    equals('score', scores, 2e-5)
    equals('top5', (scores > 0).any(dim=0), 0)
    owners = tokens.owners(size)[0].cpu().numpy()
    assert (owners == peers[f'segclip/group_argmax/{size[0]}x{size[1]}']).mean() >= 0.9998


@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('threshold', [None, 0.8, 0.25])
def test_labels_of_a_window(build, window, predict, peers, size, threshold):
    model = build(threshold, crop_size=(448, 448), stride=(448, 448))
    labels, _ = predict(model, window(size), size)
    name = 'pred_nobg' if threshold is None else f'pred_bg{threshold}'
    assert (labels == peers[f'segclip/{name}/{size[0]}x{size[1]}']).mean() >= 0.9998


@pytest.mark.parametrize('case', ['bg/375x500', 'nobg/500x333'])
@torch.no_grad()
def test_images(build, recipe, peers, case):
    height, width = map(int, case.split('/')[1].split('x'))
    model = build(0.25 if case.startswith('bg') else None, crop_size=(224, 224), stride=(224, 224), keep_scores=True)
    inputs = torch.from_numpy(mmcv.imrescale(recipe.image(height, height, width), (2048, 224))).permute(2, 0, 1)
    (result,) = model.test_step(dict(inputs=[inputs], data_samples=[sample((height, width))]))
    scores, labels = result.seg_logits.data[:, 7::16, 7::16].numpy(), result.pred_sem_seg.data[0].numpy()
    assert (np.abs(scores - peers[f'segclip/e2e_{case}/score']) < 2e-4).mean() >= 0.999
    assert (labels == peers[f'segclip/e2e_{case}/pred']).mean() >= 0.9998


def test_text(build, peers):
    head = build().decode_head
    words = ['aeroplane', 'cat', 'diningtable', 'person', 'tvmonitor']
    bank = head.text_encoder.encode(words, head.templates, torch.device('cpu'))
    np.testing.assert_allclose(bank, peers['segclip/text'], atol=5e-6)


def test_what_the_file_lacks_of_clip_is_clips_own(state, save, source, deep_clip):
    """Of the blocks of the image tower nothing may be missing."""
    slim = {name: value for name, value in state.items() if name.startswith(BLOCKS)}
    lacking = SegclipSource(clip=deep_clip, pretrained=save(slim))
    assert list(lacking.all_pretrained) == ['clip', 'base']
    found, expected = lacking.state(), source.state()
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    assert (source.logit_scale(), lacking.logit_scale()) == (pytest.approx(np.exp(3)), 100)
    del slim[f'{BLOCKS}layers2.1.ln_1.bias']
    with pytest.raises(BadFileError, match=r'segclip\.bin.*layers2\.1\.ln_1\.bias is missing'):
        SegclipSource(clip=deep_clip, pretrained=save(slim)).image_tower('size')


def test_wrong_damaged_and_missing_files(state, save, deep_clip, fresh_cache):
    def load(path):
        return SegclipSource(clip=deep_clip, pretrained=path).image_tower('size')

    centres = f'{BLOCKS}semantic_layer2.semantic_center'
    for changes, message in {(centres, 4): 'semantic_center is 4x128 in the file', ('x', 1): 'x is unknown'}.items():
        with pytest.raises(BadFileError, match=rf'segclip\.bin do not fit .*{message}'):
            load(save({**state, changes[0]: torch.ones(changes[1], 128)}))
    with open(path := save(state), 'r+b') as file:
        file.truncate(100_000)
    with pytest.raises(BadFileError, match=r'segclip\.bin cannot be read as weights'):
        load(path)
    with pytest.raises(BadFileError, match=r'deep\.pt do not fit .*SegCLIP'):
        load(deep_clip['pretrained'])
    with pytest.raises(MissingFileError, match=r'SegCLIP are missing: copy segclip\.bin, published at https://'):
        load('released')


def test_untrained_groups_are_the_same_in_every_process(deep_clip):
    states = []
    for _ in range(2):
        torch.rand(3)  # processes are not at the same random number
        states.append(SegclipSource(clip=deep_clip, pretrained=None).image_tower('size').state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_clip_whose_channels_cannot_be_grouped(tmp_path):
    source = SegclipSource(clip=write_clip(tmp_path, width=96, head_width=32), pretrained=None)
    with pytest.raises(ConfigError, match='projects 64 channels at a time, but .* has 96'):
        source.image_tower('size')
