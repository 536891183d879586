"""Trident against the official outputs, from windows and SAM's cells to labels, and on images of any kind."""

import copy
import json
from dataclasses import replace
from itertools import cycle

import cv2
import numpy as np
import pytest
import torch
from helpers import sample
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmseg.registry import MODELS, TRANSFORMS
from torch.nn import functional as F

from mmseg_sclip import paths
from mmseg_sclip.errors import ConfigError
from mmseg_sclip.images import ORIGINAL, KeptImage
from mmseg_sclip.models.companions import Relations
from mmseg_sclip.models.image.geometry import Axis, image_axes
from mmseg_sclip.models.image.scores import whole
from mmseg_sclip.models.image.windows import WindowGrid, cut_window
from mmseg_sclip.models.methods.trident import affinity
from mmseg_sclip.models.methods.trident.canvas import splice_matrix
from mmseg_sclip.models.methods.trident.stitch import original_image
from mmseg_sclip.models.record import Source

SEVEN = ['cat', 'dog', 'bird', 'tree', 'house', 'car', 'sky']
SIX = [['a', 'b', 'c', 'd', 'e', 'f'], 'g', 'h', 'i', 'j', 'k']
TINY = dict(
    dino=dict(embed_dim=128, depth=3, num_heads=2),
    sam=dict(hidden_size=64, num_hidden_layers=3, num_attention_heads=2, global_attn_indexes=[2], output_channels=32),
)
BANKS = dict(_delete_=True, dino=dict(type='FilterBank', patch_size=8), sam=dict(type='FilterBank', patch_size=8))
# The dataset whose config has the settings, its short side (None: not resized), and what is set otherwise.
CASES = {
    'trident/375x500': ('voc21', 448, {}),
    'trident/cos0/336x336': ('voc20', None, {}),
    'trident/cos3/333x420': ('voc21', 400, {'stitch.cos_fac': 3}),
    'trident/refneg/375x500': ('voc21', 336, {'stitch.refine_neg_cos': False}),
    'trident/cityscapes/352x704': ('cityscapes', None, {}),
}


@pytest.fixture(scope='module')
def files(recipe_extra, tmp_path_factory):
    """The weights of both second networks, in the naming of the released files."""
    folder = tmp_path_factory.mktemp('second')
    states = dict(dino=recipe_extra.dino_state_dict(0, 16), sam=recipe_extra.sam_encoder_state_dict(0))
    for name, state in states.items():
        torch.save({key: torch.from_numpy(value) for key, value in state.items()}, folder / f'{name}.pth')
    return {name: str(folder / f'{name}.pth') for name in states}


@pytest.fixture
def official(files, deep_source, extra):
    """`official('voc21', 448, options)`: the model of a dataset's config with the tiny networks, and its pipeline."""

    def build(dataset, short, options, words=SEVEN, background=None, text='text'):
        config = Config.fromfile(paths.config_path(f'trident_{dataset}'))
        config.model.decode_head.update(vocabulary=words, class_names=None, background_index=background)
        if background is None:
            config.model.test_cfg.prob_thd = None
        config.merge_from_dict(
            {
                'model.companions.dino.model_args': TINY['dino'],
                'model.companions.sam.changes': TINY['sam'],
                **{f'model.companions.{name}.pretrained': file for name, file in files.items()},
                **{f'model.{key}': value for key, value in options.items()},
            }
        )
        model = MODELS.build({**config.model, 'clip': deep_source}).eval()
        model.decode_head.text_bank = torch.from_numpy(extra[text])
        return model, pipeline(config, short)

    return build


def pipeline(config, short):
    """The steps of a config behind its readers, with another short side; None for none."""
    steps = [copy.deepcopy(step) for step in config.test_pipeline if not step['type'].startswith(('Load', 'Check'))]
    if short is None:
        steps = [step for step in steps if step['type'] != 'Resize']
    else:
        next(step for step in steps if step['type'] == 'Resize')['scale'] = (2048, short)
    steps[-1]['meta_keys'] = [
        key for key in steps[-1]['meta_keys'] if not key.startswith(('reduce', 'seg_map', 'img_p'))
    ]
    return Compose([TRANSFORMS.build(step) for step in steps])


