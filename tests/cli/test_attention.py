"""The attention tool as a person runs it, and the hook that does the same for a dataset."""

import re

import numpy as np
import pytest
import torch
from mmseg.structures import SegDataSample
from PIL import Image

from mmseg_sclip.cli import attention
from mmseg_sclip.errors import ConfigError
from mmseg_sclip.files import is_ours
from mmseg_sclip.paths import config_path
from mmseg_sclip.visual import AttentionVisualizationHook
from mmseg_sclip.visual.pixels import POINT_COLOUR


@pytest.fixture
def photo(tmp_path, recipe):
    """(90, 120) pixels."""
    path = tmp_path / 'photo.png'
    Image.fromarray(recipe.image(0, 90, 120)[..., ::-1]).save(path)
    return path


@pytest.fixture
def figures(monkeypatch):
    """The maps, and title and pixels of each picture, of every figure."""
    seen = []
    draw = attention.attention_figure

    def watch(pixels, maps, *arguments):
        figure = draw(pixels, maps, *arguments)
        panels = [(cell.get_title(), np.asarray(cell.images[0].get_array())) for cell in figure.axes[:-1]]
        seen.append((maps, panels, figure))
        return figure

    monkeypatch.setattr(attention, 'attention_figure', watch)
    return seen


@pytest.mark.slow
def test_the_demo(run, tmp_path, figures):
    code, out, _ = run('attention', '--demo', '--out-dir', 'out', '--pdf')
    assert code == 0
    ((maps, panels, _),) = figures
    assert [row.attention for row in maps.rows] == ['VanillaSelfAttention', 'CorrelativeSelfAttention']
    assert {row.layer for row in maps.rows} == {5}
    written = sorted((tmp_path / 'out').iterdir())
    assert [path.name for path in written] == ['scene_0.png', 'scene_0_attention.pdf', 'scene_0_attention.png']
    for path in written:
        assert str(path) in out and is_ours(path)
    scene = np.asarray(Image.open(written[0]))
    assert (panels[0][1] == scene).all(-1).mean() > 0.2  # its window, but for the mark


def test_every_wish(run, photo, figures, tmp_path):
    more = ['--layers', -1, 2, '--heads', 'all', '--whole', '--demo', '--out-dir', tmp_path / 'out', '--max-side', 60]
    attentions = ['--attention', 'LocalSelfAttention(window=1)', 'maskclip']
    assert run('attention', photo, '--points', '10,80', '119,0', *attentions, *more).code == 0
    ((maps, panels, figure),) = figures
    heads = [f'head {i} of 4' for i in (1, 2, 3, 4)]
    assert [(row.attention, row.layer, row.heads) for row in maps.rows] == [
        *(('LocalSelfAttention(window=1)', layer, head) for layer in (5, 2) for head in heads),
        *(('IdentityAttention', layer, 'one map for all heads') for layer in (5, 2)),
    ]
    assert maps.points == [(10, 80), (119, 0)] and all(view.is_whole for view in maps.views)
    for row in maps.rows:  # the token itself, patches of 8 pixels
        assert [int(weights.argmax()) for weights in row.weights] == [10 * 15 + 1, 14]
    assert {picture.shape for _, picture in panels} == {(45, 60, 3)} and len(panels) == 2 * 11
    width, height = figure.get_size_inches()
    assert 0.5 < width / height < 3  # no strip


