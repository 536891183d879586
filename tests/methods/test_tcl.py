"""TCL: each step against the official outputs, out of a file with the structure of the released one."""

import json
import sys
import types

import mmcv
import numpy as np
import pytest
import torch
from helpers import description, sample, write_clip
from torch.nn import functional as F

from mmseg_sclip.errors import BadFileError, ConfigError, MissingFileError
from mmseg_sclip.models.image.windows import WindowGrid, cut_window
from mmseg_sclip.models.methods.tcl import TclSource
from mmseg_sclip.models.methods.tcl.masker import GatedConv, identity_block

SEVEN = ['cat', 'dog', 'bird', 'tree', 'house', 'car', 'sky']
SIZES = {(224, 224): 2, (160, 224): 2, (336, 448): 3, (150, 210): 2}  # every so many places of masks are in the goldens
EACH = [pytest.param(size, marks=[pytest.mark.slow] if size == (336, 448) else []) for size in SIZES]
NO_PAMR = {'decode_head.pamr_steps': 0, 'decode_head.background': 0.5}
CLIP = ('clip_image_encoder.', 'clip_text_encoder.')


@pytest.fixture(scope='module')
def state(recipe_peers):
    """The content of the checkpoint, by its names."""
    return {name: torch.from_numpy(np.array(value)) for name, value in recipe_peers.tcl_state_dict(0).items()}


@pytest.fixture
def save(tmp_path):
    """`save(state)` is a checkpoint with it; more entries beside the state dict may be given."""

    def write(state, **more):
        torch.save(dict(model=state, step=3, scaler=dict(scale=65536.0), **more), tmp_path / 'tcl.pth')
        return str(tmp_path / 'tcl.pth')

    return write


@pytest.fixture(scope='module')
def source(tmp_path_factory, state):
    """Its CLIP has random weights, which are not to be used."""
    folder = tmp_path_factory.mktemp('tcl')
    torch.save(dict(model=state), folder / 'tcl.pth')
    return TclSource(clip=write_clip(folder, layers=12), pretrained=str(folder / 'tcl.pth'))


@pytest.fixture
def build(build_method, peers, source):
    """`build(options, background)`: the public model with the goldens' text."""

    def make(options=None, background=False, source=source):
        if not background:
            return build_method('tcl', options, text=peers['text'], clip=source)
        text = np.concatenate([peers['text'][:1] * 0, peers['text']])
        return build_method('tcl', options, ['background', *SEVEN], 0, text, source)

    return make


@pytest.fixture
def windows(recipe, source):
    """`windows(size)`: the normalised image (3, H, W) of that size, and its padded window."""

    def make(size):
        image = torch.from_numpy(recipe.image(sum(size), *size)[..., ::-1].copy()).permute(2, 0, 1).float()
        mean, std = (torch.tensor(values)[:, None, None] for values in (source.mean, source.std))
        image = (image - mean) / std
        return image, cut_window(image, WindowGrid.cut(*size, size, size, 16).places(0)[0])

    return make


def key(what, size):
    return f'tcl/{what}/{size[0]}x{size[1]}'


@pytest.mark.parametrize('size', EACH, ids=str)
@torch.no_grad()
def test_tokens(build, windows, peers, device, size):
    model = build().to(device)
    tower = model.backbone.tower
    record = model.backbone.record(windows(size)[1][None].to(device), range(13))
    x, masker = record[11], tower.masker
    trained = identity_block(masker.block, x)[:, 1:]
    decoded = masker.decode(trained.unflatten(1, record.grid).permute(0, 3, 1, 2))
    tokens = model.backbone.decoder(record)
    found = dict(block11=x, block12=identity_block(tower.block(12), x), masker_block=trained)
    for name, value in found.items():
        np.testing.assert_allclose(value[0].cpu()[::5], peers[key(name, size)], atol=2e-4)
    for name, value, atol in (('decoder', decoded, 2e-4), ('image_emb', tokens.map, 5e-5)):
        np.testing.assert_allclose(value[0].cpu()[:, ::7, ::7], peers[key(name, size)], atol=atol)
    simmap = model.decode_head.cosines(tokens)[0, :, :: SIZES[size], :: SIZES[size]]
    np.testing.assert_allclose(simmap.cpu(), peers[key('simmap', size)], atol=1e-5)


