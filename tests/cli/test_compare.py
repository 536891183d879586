"""The comparison tool as a person runs it."""

import re
import shutil
import sys

import numpy as np
import pytest
from mmseg.apis import inference_model, init_model
from PIL import Image

from mmseg_sclip.cli import compare, main
from mmseg_sclip.cli.configuring import load_config

CONFIGS = ['configs/baselines/clip_demo.py', 'configs/baselines/maskclip_demo.py', 'configs/sclip_demo.py']
SCENES = ['--cfg-options', 'test_dataloader.dataset.count=4']


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """`run(*arguments)` gives the exit code, stdout and stderr of the tool."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', list(sys.path))

    def call(*arguments):
        capfd.readouterr()
        code = main.main(['compare', *map(str, arguments)])
        return code, *capfd.readouterr()

    return call


@pytest.fixture
def sheets(monkeypatch):
    """Names of the images and the sheet of every figure."""
    seen = []
    draw = compare.compare_figure

    def watch(compared, *arguments, **more):
        seen.append(([image.subject.name for image in compared], draw(compared, *arguments, **more)))
        return seen[-1][1]

    monkeypatch.setattr(compare, 'compare_figure', watch)
    return seen


@pytest.fixture(scope='module')
def scenes(cache, tmp_path_factory):
    """A folder of four scenes, as a data_root."""
    from mmseg_sclip.demo.dataset import SceneSet, paint_folder

    return paint_folder(SceneSet(count=4), tmp_path_factory.mktemp('scenes'))


@pytest.fixture(scope='module')
def expected(scenes):
    """For each of CONFIGS the prediction and mIoU of the four scenes, through MMSeg's own functions and by loops."""
    found = []
    for name in CONFIGS:
        config = load_config(name)
        model = init_model(config, device='cpu')
        each = []
        for i in range(4):
            labels = inference_model(model, str(scenes / 'images' / f'00000{i}.jpg')).pred_sem_seg.data[0].numpy()
            truth = np.asarray(Image.open(scenes / 'annotations' / f'00000{i}.png'))
            ious = [
                ((labels == c) & (truth == c)).sum() / ((labels == c) | (truth == c)).sum()
                for c in range(12)
                if ((labels == c) | (truth == c)).any()
            ]
            each.append((labels, 100 * np.mean(ious)))
        found.append(each)
    return found


def table(out):
    """The printed mIoU by image."""
    rows = [re.split(r'\s*[│┃]\s*', line)[1:-1] for line in out.splitlines() if line.startswith('│')]
    return {name: values for name, *values in rows}


def test_the_command_of_the_readme(run, sheets, expected, tmp_path):
    code, out, err = run(*CONFIGS, '--worst', 3, '--out-dir', 'out', '--pdf', '--error-map', *SCENES)
    assert code == 0, err
    order = sorted(range(4), key=lambda i: expected[0][i][1])[:3]
    ((names, sheet),) = sheets
    assert names == [f'00000{i}' for i in order]
    assert table(out) == {f'00000{i}': [f'{method[i][1]:.2f}' for method in expected] for i in order}
    for suffix in ('png', 'pdf'):
        assert f'The figure is {tmp_path / "out" / f"comparison.{suffix}"}' in out
    drawn = np.asarray(Image.open(tmp_path / 'out' / 'comparison.png'))
    assert np.array_equal(drawn, np.asarray(sheet.draw()))

    from mmseg_sclip.datasets import PaintedScenesDataset

    palette = np.array(PaintedScenesDataset.METAINFO['palette'], np.uint8)
    for row, index in enumerate(order):
        for column, method in enumerate(expected):
            picture = sheet.at(2 * row, column + 1).picture[:: sheet.factor, :: sheet.factor]
            assert np.array_equal(picture, palette[method[index][0]])
            caption = f'mIoU {method[index][1]:.1f}'
            assert any(text.text == caption and text.x == sheet.at(0, column + 1).x for text in sheet.texts)
    names = {text.text: text.x for text in sheet.texts}
    for column, name in enumerate(('image', 'clip_demo', 'maskclip_demo', 'sclip_demo', 'ground truth')):
        assert names[name] == sheet.at(0, column).x
    assert 'Lowest mIoU of clip_demo, image by image' in names


@pytest.mark.parametrize('flag, by', [('--worst', 'last'), ('--best', 'gain')])
def test_orders(run, sheets, expected, by, flag):
    code, _, err = run(CONFIGS[0], CONFIGS[2], flag, 2, '--by', by, '--max-images', 3, *SCENES)
    assert code == 0, err
    first, last = ([value for _, value in expected[i][:3]] for i in (0, 2))
    values = dict(last=last, gain=np.subtract(last, first))[by]
    order = np.argsort(values)[:: -1 if flag == '--best' else 1][:2]
    assert sheets[0][0] == [f'00000{i}' for i in order]