def test_points_are_pixels_of_the_upright_photograph(run, photo, figures, tmp_path):
    """The same picture, stored turned with an EXIF tag."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(photo).transpose(Image.Transpose.ROTATE_90).save(tmp_path / 'stored.png', exif=exif)
    arguments = ['--points', '110,20', '--demo', '--attention', 'CLIP']
    assert run('attention', tmp_path / 'stored.png', *arguments)[0] == 0
    assert run('attention', photo, *arguments)[0] == 0
    (turned, panels, _), (plain, expected, _) = figures
    assert torch.equal(turned.rows[0].weights[0], plain.rows[0].weights[0])
    assert np.array_equal(panels[1][1], expected[1][1])
    assert (panels[1][1][20, 110] == POINT_COLOUR).all()


CONFIG = """
_base_ = {base!r}
custom_hooks = [
    dict(type='VocabularyCheckHook'),
    dict(type='AttentionVisualizationHook', {hook}),
]
test_dataloader = dict(num_workers=0, batch_size=2, dataset=dict(count=3))
"""

CENTRE = """
resize = [dict(type='Resize', scale=(1000, 100), keep_ratio=True), dict(type='ScoreCentre', crop_size=96)]
test_dataloader['dataset']['pipeline'] = [*_base_.test_pipeline[:3], *resize, *_base_.test_pipeline[3:]]
"""


@pytest.fixture
def test_with_hook(run, tmp_path):
    def call(hook, more=''):
        path = tmp_path / 'hooked.py'
        path.write_text(CONFIG.format(base=str(config_path('sclip_demo')), hook=hook) + more)
        return run('test', path, '--work-dir', tmp_path / 'work')

    return call


@pytest.mark.slow
def test_the_hook_draws_what_the_tool_draws(run, test_with_hook, tmp_path, fresh_cache):
    code, out, err = test_with_hook("points=[(0.25, 0.5), (96, 80)], layers=[2, -1], out_dir='pictures'")
    assert code == 0, err
    pictures = sorted((tmp_path / 'pictures').iterdir())
    assert [path.name for path in pictures] == [f'00000{i}_attention.png' for i in range(3)]
    assert f'3 attention pictures are in {tmp_path / "pictures"}' in out
    (scenes,) = (fresh_cache / 'scenes').glob('*-3-*/images')
    assert run('attention', scenes / '000002.jpg', '--demo', '--points', '48,96', '96,80', '--layers', 2, 5)[0] == 0
    by_tool = np.asarray(Image.open(tmp_path / 'work_dirs' / 'attention' / '000002_attention.png'))
    assert np.array_equal(np.asarray(Image.open(pictures[2])), by_tool)


@pytest.mark.slow
def test_points_outside_and_intervals(test_with_hook, tmp_path):
    code, out, err = test_with_hook("points=[(5, 500)], interval=2, layers=[1], attention='VanillaSelfAttention'")
    assert code == 0, err
    assert re.search(r'0 attention pictures are in .*work/.*/attention; 2 images are smaller than every point', out)
    hook = "points=[(5, 50), (5, 500)], interval=2, layers=[1], attention=['config']"
    assert test_with_hook(hook, CENTRE).code == 0  # drawn on the centre that is scored
    written = sorted(path.name for path in tmp_path.glob('work/*/attention/*'))
    assert written == ['000000_attention.png', '000002_attention.png']


@pytest.mark.parametrize(
    'hook, message',
    [
        (dict(points=[]), 'points is empty'),
        (dict(points=[(0.5, 3)]), r'a point is \(x, y\), two whole numbers'),
        (dict(points=[(-1, 2)]), 'a point is'),
        (dict(points=[(1, 2)], interval=0), 'interval is 0'),
        (dict(points=[(1, 2)], mode='window'), "mode is 'window'"),
    ],
)
def test_wrong_hooks(hook, message):
    with pytest.raises(ConfigError, match=message):
        AttentionVisualizationHook(**hook)


@pytest.mark.parametrize(
    'hook, message',
    [('layers=[9]', 'There is no block 9'), ('heads=9', 'heads is 9'), ("attention=['Vanilla']", 'Did you mean')],
)
def test_wishes_that_the_model_cannot_fulfil_stop_before_the_first_image(test_with_hook, hook, message):
    code, out, err = test_with_hook(f'points=[(1, 2)], {hook}')
    assert code == 1 and message in err and 'Iter(test)' not in out


def test_the_hook_refuses_padded_images():
    hook = AttentionVisualizationHook([(0.5, 0.5)])
    sample = SegDataSample(metainfo=dict(img_shape=(10, 10), ori_shape=(10, 10), img_path='a.jpg'))
    with pytest.raises(ValueError, match='a.jpg reaches the network padded or flipped'):
        hook._draw(None, torch.zeros(3, 16, 16), sample, None)
