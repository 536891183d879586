"""The attention tool as a person runs it, and the hook that does the same for a dataset."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from mmseg.visualization import SegLocalVisualizer
from PIL import Image

from mmseg_sclip.attention_maps.figure import MARK
from mmseg_sclip.cli import main
from mmseg_sclip.engine import AttentionVisualizationHook

ROOT = Path(__file__).resolve().parents[2]


def forget_runs():
    for logger in MMLogger._instance_dict.values():
        for handler in logger.handlers:
            handler.close()
    for manager in (MMLogger, MessageHub, DefaultScope, Visualizer, SegLocalVisualizer):
        manager._instance_dict.clear()


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """`run(command, *arguments)` gives the exit code, stdout and the last line of stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', list(sys.path))
    forget_runs()

    def call(*arguments):
        capfd.readouterr()
        code = main.main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return code, out, err.rstrip('\n').rpartition('\n')[2]

    yield call
    forget_runs()


@pytest.fixture
def photo(tmp_path, recipe):
    """(90, 120) pixels."""
    path = tmp_path / 'photo.png'
    Image.fromarray(recipe.image(0, 90, 120)[..., ::-1]).save(path)
    return path


@pytest.fixture
def sheets(monkeypatch):
    """What was laid out, in order."""
    from mmseg_sclip.cli import attention

    seen = []
    draw = attention.attention_figure

    def watch(*arguments):
        seen.append((arguments[1], draw(*arguments)))
        return seen[-1][1]

    monkeypatch.setattr(attention, 'attention_figure', watch)
    return seen


def test_the_demo(run, tmp_path, sheets):
    code, out, _ = run('attention', '--demo', '--out-dir', 'out', '--pdf')
    assert code == 0
    ((maps, sheet),) = sheets
    assert [row.strategy for row in maps.rows] == ['VanillaSelfAttention', 'CorrelativeSelfAttention']
    assert {row.layer for row in maps.rows} == {5}
    written = sorted((tmp_path / 'out').iterdir())
    assert [path.name for path in written] == ['scene_13.png', 'scene_13_attention.pdf', 'scene_13_attention.png']
    for path in written:
        assert str(path) in out
    assert np.array_equal(np.asarray(Image.open(written[2])), np.asarray(sheet.draw()))
    scene = np.asarray(Image.open(written[0]))
    shown = sheet.at(0, 0).picture[:: sheet.factor, :: sheet.factor]
    assert (shown == scene).all(-1).mean() > 0.2  # its window, but for the mark


def test_the_figure_of_the_readme(run, tmp_path):
    path = ROOT / 'docs' / 'images' / 'attention_demo.png'
    if not path.is_file():
        pytest.skip('the documentation is not here')
    assert run('attention', '--demo', '--whole', '--out-dir', 'out')[0] == 0
    ours = np.asarray(Image.open(tmp_path / 'out' / 'scene_13_attention.png')).astype(int)
    shown = np.asarray(Image.open(path).convert('RGB')).astype(int)
    assert ours.shape == shown.shape
    assert np.abs(ours - shown).mean() < 4  # it is stored in 256 colours, and other machines round differently
    assert path.stat().st_size < 200_000


def test_every_wish(run, photo, sheets, tmp_path):
    code, _, _ = run(
        'attention', photo, '--points', '10,80', '119,0', '--attention', 'LocalSelfAttention(window=1)', 'config',
        '--layers', '-1', 2, '--heads', 'all', '--whole', '--demo', '--out-dir', tmp_path / 'out', '--max-side', 300,
    )  # fmt: skip
    assert code == 0
    ((maps, sheet),) = sheets
    assert [(row.strategy, row.layer) for row in maps.rows[::4]] == [
        ('LocalSelfAttention(window=1)', 5),
        ('LocalSelfAttention(window=1)', 2),
        ('CorrelativeSelfAttention', 5),
        ('CorrelativeSelfAttention', 2),
    ]
    assert [row.heads for row in maps.rows[:4]] == [f'head {i} of 4' for i in (1, 2, 3, 4)]
    assert maps.points == [(10, 80), (119, 0)] and all(view.is_whole for view in maps.views)
    for row in maps.rows[:8]:  # a window of 1 is the token itself, patches of 8 pixels
        assert [int(weights.argmax()) for weights in row.weights] == [10 * 15 + 1, 14]
    assert sheet.at(16, 1).picture.shape == (90 * sheet.factor, 120 * sheet.factor, 3)
    image = np.asarray(Image.open(photo))
    assert np.array_equal(sheet.at(0, 0).picture[0, :: sheet.factor], image[0])