MASKS = dict(
    mask=({**NO_PAMR, 'decode_head.frozen_share': 0}, 1e-5),
    mask_pamr=({'decode_head.frozen_share': 0}, 2e-4),
    kp=({**NO_PAMR, 'decode_head.frozen_share': 1}, 1e-5),
    mix_nopamr=(NO_PAMR, 1e-5),
    mix_pamr=({}, 2e-4),
)


@pytest.mark.parametrize('size', EACH, ids=str)
@torch.no_grad()
def test_masks(build, windows, peers, device, size):
    tokens = build().to(device).encode(windows(size)[1][None].to(device))
    for name, (options, atol) in MASKS.items():
        masks = build(options).to(device).decode_head(tokens)[0, :, :: SIZES[size], :: SIZES[size]]
        np.testing.assert_allclose(masks.cpu(), peers[key(name, size)], atol=atol)


@pytest.mark.parametrize('size', EACH, ids=str)
@pytest.mark.parametrize('name, options, atol', [('pamr', {}, 2e-4), ('nopamr', NO_PAMR, 1e-5)])
def test_scores_and_labels_of_a_window(build, windows, predict, peers, size, name, options, atol):
    model = build(options | {'test_cfg.crop_size': (448, 448), 'test_cfg.stride': (224, 224)}, background=True)
    labels, scores = predict(model, windows(size)[0], size)
    np.testing.assert_allclose(scores[1:], peers[key(f'final_{name}', size)], atol=atol)
    assert np.unique(scores[0]) == np.float32(model.decode_head.background)
    assert (labels == peers[key(f'pred_{name}', size)]).mean() >= 0.9998


@pytest.mark.slow
@pytest.mark.parametrize('case', ['bg/375x500', 'bg/500x333', 'nobg/500x333'])
@torch.no_grad()
def test_images(build, recipe, peers, case):
    height, width = map(int, case.split('/')[1].split('x'))
    side = 448 if height == 375 else 224
    options = {'test_cfg.crop_size': (side, side), 'test_cfg.stride': (224 if side == 448 else 112,) * 2}
    model = build(options | {'test_cfg.keep_scores': True}, background=case.startswith('bg'))
    image = mmcv.imrescale(recipe.image(height, height, width), (2048, side))
    inputs = torch.from_numpy(image).permute(2, 0, 1)
    (result,) = model.test_step(dict(inputs=[inputs], data_samples=[sample((height, width))]))
    scores, labels = result.seg_logits.data[:, 7::16, 7::16], result.pred_sem_seg.data[0].numpy()
    np.testing.assert_allclose(scores, peers[f'tcl/e2e_{case}/score'], atol=3e-3)
    assert (labels == peers[f'tcl/e2e_{case}/pred']).mean() >= 0.9998


def test_text(build, peers):
    head = build().decode_head
    words = ['aeroplane', 'cat', 'diningtable', 'person', 'tvmonitor']
    bank = head.text_encoder.encode(words, head.templates, torch.device('cpu'))
    np.testing.assert_allclose(bank, peers['tcl/text'], atol=5e-6)


@pytest.mark.parametrize('height, width', [(5, 8), (1, 1)])
@torch.no_grad()
def test_doubling_before_or_inside_the_convolution(height, width):
    torch.manual_seed(0)
    conv = GatedConv(64, torch.device('cpu'))
    torch.nn.init.normal_(conv.gate)
    torch.nn.init.normal_(conv.norm.weight)
    x = torch.randn(2, 64, height, width)
    torch.testing.assert_close(conv.doubled(x), conv(F.interpolate(x, scale_factor=2, mode='nearest')))


@torch.no_grad()
def test_before_training_the_decoder_repeats_clips_last_block(deep_clip, wide):
    tower = TclSource(clip=deep_clip, pretrained=None).image_tower('size')
    record = tower.record(wide, {11})
    frozen = tower.project(identity_block(tower.block(12), record[11])[:, 1:])
    repeated = F.interpolate(frozen.transpose(1, 2).unflatten(2, record.grid), scale_factor=4, mode='nearest')
    found = tower.masker(record[11], record.grid)
    torch.testing.assert_close(found.transpose(1, 2).unflatten(2, repeated.shape[2:]), repeated)


@pytest.mark.slow
@torch.no_grad()
def test_lower_precision(source, deep_clip, build, windows):
    rough = TclSource(clip=dict(deep_clip, precision='bf16'), pretrained=source.chosen)
    tokens, exact = (build(source=each).encode(windows((160, 224))[1][None]) for each in (rough, source))
    assert tokens.patches.dtype == tokens.frozen.dtype == torch.bfloat16
    for ours, theirs in ((tokens.map, exact.map), (tokens.frozen, exact.frozen)):
        assert F.cosine_similarity(ours.float(), theirs).mean() > 0.98
    assert torch.equal(rough.network.slope, source.network.slope)


