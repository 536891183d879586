"""ProxyCLIP: tokens, maps and labels against the official outputs, with each of its second networks."""

import mmcv
import numpy as np
import pytest
import torch
from conftest import tensors
from helpers import sample
from mmengine.config import Config
from torch.nn import functional as F

from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models.attention.proxy import ProxyAttention
from mmseg_sclip.models.companions import FilterBank
from mmseg_sclip.models.image.scores import whole
from mmseg_sclip.models.image.windows import Place
from mmseg_sclip.models.segmentors import score_together
from mmseg_sclip.models.segmentors.together import MethodBundle
from mmseg_sclip.visual.attention import attention_maps
from mmseg_sclip.visual.bound_attention import bind_attention

TINY = dict(embed_dim=128, depth=3, num_heads=2)
SAM = dict(hidden_size=64, num_hidden_layers=3, num_attention_heads=2, global_attn_indexes=[2], output_channels=32)
NETWORKS = dict(
    dino8='vit_base_patch8_224.dino',
    dino16='vit_base_patch16_224.dino',
    dinov2='vit_base_patch14_reg4_dinov2.lvd142m',
    mae16='vit_base_patch16_224.mae',
)
CASES = [
    *(f'{name}/{size}' for name in ('dino8', 'dino16', 'dinov2') for size in ('224x224', '336x336')),
    *(
        'mae16/336x336',
        'dino8/160x224',
        'dino8/batch2/0',
        'dino8/batch2/1',
        'dino8/beta1_gamma8/224x224',
    ),
    pytest.param('sam/224x224', marks=pytest.mark.slow),
]


@pytest.fixture(scope='session')
def files(tmp_path_factory, recipe_extra):
    """A file of each second network, in its original naming."""
    folder = tmp_path_factory.mktemp('companions')
    states = dict(dino8=recipe_extra.dino_state_dict(0, 8), dinov2=recipe_extra.dinov2_state_dict(0))
    states['sam'] = recipe_extra.sam_encoder_state_dict(0)
    states['dino16'] = states['mae16'] = recipe_extra.dino_state_dict(0, 16)
    for name, state in states.items():
        content = tensors(state)
        torch.save(dict(model=content) if name == 'mae16' else content, folder / f'{name}.pth')
    return folder


@pytest.fixture
def proxyclip(build_method, files):
    """`proxyclip('dino8', {'test_cfg.prob_thd': 0.1})` is the public model with a tiny second network."""

    def build(name, options=None, **more):
        file = str(files / f'{name}.pth')
        own = {'companions.dino': dict(type='SamCompanion', pretrained=file, changes=SAM, _delete_=True)}
        if name != 'sam':
            dino = dict(model=NETWORKS[name], pretrained=file, model_args=TINY)
            own = {f'companions.dino.{key}': value for key, value in dino.items()}
        return build_method('proxyclip', {**own, **(options or {})}, **more)

    return build


def check(ours, theirs, atol, most=0.0):
    """Equal within `atol`, but for one in a hundred, which may be `most` off."""
    error = np.abs(np.asarray(ours) - theirs)
    assert (error <= atol).mean() >= (0.99 if most else 1) and error.max() <= max(most, atol)


@pytest.mark.parametrize('case', CASES)
@torch.no_grad()
def test_official_outputs(proxyclip, extra, pixels, case):
    name = case.split('/')[0]
    height, width = next((size for size in ((160, 224), (336, 336)) if f'/{size[0]}x' in case), (224, 224))
    attention = {'beta': 1.0, 'gamma': 8.0} if 'beta1' in case else {}
    attention |= {'mean_over': 'image'} if 'batch2' in case else {}
    model = proxyclip(name, {f'backbone.decoder.attention.{key}': value for key, value in attention.items()})
    images, number = pixels(height, width)[None], 0
    if 'batch2' in case:  # official means are shared in a batch, here by the windows of an image
        images, number = torch.stack([images[0], pixels(height, width, 1)]), int(case[-1])
    places = [Place(0, (0, height), (0, width))] * len(images)
    record = model.backbone.record(images, model.needs, places).read_by(model.companions)
    tokens, _ = model.backbone.decoder.run(record, None)
    attention, golden = model.backbone.decoder.attention, lambda key: extra[f'proxyclip/{case}/{key}']
    rows, safe = golden('rows'), golden('margin') >= 1e-5
    check(tokens.patches[number, rows[safe]], golden('tokens')[safe], 5e-5)
    check(tokens.patches[number, rows[~safe]], golden('tokens')[~safe], 2e-3) if (~safe).any() else None
    if 'beta1' in case:
        return
    features = attention.unit_features(record)
    check(attention.means(record, features)[number].item(), golden('mean'), 5e-6)
    chosen = golden('attn_rows')
    check((features @ features.mT)[number, chosen], golden('cos'), 5e-6)
    weights = attention.weights(model.backbone.decoder.block_input(12, record))
    check(weights[number, 0, chosen], golden('attn'), 1e-5)
    cosines = F.interpolate(model.decode_head(tokens), (height, width), mode='bilinear')
    check(cosines[number, :, 7::16, 7::16], golden('logits'), 1e-5, 2e-4)
    if 'batch2' not in case:
        seen = record.companion('dino').map.flatten(2)[0].T
        check(seen[rows], golden('vfm'), 5e-5)