@pytest.mark.parametrize('orientation', [1, 3, 6, 8])
def test_points_are_pixels_of_the_upright_photograph(run, photo, sheets, orientation, tmp_path):
    """The same picture, stored turned with an EXIF tag."""
    upright = Image.open(photo)
    turns = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    stored = upright.copy() if orientation == 1 else upright.transpose(turns[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / 'stored.png', exif=exif)
    arguments = ['--points', '110,20', '--demo', '--attention', 'VanillaSelfAttention']
    assert run('attention', tmp_path / 'stored.png', *arguments)[0] == 0
    assert run('attention', photo, *arguments)[0] == 0
    (turned, sheet), (plain, expected) = sheets
    assert torch.equal(turned.rows[0].weights[0], plain.rows[0].weights[0])
    assert np.array_equal(sheet.at(1, 0).picture, expected.at(1, 0).picture)
    assert (sheet.at(1, 0).picture[20 * sheet.factor, 110 * sheet.factor] == MARK).all()


def test_the_config_resizes_as_in_the_evaluation(run, photo, sheets, mini_json, mini_weights, tmp_path):
    """A photograph of 90 x 120 goes through Resize(scale=(2048, 336)) of VOC's config."""
    code, _, last = run(
        'attention', photo, '--points', '60,45', '--model-name', mini_json, '--pretrained', mini_weights,
        '--attention', 'VanillaSelfAttention', '--window',
    )  # fmt: skip
    assert code == 0, last
    ((maps, sheet),) = sheets
    assert maps.views[0].network == (336, 448) and maps.views[0].window == (112, 336, 112, 336)
    assert maps.rows[0].layer == 3
    assert 'out of 448 x 336' in ' '.join(text.text for text in sheet.texts)


WRONG = {
    'no point': (['--points', '10'], 'is no point. A point is X,Y'),
    'outside': (['--points', '120,10'], 'The point 120,10 lies outside the image, which is 120 x 90 pixels'),
    'layer': (['--layers', '6'], 'There is no block 6: this image tower has the blocks 1 to 5'),
    'layer 0': (['--layers', '0'], 'There is no layer 0: layers count from 1 to 5'),
    'layer word': (['--layers', 'last'], "invalid int value: 'last'"),
    'head': (['--heads', '5'], "heads is 5; it is 'mean', 'all' or a number from 1 to 4"),
    'head word': (['--heads', 'max'], "--heads is 'max'; it is mean, all or a number from 1."),
    'strategy': (['--attention', 'VanilaSelfAttention'], "Did you mean 'VanillaSelfAttention'?"),
    'parameter': (['--attention', 'LocalSelfAttention(windw=3)'], "Did you mean 'window'?"),
    'unreadable': (['--attention', 'Local SelfAttention'], 'cannot be read. It is written as Name, Name(key=value)'),
    'both': (['--whole', '--window'], 'not allowed with argument'),
    'config': (['--config', 'sclip_voc21'], 'Give one of them'),
    'checkpoint': (['--checkpoint', 'none.pth'], 'There is no checkpoint none.pth'),
    'side': (['--max-side', '0'], '--max-side is 0'),
}


@pytest.mark.parametrize('kind', WRONG)
def test_wrong_flags(run, photo, kind, tmp_path):
    flags, message = WRONG[kind]
    points = [] if '--points' in flags else ['--points', '5,5']
    code, _, last = run('attention', photo, *points, '--demo', '--out-dir', 'out', *flags)
    assert code == 1
    assert last.startswith('Error: ') and message in last
    assert not list(tmp_path.glob('out/*'))


def test_missing_and_damaged_images(run, photo, tmp_path):
    points = ['--points', '5,5', '--demo']
    assert 'Name an image file, or try the command with --demo' in run('attention')[2]
    assert 'Say which points' in run('attention', photo)[2]
    assert 'missing.jpg' in run('attention', 'missing.jpg', *points)[2]
    (tmp_path / 'half.png').write_bytes(photo.read_bytes()[:-300])
    code, _, last = run('attention', 'half.png', *points)
    assert code == 1 and 'half.png' in last
    (tmp_path / 'file').write_text('')
    assert 'file' in run('attention', photo, *points, '--out-dir', 'file/out')[2]


CONFIG = """
_base_ = {base!r}
custom_hooks = [
    dict(type='VocabularyCheckHook'),
    dict(type='AttentionVisualizationHook', {hook}),
]
test_dataloader = dict(num_workers=0, batch_size=2, dataset=dict(count=3))
"""


@pytest.fixture
def test_with_hook(run, tmp_path):
    from mmseg_sclip.paths import config_path

    def call(hook):
        path = tmp_path / 'hooked.py'
        path.write_text(CONFIG.format(base=str(config_path('sclip_demo')), hook=hook))
        forget_runs()
        return run('test', path, '--work-dir', tmp_path / 'work')

    return call


def test_the_hook_draws_what_the_tool_draws(run, test_with_hook, tmp_path, fresh_cache):
    code, out, last = test_with_hook("points=[(0.25, 0.5), (96, 80)], layers=[2, -1], out_dir='pictures'")
    assert code == 0, last
    pictures = sorted((tmp_path / 'pictures').iterdir())
    assert [path.name for path in pictures] == [f'00000{i}_attention.png' for i in range(3)]
    assert f'3 attention pictures are in {tmp_path / "pictures"}' in out
    (scenes,) = (fresh_cache / 'scenes').glob('*-3-*/images')
    for i in (0, 2):
        image = scenes / f'00000{i}.jpg'
        assert run('attention', image, '--demo', '--points', '32,64', '96,80', '--layers', 2, 5)[0] == 0
        by_tool = np.asarray(Image.open(tmp_path / 'work_dirs' / 'attention' / f'00000{i}_attention.png'))
        assert np.array_equal(np.asarray(Image.open(pictures[i])), by_tool)


def test_points_outside_and_intervals(test_with_hook, tmp_path):
    code, out, last = test_with_hook("points=[(5, 500)], interval=2, layers=[1], attention='VanillaSelfAttention'")
    assert code == 0, last
    assert re.search(r'0 attention pictures are in .*work/.*/attention; 2 images are smaller than every point', out)
    code, out, _ = test_with_hook("points=[(5, 50), (5, 500)], interval=2, layers=[1], attention=['config']")
    (folder,) = tmp_path.glob('work/*/attention')
    assert [path.name for path in sorted(folder.iterdir())] == ['000000_attention.png', '000002_attention.png']


@pytest.mark.parametrize(
    'hook, message',
    [
        ('points=[]', 'points is empty'),
        ('points=[(0.5, 3)]', 'a point is (x, y), two whole numbers'),
        ('points=[(1.5, 0.2)]', 'a point is (x, y)'),
        ('points=[(-1, 2)]', 'a point is (x, y)'),
        ('points=[(1, 2)], interval=0', 'interval is 0'),
        ("points=[(1, 2)], mode='window'", "mode is 'window'"),
        ('points=[(1, 2)], layers=[9]', 'There is no block 9'),
        ('points=[(1, 2)], heads=9', 'heads is 9'),
        ("points=[(1, 2)], attention=['Vanilla']", 'Did you mean'),
    ],
)
def test_wrong_hooks_stop_before_the_first_image(test_with_hook, hook, message):
    code, out, last = test_with_hook(hook)
    assert code == 1 and message in last
    assert 'Iter(test)' not in out


def test_pictures_of_one_name_do_not_overwrite_each_other():
    from mmseg_sclip.engine.attention_hook import _names

    assert _names(['a/x.jpg', 'b/x.jpg', 'c/x-2.png', 'y.jpg']) == {
        'a/x.jpg': 'x',
        'b/x.jpg': 'x-2',
        'c/x-2.png': 'x-2-2',
        'y.jpg': 'y',
    }


def test_the_hook_refuses_padded_images():
    hook = AttentionVisualizationHook([(0.5, 0.5)])
    from mmseg.structures import SegDataSample

    sample = SegDataSample(metainfo=dict(img_shape=(10, 10), ori_shape=(10, 10), img_path='a.jpg'))
    with pytest.raises(ValueError, match='a.jpg reaches the network padded or flipped'):
        hook._draw(None, torch.zeros(3, 16, 16), sample)


def test_help(run):
    code, out, _ = run('attention', '--help')
    assert code == 0
    for flag in (
        '--points',
        '--attention',
        '--layers',
        '--heads',
        '--whole',
        '--window',
        '--out-dir',
        '--pdf',
        '--demo',
    ):
        assert flag in out