def settings_of_omegaconf(monkeypatch):
    """What OmegaConf 2.3 puts into a pickle, of classes with its names."""

    class Node:
        def __init__(self, *values, **more):
            self.__dict__.update(more, _content=values)

    monkeypatch.setitem(sys.modules, 'omegaconf', types.ModuleType('omegaconf'))
    modules = {'dictconfig': ['DictConfig'], 'base': ['Metadata', 'ContainerMetadata'], 'nodes': ['AnyNode']}
    made = {}
    for name, classes in modules.items():
        module = types.ModuleType(f'omegaconf.{name}')
        for kind in classes:
            made[kind] = type(kind, (Node,), dict(__module__=module.__name__))
            setattr(module, kind, made[kind])
        monkeypatch.setitem(sys.modules, module.__name__, module)
    kinds = dict(object_type=dict, key_type=int, ref_type=list)
    return made['DictConfig'](dict(lr=made['AnyNode'](5e-4)), _metadata=made['ContainerMetadata'](**kinds))


def test_a_file_without_clip_takes_clips_own_and_settings_in_it_are_passed_over(
    state, save, source, deep_clip, monkeypatch
):
    slim = {name: value for name, value in state.items() if not name.startswith((*CLIP, 'tcl'))}
    with monkeypatch.context() as patch:
        path = save(slim, config=settings_of_omegaconf(patch))
    lacking = TclSource(clip=deep_clip, pretrained=path)
    assert list(source.all_pretrained) == ['clip'] and list(lacking.all_pretrained) == ['clip', 'base']
    assert lacking.all_pretrained['base'].given == deep_clip['pretrained']
    found, expected = lacking.state(), source.state()
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    assert source.weights_identity().keys() < lacking.weights_identity().keys()
    words = [each.text_encoder().identity() for each in (source, lacking)]
    assert words[0]['base'] is None and words[1]['base'] is not None


def changed(state, **changes):
    return {name: value for name, value in {**state, **changes}.items() if value is not None}


WRONG = {
    'masker.sim2mask.w is missing': {'masker.sim2mask.w': None},
    'extra.weight is unknown': {'extra.weight': torch.ones(1)},
    'resblocks.11.ln_1.weight is 64 in the file and 128': {
        'masker.image_encoder.backbone.transformer.resblocks.11.ln_1.weight': torch.ones(64)
    },
    "'masker.sim2mask.b' holds NaN": {'masker.sim2mask.b': torch.tensor(float('nan'))},
}


@pytest.mark.parametrize('message', WRONG)
def test_wrong_entries(state, save, deep_clip, message):
    path = save(changed(state, **WRONG[message]))
    with pytest.raises(BadFileError, match=rf'tcl\.pth.*{message}'):
        TclSource(clip=deep_clip, pretrained=path).image_tower('size')


def test_damaged_wrong_and_missing_files(state, save, deep_clip, fresh_cache, tmp_path):
    def load(path):
        return TclSource(clip=deep_clip, pretrained=path).image_tower('size')

    path = save(state)
    with open(path, 'r+b') as file:
        file.truncate(100_000)
    with pytest.raises(BadFileError, match=r'tcl\.pth cannot be read as weights'):
        load(path)
    with pytest.raises(BadFileError, match=r'deep\.pt do not fit .*TCL'):
        load(deep_clip['pretrained'])
    with pytest.raises(BadFileError, match='holds no state dict of tensors, where TCL was expected'):
        load(save('nothing'))
    with pytest.raises(MissingFileError, match=r'weights of TCL are missing: copy tcl\.pth, published at https://'):
        load('released')
    plain = write_clip(tmp_path, layers=12)
    (tmp_path / 'clip.json').write_text(json.dumps({**description(layers=12), 'quick_gelu': False}))
    with pytest.raises(ConfigError, match='weights of TCL were trained with QuickGELU'):
        TclSource(clip=plain, pretrained=save(state)).image_tower('size')


def test_other_towers_and_decoders_are_refused(build_method, source):
    with pytest.raises(ConfigError, match='MaskDecoder reads a TclTower'):
        build_method('tcl')
    with pytest.raises(ConfigError, match='MaskHead reads MaskTokens'):
        build_method('tcl', {'backbone.decoder': dict(type='LastBlock', attention=dict(type='IdentityAttention'))})