VOC = {'test_cfg.crop_size': (336, 336), 'test_cfg.stride': (112, 112)}
WHOLE = {  # settings, vocabulary, size of the original, short side in the network
    'voc21like/375x500': ({**VOC, 'test_cfg.prob_thd': 0.2}, 'bg', 336),
    'highthd/375x500': ({**VOC, 'test_cfg.prob_thd': 0.4}, 'bg', 336),
    'citylike/375x500': ({**VOC, 'test_cfg.crop_size': (224, 224)}, 'nobg', 336),
    'nobg/420x333': (VOC, 'nobg', 336),
    'pad/251x251': (VOC, 'nobg', None),
}
BACKGROUND = [
    ['sky', 'wall', 'tree', 'wood', 'grass', 'road'],
    'aeroplane',
    ['person', 'person in shirt', 'person in jeans'],
    *('cat', 'dog', 'train'),
]
CLASSES = ['wall', 'building', 'sky', 'floor', 'tree', 'ceiling', 'road', 'bed', 'windowpane', 'grass']


@pytest.mark.parametrize('case', WHOLE)
def test_official_labels(proxyclip, extra, recipe, case):
    settings, words, side = WHOLE[case]
    height, width = map(int, case.split('/')[1].split('x'))
    image = recipe.image(height, height, width)
    image = image if side is None else mmcv.imrescale(image, (2048, side))
    words = dict(vocabulary=CLASSES, text=extra['text/nobg'])
    if WHOLE[case][1] == 'bg':
        words = dict(vocabulary=BACKGROUND, text=extra['text/bg'], background_index=0)
    model = proxyclip('dino8', {**settings, 'test_cfg.keep_scores': True}, **words)
    inputs = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    with torch.no_grad():
        (result,) = model.test_step(dict(inputs=[inputs], data_samples=[sample((height, width))]))
    labels = result.pred_sem_seg.data[0].numpy()
    assert (labels == extra[f'proxyclip/e2e/{case}/pred']).mean() >= 0.999
    check(result.seg_logits.data[:, 7::16, 7::16], extra[f'proxyclip/e2e/{case}/prob'], 5e-5, 2e-3)


@pytest.fixture
def coloured(build_method):
    """`coloured(options)` is the public model with a filter bank as its second network."""
    bank = {'type': 'FilterBank', 'patch_size': 8, '_delete_': True}
    return lambda options=None, **more: build_method('proxyclip', {'companions.dino': bank, **(options or {})}, **more)


@torch.no_grad()
def test_a_flat_image_is_not_nan(proxyclip, wide):
    """Its cells are alike, so that all cosines are below 1.2 of their mean: each attends to itself."""
    model = proxyclip('dino8')
    model.companions['dino'].network.pos_embed.zero_()
    flat = torch.zeros(1, 3, 112, 168)
    tokens = model.encode(torch.cat([flat, torch.nn.functional.interpolate(wide[:1], (112, 168))]))
    assert tokens.grid == (14, 21) and tokens.patches.isfinite().all()
    b = model.backbone.decoder.block_input(12, tokens.record)
    weights = model.backbone.decoder.attention.weights(b)
    assert torch.equal(weights[0, 0], torch.eye(14 * 21)) and (weights[1, 0].diagonal() < 1).all()


def test_pairs_at_the_bound_stay():
    """Three cells, beta mean = 1/2: the cosine 1/2 stays, 0 is left out."""
    features = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.5, 0.75**0.5]]])
    attention = ProxyAttention(gamma=2.0, beta=1.0)
    logits = attention.logits(features, torch.tensor([[[0.5]]]))
    expected = 2 * torch.tensor([[0.5, -0.5, 0.0], [-0.5, 0.5, 0.75**0.5 - 0.5], [0.0, 0.75**0.5 - 0.5, 0.5]])
    torch.testing.assert_close(logits[0], expected)
    mean = attention.means(None, features)
    assert mean.item() == pytest.approx((features @ features.mT).mean().item())