def packed(recipe, steps, model, height, width):
    image = recipe.image(height, height, width)
    data = steps(dict(img=image, img_shape=(height, width), ori_shape=(height, width)))
    data = model.data_preprocessor(pseudo_collate([data]), False)
    return data['inputs'], data['data_samples']


def close_where_sure(ours, theirs, margin):
    """Entries of rows that no decision within rounding touches."""
    error = np.abs(ours - theirs)[margin >= 1e-5]
    assert error.max() < 2e-3 and np.quantile(error, 0.99) < 5e-5


def inside(model, image, metadata):
    """What the parts compute on the way: a record of all windows of an image."""
    settings, source = model.settings, Source(image, metadata.metainfo)
    places = WindowGrid.cut(*image.shape[1:], settings.crop_size, settings.stride).places(0)
    crops = torch.stack([cut_window(image, place) for place in places])
    record = model.backbone.record(crops, model.needs, places, [source]).read_by(model.companions)
    return record, source


def remembered(relations, maps):
    return replace(relations, attention=iter([each.clone() for each in maps]))


@pytest.mark.parametrize(
    'case', [pytest.param(case, marks=[] if case == 'trident/375x500' else pytest.mark.slow) for case in CASES]
)
@torch.no_grad()
def test_official_outputs(official, recipe, extra, monkeypatch, case):
    theirs = {key.removeprefix(f'{case}/'): extra[key] for key in extra.files if key.startswith(f'{case}/')}
    height, width = map(int, case.rpartition('/')[2].split('x'))
    model, steps = official(*CASES[case])
    (image,), (metadata,) = packed(recipe, steps, model, height, width)
    record, source = inside(model, image, metadata)
    attention, tower = model.backbone.decoder.attention, record.tower

    mean = attention.means(record, attention.unit_features(record))
    np.testing.assert_allclose(mean.flatten(), np.full(len(mean), theirs['mean']), atol=5e-6)
    tokens, _ = model.backbone.decoder.run(record, None)
    sure = theirs['win_margin'] >= 1e-5
    windows = tokens.stream[:, theirs['win_rows']].numpy()
    np.testing.assert_allclose(windows[sure], theirs['win'][sure], atol=5e-5)
    if 'vfm' in theirs:
        features = record.companion('dino').map[0].flatten(1).T
        np.testing.assert_allclose(features[theirs['win_rows']], theirs['vfm'], atol=5e-5)

    stitch, rows = model.stitch, theirs['rows']
    settings = (stitch.cos_fac, stitch.most, stitch.negative)
    parts = stitch._parts(original_image(source, tower, image_axes(image.shape[1:], metadata.metainfo)))
    seen = [model.companions['sam'].relations(part) for part in parts]
    maps = [list(part.attention) for part in seen]
    known = cycle(zip(seen, maps, strict=True))
    monkeypatch.setattr(model.companions['sam'], 'relations', lambda part: remembered(*next(known)))  # SAM runs once
    limits = [affinity.thresholds(F.normalize(part.values, dim=-1), *settings).view(part.grid) for part in seen]
    np.testing.assert_allclose(torch.cat(limits, dim=1).flatten()[rows], theirs['theta'], atol=5e-6)
    if 'sam_v' in theirs:
        np.testing.assert_allclose(seen[0].values[:, rows], theirs['sam_v'], atol=5e-5)
        for ours, expected in zip(maps[0], theirs['sam_attn'], strict=True):
            np.testing.assert_allclose(ours[theirs['g_rows']], expected, atol=1e-5)
    found = affinity.segment_affinity(remembered(seen[0], maps[0]), *settings)
    np.testing.assert_allclose(found[theirs['g_rows']], theirs['G'], atol=1e-5)

    grid, segmented = stitch.segmented(record, tokens.stream, tokens.grid)
    assert grid == (seen[0].grid[0], sum(part.grid[1] for part in seen))
    close_where_sure(segmented[rows].numpy(), theirs['canvas_out'], theirs['margin'])
    close_where_sure(tower.project(segmented[rows]).numpy(), theirs['tokens'], theirs['margin'])

    (scores,) = model.score([image], [metadata])
    error = np.abs(whole(scores)[:, 7::16, 7::16].numpy() - theirs['scores'])
    assert error.max() < 2e-4 and np.quantile(error, 0.99) < 1e-5


