"""CorrCLIP: every stage against the official outputs, and its regions."""

import mmcv
import numpy as np
import pytest
import torch
from helpers import sample
from PIL import Image
from torch.nn import functional as F

from mmseg_sclip.errors import ConfigError
from mmseg_sclip.models.companions import ColourRegions, FilterBank, nearest
from mmseg_sclip.models.image.postprocess import predict_labels
from mmseg_sclip.models.image.scores import whole
from mmseg_sclip.models.image.windows import Place, WindowGrid
from mmseg_sclip.models.methods.corrclip.correction import majority_labels
from mmseg_sclip.models.methods.corrclip.merging import Regions, region_cosines
from mmseg_sclip.models.methods.corrclip.semantic import region_class_tokens
from mmseg_sclip.models.record import Source
from mmseg_sclip.models.segmentors import score_together

DIRECT = {
    '224x224': (224, 224, 9),
    '336x336': (336, 336, 9),
    '224x336': (224, 336, 9),
    'nomerge/224x224': (224, 224, 1),
    'covered/224x224': (224, 224, 5),
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('corrclip')


@pytest.fixture
def build(build_method, recipe_extra, folder, extra):
    """`build(options)`: CorrCLIP's public model with the DINO of the goldens, and regions from files."""

    def make(options=None, **more):
        path = folder / 'dino8.pth'
        if not path.exists():
            state = recipe_extra.dino_state_dict(0, 8)
            torch.save({name: torch.from_numpy(value) for name, value in state.items()}, path)
        small = dict(depth=3, embed_dim=128, num_heads=2)
        options = {
            'companions.dino.pretrained': str(path),
            'companions.dino.model_args': small,
            'companions.regions.folder': str(folder),
            **(options or {}),
        }
        return build_method('corrclip', options, **{'text': extra['text'], **more})

    return make


def write(folder, name, regions):
    Image.fromarray(regions.astype(np.uint16)).save(folder / f'{name}.png')
    return sample(regions.shape, img_path=f'elsewhere/{name}.jpg')


def record_of(model, image, one):
    """The record of an image that is one window."""
    source = Source(image, one.metainfo)
    height, width = image.shape[1:]
    places = WindowGrid.cut(height, width, (height, width), (height, width)).places(0)
    return model.backbone.record(image[None], model.needs, places, [source]).read_by(model.companions)


@pytest.mark.parametrize('case', DIRECT)
@torch.no_grad()
def test_stages(build, extra, recipe_extra, pixels, folder, case):
    height, width, number = DIRECT[case]
    regions = recipe_extra.region_mask(height + width, height, width, number)
    regions = np.maximum(regions, 1) if case.startswith('covered') else regions
    golden = {key.removeprefix(f'corrclip/{case}/'): extra[key] for key in extra.files if f'corrclip/{case}/' in key}
    rows = golden.pop('rows')
    model = build()
    record = record_of(model, pixels(height, width), write(folder, case.replace('/', '_'), regions))
    decoder = model.backbone.decoder
    features, merged = record.once(decoder.attention.scopes)
    safe = golden.pop('margin') >= 1e-5
    attn = decoder.attention.weights(decoder.block_input(12, record))[0, 0]
    tokens = decoder(record)
    ours = dict(mean=(features[0] @ features[0].T).mean(), attn=attn[golden.pop('attn_rows')])
    if 'vfm' in golden:
        norm = model.backbone.tower.visual.ln_post
        small, semantic = decoder.semantic_branch(record)
        painted = F.interpolate(small.ids[:, None].float(), merged.ids.shape[1:]).long().flatten()
        main, spatial = decoder.patch_branches(record)
        ours |= dict(vfm=features[0, rows], main=norm(main)[0, rows], spatial=norm(spatial)[0, rows])
        ours |= dict(semantic=norm(semantic)[0, painted][rows])
    if 'clusters' in golden:
        before = Regions.of(nearest(record.companion('regions').map[:, 0], tokens.grid))
        np.testing.assert_allclose(region_cosines(features, before)[0, 1:, 1:], golden.pop('region_cos'), atol=5e-6)
        pairs = torch.stack([before.ids.flatten(), merged.ids.flatten()], 1).unique(dim=0)
        assert pairs[0].tolist() == [0, 0]
        assert (pairs[1:, 1] - 1).tolist() == golden.pop('clusters').tolist()
    np.testing.assert_allclose(tokens.patches[0, rows][safe], golden['tokens'][safe], atol=5e-5)
    np.testing.assert_allclose(tokens.patches[0, rows], golden.pop('tokens'), atol=2e-3)
    logits = model.decode_head.enlarge(model.decode_head(tokens), (height, width))[0, :, 7::16, 7::16].numpy()
    check_maps(logits, golden.pop('logits'), 2e-4, 1e-5)
    for key, value in golden.items():
        np.testing.assert_allclose(ours[key], value, atol={'mean': 5e-6, 'attn': 1e-5}.get(key, 5e-5), err_msg=key)


def check_maps(ours, theirs, most, nearly):
    assert np.abs(ours - theirs).max() <= most
    assert (np.abs(ours - theirs) <= nearly).mean() >= 0.99


BACKGROUND = [['sky', 'wall', 'tree', 'wood', 'grass', 'road'], 'aeroplane', 'person', 'cat', 'dog', 'train']
NOBG = ['wall', 'building', 'sky', 'floor', 'tree', 'ceiling', 'road', 'bed', 'windowpane', 'grass']
# case: (words, text, short side or None, crop, threshold)
E2E = {
    'voc21like/375x500': (BACKGROUND, 'bg1', 336, 336, 0.3),
    'citylike/300x420': (NOBG, 'nobg', 300, 224, None),
    'pad/250x250': (NOBG, 'nobg', None, 336, None),
}


@pytest.mark.parametrize('case', E2E)
@torch.no_grad()
def test_label_maps(build, extra, recipe, recipe_extra, folder, case):
    words, text, side, crop, threshold = E2E[case]
    height, width = map(int, case.split('/')[1].split('x'))
    image = recipe.image(height, height, width)
    image = mmcv.imrescale(image, (2048, side)) if side else image
    inputs = torch.from_numpy(image.copy()).permute(2, 0, 1)
    one = write(folder, f'e2e_{height}', recipe_extra.region_mask(height + 1, height, width, 14))
    options = {'test_cfg.crop_size': (crop, crop), 'test_cfg.prob_thd': threshold, 'test_cfg.keep_scores': True}
    background = None if text == 'nobg' else 0
    model = build(options, vocabulary=words, background_index=background, text=extra[f'text/{text}'])
    (found,) = model.test_step(dict(inputs=[inputs], data_samples=[one]))
    golden = {key: extra[f'corrclip/e2e/{case}/{key}'] for key in ('prob', 'pred_before', 'pred')}
    check_maps(found.seg_logits.data[:, 7::16, 7::16].numpy(), golden['prob'], 2e-3, 5e-5)
    before = predict_labels(found.seg_logits.data, threshold, 0)
    for labels, key in ((before, 'pred_before'), (found.pred_sem_seg.data[0], 'pred')):
        assert (labels.numpy() == golden[key]).mean() >= 0.999


def test_labels_of_regions():
    regions = torch.tensor([[0, 0, 1, 1], [2, 2, 2, 1]])
    labels = torch.tensor([[3, 1, 2, 4], [4, 0, 5, 4]])
    assert majority_labels(labels, regions).tolist() == [[3, 1, 4, 4], [0, 0, 0, 4]]  # of equal ones the smallest
    assert torch.equal(majority_labels(labels, torch.zeros(2, 4).long()), labels)
    generator = torch.Generator().manual_seed(0)
    regions, labels = (torch.randint(0, high, (30, 40), generator=generator) for high in (9, 5))
    expected = labels.clone()
    for region in range(1, 9):
        expected[regions == region] = labels[regions == region].mode().values
    assert torch.equal(majority_labels(labels, regions), expected)


def naive_map(features, ids, temperature):
    """The attention of a window pair by pair."""
    cosines, n = features @ features.T, len(features)
    mean = cosines.mean()
    lowest = ids.min()
    kept = torch.zeros(n, n).bool()
    for i in range(n):
        for j in range(n):
            outside = ids[i] == lowest or ids[j] == lowest
            kept[i, j] = i == j or (cosines[i, j] > mean if outside else ids[i] == ids[j])
    return (cosines / temperature).masked_fill(~kept, -torch.inf).softmax(dim=1)


@torch.no_grad()
def test_batches_of_windows_with_other_numbers_of_regions(build, pixels, folder, recipe_extra):
    """Each window is as it is alone, one of them flat and grey; the map is that of its definition."""
    grey = torch.zeros(3, 48, 80)
    images = [pixels(48, 80), pixels(48, 80, offset=1), grey]
    numbers = (3, 14, 9)
    samples = [write(folder, f'batch_{number}', recipe_extra.region_mask(number, 48, 80, number)) for number in numbers]
    model = build({'backbone.decoder.attention.temperature': 0.5, 'backbone.decoder.attention.eps': 0.0})
    decoder, tower = model.backbone.decoder, model.backbone.tower
    sources = [Source(*each) for each in zip(images, (one.metainfo for one in samples), strict=True)]
    places = [Place(i, (0, 48), (0, 80)) for i in range(3)]
    record = tower.record(torch.stack(images), model.needs, places, sources).read_by(model.companions)
    together, regions = decoder(record), record.once(decoder.attention.scopes)[1]
    maps = decoder.attention.weights(decoder.block_input(12, record))[:, 0]
    assert torch.isfinite(together.patches).all()
    assert len({*regions.ids.amax(dim=(1, 2)).tolist()}) == 3
    for i, (image, one) in enumerate(zip(images, samples, strict=True)):
        alone = record_of(model, image, one)
        torch.testing.assert_close(decoder(alone).patches[0], together.patches[i], atol=1e-5, rtol=0)
        features, ids = record.once(decoder.attention.scopes)
        expected = naive_map(features[i], ids.ids[i].flatten(), 0.5)
        if image is not grey:  # where all cosines are their mean, but for rounding
            torch.testing.assert_close(maps[i], expected, atol=1e-6, rtol=0)
        values = torch.randn(1, 15, 5)
        enlarged = F.interpolate(values.mT.unflatten(2, (3, 5)), (6, 10), mode='bilinear').flatten(2).mT
        ours = decoder.attention.mix(alone, values, (3, 5))
        torch.testing.assert_close(ours[0], maps[i] @ enlarged[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_copies_of_the_class_token_are_tokens_of_the_stream(build, pixels, folder):
    """As the official code has them: in front of the stream, with a mask over all of it, in every block."""
    model = build()
    record = record_of(model, pixels(48, 80), write(folder, 'copies', np.indices((48, 80))[1] // 40))
    tower, prefix, grid = record.tower, record.tower.prefix, record.grid
    ids = (torch.arange(grid[1]) // 3).expand(grid)
    for most in (4, 100):  # few and many, for which keys are made
        ours = region_class_tokens(record, Regions(ids[None], most))
        x = torch.cat([record[0][:, :1].expand(-1, 4, -1), record[0]], dim=1)
        sees = torch.zeros(len(x[0]), len(x[0])).bool()
        sees[4:, 4:] = True
        sees[:4, 4 : 4 + prefix] = True
        sees[:4, 4 + prefix :] = ids.flatten() == torch.arange(4)[:, None]
        for number in range(1, tower.depth + 1):
            q, k, v = tower.project_qkv(number, tower.norm(number, x))
            x = x + tower.attention_branch(number, F.scaled_dot_product_attention(q, k, v, attn_mask=sees))
            x = x + tower.feed_forward_branch(number, x)
        torch.testing.assert_close(ours[:, :4], x[:, :4], atol=2e-5, rtol=0)


class Counted(FilterBank):
    """A filter bank that knows how often it was asked."""

    calls = 0

    def features(self, images):
        self.calls += 1
        return super().features(images)


class CountedRegions(ColourRegions):
    """Regions that know for how many images they were looked for."""

    calls = 0

    def regions(self, source, network):
        self.calls += 1
        return super().regions(source, network)


@torch.no_grad()
def test_one_pass_with_others_asks_each_network_once(build_method, extra):
    network, regions = Counted(patch_size=8), CountedRegions()
    companions = dict(dino=network, regions=regions)
    sizes = {'test_cfg.crop_size': (112, 112), 'test_cfg.stride': (56, 56), 'test_cfg.window_batch': 4}
    models = [build_method('corrclip', {**sizes, 'companions': companions}, text=extra['text']) for _ in range(2)]
    models.append(build_method('proxyclip', {**sizes, 'companions': dict(dino=network)}, text=extra['text']))
    models.append(build_method('sclip', {**sizes, 'test_cfg.window_multiple': 56}, text=extra['text']))
    images = [torch.randn(3, 168, 224), torch.randn(3, 112, 168)]  # six and two windows
    samples = [sample((84, 112)), sample((56, 84))]
    together = score_together(models, images, samples)
    for model, scores in zip(models, together, strict=True):
        for each in zip(scores, images, samples, strict=True):
            model.label(*each)
    assert (network.calls, regions.calls) == (2, 2)  # of two batches of windows, and of two images
    for each in zip(*together[:2], strict=True):
        assert torch.equal(whole(each[0]), whole(each[1]))


def test_companions_of_the_wrong_kind_are_refused(build):
    with pytest.raises(ConfigError, match='RegionMajority reads regions from model.companions.regions, but FilterBank'):
        build({'companions.regions': dict(type='FilterBank', _delete_=True)})
    for levels in ((-3, -7), (0, 3)):
        with pytest.raises(ConfigError, match='first and the last of the blocks that are averaged'):
            build({'backbone.decoder.levels': levels})