def test_images_by_name_and_from_elsewhere(run, sheets, expected, scenes, tmp_path):
    shutil.copy(scenes / 'images' / '000001.jpg', tmp_path / 'own.jpg')
    code, out, err = run(CONFIGS[2], CONFIGS[0], '--images', '000002', 'own.jpg', '000000', *SCENES)
    assert code == 0, err
    assert sheets[0][0] == ['000002', 'own', '000000']
    rows = table(out)
    assert rows['own'] == ['-', '-']
    assert rows['000002'] == [f'{expected[i][2][1]:.2f}' for i in (2, 0)]
    assert (tmp_path / 'work_dirs' / 'compare' / 'comparison.png').is_file()


def test_pages_and_truth(run, sheets, tmp_path):
    arguments = [CONFIGS[0], '--images', '000000', '000001', '000002', '--out-dir', 'out', *SCENES]
    assert run(*arguments, '--rows', 2, '--no-gt')[0] == 0
    assert [names for names, _ in sheets] == [['000000', '000001'], ['000002']]
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['comparison_1.png', 'comparison_2.png']
    assert all(text.text != 'ground truth' for text in sheets[0][1].texts)


@pytest.fixture
def broken(scenes, tmp_path):
    """A copy of the scenes: the first image is cut, the second has no label map, the third a wrong label."""
    root = shutil.copytree(scenes, tmp_path / 'broken')
    image = root / 'images' / '000000.jpg'
    image.write_bytes(image.read_bytes()[:1000])
    (root / 'annotations' / '000001.png').unlink()
    labels = np.array(Image.open(root / 'annotations' / '000002.png'))
    labels[:5] = 77
    Image.fromarray(labels).save(root / 'annotations' / '000002.png')
    return root


def test_damaged_images_do_not_stop_the_others(run, sheets, broken, tmp_path):
    code, out, err = run(*CONFIGS[:2], '--images', '000000', '000001', '000002', '000003', '--data-root', broken)
    assert code == 1
    assert sheets[0][0] == ['000001', '000003']
    assert table(out)['000001'] == ['-', '-']
    assert re.search(r'000000.jpg was left out: .*damaged or no image', err)
    assert re.search(r'000002.jpg was left out: its label map has the labels \[77\], but the classes are 0 to 11', err)
    assert err.rstrip().endswith('Error: 2 images were left out; the reasons stand above.')
    assert (tmp_path / 'work_dirs' / 'compare' / 'comparison.png').is_file()


def test_damaged_images_are_not_ranked(run, sheets, broken):
    code, out, err = run(*CONFIGS[:2], '--worst', 4, '--by', 'gain', '--data-root', broken)
    assert code == 1
    assert sheets[0][0] == ['000003']
    assert '1 of 4 images have no ground truth and are not ranked.' in out
    assert '2 images were left out' in err


def test_nothing_left(run, sheets, broken):
    code, _, err = run(CONFIGS[0], '--images', '000000', '--data-root', broken)
    assert code == 1 and not sheets
    assert err.rstrip().endswith('1 image was left out; the reasons stand above. No figure was drawn.')


WRONG = {
    'no images': ([], 'one of the arguments --images --worst --best is required'),
    'two ways': (['--worst', 1, '--images', '000000'], 'not allowed with argument'),
    'none': (['--worst', 0], '--worst is 0; it must be at least 1'),
    'opacity': (['--worst', 1, '--opacity', 2], '--opacity is 2.0'),
    'by': (['--images', '000000', '--by', 'last'], '--by and --max-images belong to --worst and --best'),
    'gain': (['--worst', 1, '--by', 'gain'], 'Give two or more'),
    'unknown': (['--images', '00000O'], 'no image of the 4'),
    'gt': (['--images', 'own.jpg', '--gt'], '--gt: own.jpg has no ground truth'),
    'errors': (['--images', 'own.jpg', '--error-map'], '--error-map: none of the images has ground truth'),
    'root': (['--worst', 1, '--data-root', 'nowhere'], 'nowhere'),
    'twice': (['--worst', 1, CONFIGS[0]], 'is given twice'),
    'other': ([CONFIGS[2], 'sclip_voc21', '--worst', 1], 'have different classes: 12 and 21'),
    'config': (['no_such', '--worst', 1], 'No shipped config is called'),
    'device': (['--worst', 1, '--device', 'cuda:99'], '--device cuda:99 cannot be used'),
}


@pytest.mark.parametrize('kind', WRONG)
def test_wrong_flags(run, kind, scenes, tmp_path):
    flags, message = WRONG[kind]
    shutil.copy(scenes / 'images' / '000001.jpg', tmp_path / 'own.jpg')
    options = [] if kind in ('root', 'other') else SCENES
    code, _, err = run(CONFIGS[0], *flags, '--out-dir', 'out', *options)
    last = err.rstrip('\n').rpartition('\n')[2]
    assert code == 1
    assert last.startswith('Error: ') and message in last
    assert not list(tmp_path.glob('out/*.png'))


def test_help(run):
    code, out, _ = run('--help')
    assert code == 0
    for flag in [
        '--images',
        '--worst',
        '--best',
        '--by',
        '--gt',
        '--error-map',
        '--pdf',
        '--out-dir',
        '--data-root',
        '--device',
    ]:
        assert flag in out