@pytest.mark.slow
@torch.no_grad()
def test_official_labels(official, recipe, extra):
    model, steps = official('voc21', 448, {'test_cfg.keep_scores': True}, SIX, 0, 'text/bg1')
    images, samples = packed(recipe, steps, model, 375, 500)
    (scores,) = model.score(images, samples)
    key = 'trident/bg1/375x500'
    np.testing.assert_allclose(scores.band(0, 375)[:, 7::16, 7::16], extra[f'{key}/scores'], atol=1e-5)
    result = model.label(scores, images[0], samples[0])
    error = np.abs(result.seg_logits.data[:, 7::16, 7::16].numpy() - extra[f'{key}/prob'])
    assert error.max() < 2e-3 and np.quantile(error, 0.99) < 5e-5
    assert (result.pred_sem_seg.data[0].numpy() == extra[f'{key}/pred']).mean() >= 0.999


def test_windows_on_the_grid_are_averaged_and_resized():
    spans, cells = ((0, 96), (64, 160)), 25
    tokens = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    canvas = torch.cat([tokens[0, :4], (tokens[0, 4:] + tokens[1, :2]) / 2, tokens[1, 2:]])
    axis = Axis(160, (0, 0), False, 300)
    assert torch.equal(splice_matrix(axis, spans, (0, 0), 6, [10]) @ tokens.flatten(0, 1), canvas)
    expected = F.interpolate(canvas.T[None], cells, mode='linear')[0].T
    ours = splice_matrix(axis, spans, (0, 0), 6, [cells]) @ tokens.flatten(0, 1)
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)
    halves = [F.interpolate(half.T[None], 8, mode='linear')[0].T for half in canvas.split(5)]
    ours = splice_matrix(axis, spans, (0, 0), 6, [8, 8]) @ tokens.flatten(0, 1)
    torch.testing.assert_close(ours, torch.cat(halves), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    'side, spans, added, patches, padding',
    [
        (151, ((0, 96), (55, 151)), (0, 0), 6, (0, 0)),  # the last window begins at any pixel
        (100, ((0, 100),), (0, 0), 6, (0, 0)),  # patches are stretched over the window
        (100, ((0, 100),), (6, 6), 7, (0, 0)),  # or the window is padded
        (128, ((0, 96), (32, 128)), (0, 0), 6, (5, 18)),  # the pipeline has padded the image
        (9, ((0, 9),), (0, 0), 1, (0, 0)),
    ],
)
def test_windows_of_any_place_keep_what_is_linear_over_the_image(side, spans, added, patches, padding):
    """Tokens that are the position of their centre give the position of each cell."""
    pitch = (spans[0][1] - spans[0][0] + sum(added)) / patches
    tokens = torch.cat([start - added[0] + pitch * (torch.arange(patches) + 0.5) for start, _ in spans])
    cells = 40
    matrix = splice_matrix(Axis(side, padding, False, 77), spans, added, patches, [cells])
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(cells))
    centres = padding[0] + (torch.arange(cells) + 0.5) * (side - sum(padding)) / cells
    number = int(side / pitch)
    canvas = [(cell + 0.5) * side / number for cell in range(number)]
    seen = [centre for centre in canvas if padding[0] <= centre < side - padding[1]]  # not the padding of the pipeline
    torch.testing.assert_close(matrix @ tokens, centres.clamp(seen[0], seen[-1]), atol=1e-3, rtol=0)


@pytest.mark.parametrize('negative', [None, 0.6])
def test_affinity_cell_by_cell(negative):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2, 7, 4, generator=generator)
    values[:, 0] = 0  # which is like nothing
    maps = torch.rand(2, 7, 7, generator=generator)
    unit = F.normalize(values, dim=-1).numpy()
    found = affinity.segment_affinity(Relations((1, 7), values, iter(maps.clone())), 2.0, 0.9, negative).numpy()
    mean = np.mean([own @ own.T for own in unit], axis=(0, 2))
    limits = np.minimum(2.0 * mean, 0.9)
    assert (limits < 0).any() and (limits > 0).any()
    limits[limits < 0] = limits[limits < 0] if negative is None else negative
    for i in range(7):
        row = sum(
            np.where(own[i] @ own.T > limits[i], each[i], 0) for own, each in zip(unit, maps.numpy(), strict=True)
        )
        row = row / row.sum() if row.sum() else np.eye(7)[i]
        np.testing.assert_allclose(found[i], row, atol=1e-6)
    assert found[0, 0] == 1