@torch.no_grad()
def test_the_mean_of_an_image_does_not_depend_on_batches(coloured, pixels):
    images, samples = [pixels(96, 160), pixels(100, 130)], [sample((50, 60))] * 2
    image_mean = {'backbone.decoder.attention.mean_over': 'image', 'test_cfg.window_multiple': 1}
    small = {'test_cfg.crop_size': (64, 80), 'test_cfg.stride': (32, 32), 'test_cfg.keep_scores': True}
    found = {}
    for batch in (2, 5, 64):
        model = coloured({**image_mean, **small, 'test_cfg.window_batch': batch})
        found[batch] = [result.seg_logits.data for result in model.predict(images, samples)]
    for other in (5, 64):
        torch.testing.assert_close(found[other], found[2], atol=1e-5, rtol=1e-4)
    windows = coloured(small | {'test_cfg.window_multiple': 1}).predict(images, samples)
    assert (windows[0].seg_logits.data - found[2][0]).abs().max() > 1e-4
    with pytest.raises(ConfigError, match='a mean over the image'):
        model.encode_decode(images[0][None], [{}])


@torch.no_grad()
def test_several_networks_in_one_pass_run_once(wide, deep_clip, family, monkeypatch):
    """Three methods with two second networks each, of which they read one."""
    ran = []
    original = FilterBank.features
    monkeypatch.setattr(FilterBank, 'features', lambda self, x: ran.append(self.patch_size) or original(self, x))
    configs = []
    for size in (8, 12):
        config = Config.fromfile('configs/_base_/models/proxyclip.py').model
        config.companions = dict(
            dino=dict(type='FilterBank', patch_size=16), other=dict(type='FilterBank', patch_size=size)
        )
        config.backbone.decoder.attention.companion = 'other' if size == 12 else 'dino'
        config.decode_head.update(vocabulary=['cat', 'dog'])
        configs.append({**config, 'clip': deep_clip})
    bundle = MethodBundle(dict(a=configs[0], b=configs[1], c=configs[0]))
    for model in bundle.methods:
        model.decode_head.text_bank = F.normalize(torch.from_numpy(family['text'])[:2], dim=1)
    together = score_together(bundle.methods, list(wide), [sample((40, 50))] * 2)
    assert sorted(ran) == [12, 16]  # of a, b and c: nobody reads the one of 8
    alone = score_together([bundle.methods[1]], list(wide), [sample((40, 50))] * 2)
    assert torch.equal(whole(alone[0][0]), whole(together[1][0]))


@torch.no_grad()
def test_pictures_beside_other_attentions(proxyclip, pixels):
    """Each on its own grid, in a padded window; the weights are those of the evaluation's window."""
    small = {'test_cfg.crop_size': (96, 100), 'test_cfg.stride': (32, 32)}
    model, image = proxyclip('dino8', small), pixels(120, 140)  # windows are padded to 112 x 112 pixels
    names = ['config', 'CLIP', 'ProxyAttention(beta=1.0)', "ProxyAttention(mean_over='image')"]
    bound = [bind_attention(model, name) for name in names]
    maps = attention_maps(model, image, [(70, 60), (5, 5)], bound, layers=[-1, 6])
    assert [tuple(row.weights[0].shape) for row in maps.rows] == [(14, 14)] * 2 + [(7, 7)] * 2 + [(14, 14)] * 4
    assert maps.rows[0].heads == 'one map for all heads, 14 x 14 cells'
    top, bottom, left, right = maps.views[0].window
    window = F.pad(image[None, :, top:bottom, left:right], (6, 6, 8, 8))
    record = model.encode(window).record
    weights = bound[0].attention.weights(bound[0].block_input(12, record, None))[0, 0]
    cell = (60 - top + 8) // 8 * 14 + (70 - left + 6) // 8
    torch.testing.assert_close(maps.rows[0].weights[0].flatten(), weights[cell])
    assert (maps.rows[0].weights[0] - maps.rows[4].weights[0]).abs().max() > 1e-4
    assert (maps.rows[0].weights[0] - maps.rows[6].weights[0]).abs().max() > 1e-6
    values = maps.views[0].enlarge(maps.rows[0].weights[0])
    assert values.shape == (120, 140) and values[60, 70].isfinite()


def test_what_does_not_fit(coloured, build_method, wide):
    with pytest.raises(ConfigError, match="reads the companion 'sam', but model.companions names dino"):
        coloured({'backbone.decoder.attention.companion': 'sam'})
    with pytest.raises(ConfigError, match="ProxyAttention reads the companion 'dino', but model.companions names none"):
        bind_attention(build_method('sclip'), 'ProxyAttention')
    last = {'type': 'LastBlock', 'attention': dict(type='ProxyAttention'), '_delete_': True}
    model = coloured({'backbone.decoder': last})
    with pytest.raises(ConfigError, match="attends on the grid of the companion 'dino'.*CompanionGrid"):
        model.encode(wide)
    with pytest.raises(ConfigError, match='is not a kind of CompanionAttention'):
        coloured({'backbone.decoder.attention': dict(type='VanillaSelfAttention', _delete_=True)})