def small(build_method, **options):
    """Without weights but CLIP's: small windows, and filters in place of both networks."""
    options = {'companions': BANKS, 'test_cfg.crop_size': (96, 96), 'test_cfg.stride': (64, 64), **options}
    return build_method('trident', options)


def test_the_original_is_what_was_loaded_mirrored_as_the_networks_input():
    bgr = np.random.RandomState(0).randint(0, 256, (40, 70, 3), np.uint8)
    network = type('Network', (), dict(mean=(120.0, 110.0, 100.0), std=(60.0, 50.0, 40.0)))
    grown = torch.from_numpy(cv2.resize(bgr[..., ::-1], (80, 48))).permute(2, 0, 1)
    for flip, dims in ((None, []), ('horizontal', [2]), ('vertical', [1])):
        meta = {'ori_shape': (40, 70), 'flip': flip is not None, 'flip_direction': flip, ORIGINAL: KeptImage(bgr)}
        ours = original_image(Source(torch.zeros(3, 20, 35), meta), network, image_axes((20, 35), meta))
        assert ours.dtype == torch.uint8 and (ours.int() - grown.flip(dims).int()).abs().max() <= 1
    meta['ori_shape'] = (40, 60)
    with pytest.raises(ConfigError, match='an image of 40 x 70 pixels .* predictions have 40 x 60'):
        original_image(Source(torch.zeros(3, 20, 35), meta), network, image_axes((20, 35), meta))
    pixels = torch.randint(0, 256, (3, 32, 48)).float()
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (network.mean, network.std))
    meta = dict(ori_shape=(100, 150), padding_size=(2, 3, 4, 5), flip=True, flip_direction='horizontal')
    source = Source(F.pad((pixels - mean) / std, (2, 3, 4, 5)), meta)
    ours = original_image(source, network, image_axes(source.image.shape[1:], meta))
    assert torch.equal(ours, pixels.byte())  # without a kept image it is the network's input


@torch.no_grad()
def test_flips_and_padding_of_the_pipeline_are_undone(build_method, recipe):
    model = small(build_method)
    bgr = recipe.image(3, 112, 160)
    (image,) = model.data_preprocessor(dict(inputs=[torch.from_numpy(bgr).permute(2, 0, 1)]))['inputs']
    shape = dict(ori_shape=(112, 160), original=KeptImage(bgr))
    plain = sample(**shape)
    (scores,) = model.score([image], [plain])
    assert scores.shape == (7, 112, 160)
    (fallback,) = model.score([image], [sample((112, 160))])
    assert torch.equal(whole(fallback), whole(scores))  # the network's input is the image
    mirrored = bgr[:, ::-1].copy()
    (flipped,) = model.data_preprocessor(dict(inputs=[torch.from_numpy(mirrored).permute(2, 0, 1)]))['inputs']
    (expected,) = model.score([flipped], [sample((112, 160), original=KeptImage(mirrored))])
    (ours,) = model.score([flipped], [sample(**shape, flip=True, flip_direction='horizontal')])
    torch.testing.assert_close(whole(ours), whole(expected).flip(2), atol=1e-6, rtol=0)
    padded = F.pad(image, (0, 32, 0, 16))
    (ours,) = model.score([padded], [sample(**shape, padding_size=(0, 32, 0, 16))])
    assert ours.shape == (7, 112, 160) and (whole(ours) - whole(scores)).abs().mean() < 0.05
    assert (whole(ours) - whole(scores)).abs().mean() < (whole(ours) - whole(expected)).abs().mean() / 2


@torch.no_grad()
def test_images_of_any_kind(build_method, pixels):
    """Flat, smaller than a window, long, off the grid, in a batch and alone, and of a pass with halves."""
    model = small(build_method)
    images = [torch.full((3, 112, 112), 0.1), pixels(64, 80), pixels(48, 300), pixels(101, 131)]
    samples = [sample((50, 60)) for _ in images]
    together = model.predict(images, samples)
    for image, result in zip(images, together, strict=True):
        (scores,) = model.score([image], samples[:1])
        assert whole(scores).isfinite().all()
        (alone,) = model.predict([image], [sample((50, 60))])
        assert (alone.pred_sem_seg.data == result.pred_sem_seg.data).float().mean() > 0.99
    apart = small(build_method, **{'stitch.halves': True})
    (first,), (second,) = (each.score([pixels(96, 192)], [sample((96, 192))]) for each in (model, apart))
    assert (whole(first) - whole(second)).abs().max() > 1e-4


def test_what_does_not_fit_is_refused_when_the_model_is_built(build_method):
    proxy = dict(type='CompanionGrid', attention=dict(type='ProxyAttention'), _delete_=True)
    with pytest.raises(ConfigError, match='SpliceThenSegment reads UnprojectedTokens, but the decoder CompanionGrid'):
        small(build_method, **{'backbone.decoder': proxy})
    with pytest.raises(ConfigError, match='SegmentVoting looks at the patches of CLIP.s grid, but SpliceThenSegment'):
        small(build_method, **{'test_cfg.mode': 'whole', 'test_cfg.refine': [dict(type='SegmentVoting')]})
    with pytest.raises(ConfigError, match='most is 1.5; it must be a number from 0 to 1'):
        small(build_method, **{'stitch.most': 1.5})


def test_steps_of_the_pipeline():
    grow = TRANSFORMS.build(dict(type='GrowToPatches'))
    sizes = {(448, 597): (464, 608), (336, 448): (336, 448), (320, 480): (320, 480), (200, 640): (336, 640)}
    for size, grown in {**sizes, (400, 505): (416, 512), (597, 448): (608, 464)}.items():
        image = np.zeros((*size, 3), np.uint8)
        found = grow(dict(img=image, img_shape=size))['img']
        assert found.shape[:2] == grown
        assert found.dtype == (np.uint8 if size == grown else np.float32)  # which nothing rounds
    image = np.random.RandomState(0).rand(4, 5, 3).astype(np.float32) * 300 - 20
    kept = TRANSFORMS.build(dict(type='KeepOriginal'))(dict(img=image))[ORIGINAL]
    assert np.array_equal(kept.rgb[..., ::-1], image.round().clip(0, 255)) and copy.deepcopy(kept) is kept
    assert repr(kept) == 'KeptImage(4 x 5)'


@pytest.mark.slow
def test_a_run_with_the_original_in_its_samples(run_main, tmp_path):
    """Loading in two processes, resuming, views; nothing of the image lands in what is written."""
    config = Config.fromfile(paths.config_path('trident_demo'))
    steps = Config.fromfile(paths.config_path('trident_voc21')).test_pipeline
    steps[3:5] = [dict(type='Resize', scale=(500, 100)), dict(type='GrowToPatches', least=96)]
    config.test_pipeline = config.test_dataloader.dataset.pipeline = steps
    config.test_dataloader.dataset.count = 3
    config.dump(tmp_path / 'kept.py')
    results = []
    for flags in (['--cfg-options', 'test_dataloader.num_workers=0'], [], ['--resume'], ['--tta']):
        assert run_main(tmp_path / 'kept.py', *flags).code == 0
        (written,) = (tmp_path / 'work').rglob('result.json')
        results.append(json.loads(written.read_text())['metrics'])
    assert results[0] == results[1] == results[2] != results[3]
    assert not any(b'KeptImage' in path.read_bytes() for path in (tmp_path / 'work').rglob('*.json'))
    without = [step for step in steps if step['type'] != 'KeepOriginal']
    config.test_pipeline = config.test_dataloader.dataset.pipeline = without
    config.dump(tmp_path / 'without.py')
    assert run_main(tmp_path / 'without.py').code == 0
    assert json.loads(written.read_text())['metrics'] != results[0]  # SAM has seen the image before it was resized
