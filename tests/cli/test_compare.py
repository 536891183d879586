"""The comparison tool as a person runs it."""

import re
import shutil
from pathlib import Path

import cv2
import mmengine
import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from mmseg.apis import inference_model, init_model
from mmseg.registry import MODELS
from PIL import Image

from mmseg_sclip.cli import compare, main
from mmseg_sclip.config import load_config
from mmseg_sclip.datasets import PaintedScenesDataset
from mmseg_sclip.files import is_ours

CONFIGS = ['configs/clip/clip_demo.py', 'configs/maskclip/maskclip_demo.py', 'configs/sclip_demo.py']
PALETTE = np.array(PaintedScenesDataset.METAINFO['palette'], np.uint8)
SCENES = ['--cfg-options', 'test_dataloader.dataset.count=4']


@pytest.fixture
def run(run, monkeypatch):
    """`run(*arguments)` gives the exit code, stdout and stderr of the tool."""
    monkeypatch.setenv('COLUMNS', '200')
    return lambda *arguments: run('compare', *arguments)


@pytest.fixture
def figures(monkeypatch):
    """Names of the images, and title and pixels of each picture, of every figure."""
    seen = []
    draw = compare.comparison_figure

    def watch(compared, *arguments, **more):
        figure = draw(compared, *arguments, **more)
        panels = [(cell.get_title(), np.asarray(cell.images[0].get_array())) for cell in figure.axes]
        seen.append(([image[0].subject.name for image in compared], panels, figure))
        return figure

    monkeypatch.setattr(compare, 'comparison_figure', watch)
    return seen


@pytest.fixture(scope='module')
def scenes(cache, tmp_path_factory):
    """A folder of four scenes, as a data_root."""
    from mmseg_sclip.datasets.painting import SceneSet, paint_folder

    return paint_folder(SceneSet(count=4), tmp_path_factory.mktemp('scenes'))


def miou(labels, scene, scenes):
    """In percent, by loops."""
    truth = np.asarray(Image.open(scenes / 'annotations' / f'{scene:06}.png'))
    pairs = [((labels == c) & (truth == c), (labels == c) | (truth == c)) for c in range(12)]
    return 100 * np.mean([both.sum() / either.sum() for both, either in pairs if either.any()])


def predictions(config, scenes):
    """The prediction and mIoU of the four scenes, through MMSeg's own functions and by loops."""
    model = init_model(config, device='cpu')
    found = []
    for scene in range(4):
        labels = inference_model(model, str(scenes / 'images' / f'{scene:06}.jpg')).pred_sem_seg.data[0].numpy()
        found.append((labels, miou(labels, scene, scenes)))
    return found


@pytest.fixture(scope='module')
def expected(scenes):
    """`predictions` of each of CONFIGS."""
    return [predictions(load_config(name), scenes) for name in CONFIGS]


def table(out):
    """The printed mIoU by image."""
    rows = [re.split(r'\s*[│┃]\s*', line)[1:-1] for line in out.splitlines() if line.startswith('│')]
    return {name: values for name, *values in rows}


@pytest.mark.slow
def test_the_command_of_the_readme(run, figures, expected, tmp_path):
    code, out, err = run(*CONFIGS, '--worst', 3, '--out-dir', 'out', '--pdf', '--error-map', *SCENES)
    assert code == 0, err
    order = sorted(range(4), key=lambda i: expected[0][i][1])[:3]
    ((names, panels, figure),) = figures
    assert names == [f'00000{i}' for i in order]
    assert table(out) == {f'00000{i}': [f'{method[i][1]:.2f}' for method in expected] for i in order}
    for path in (tmp_path / 'out' / 'comparison.png', tmp_path / 'out' / 'comparison.pdf'):
        assert f'The figure is {path}' in out and is_ours(path)
    assert figure.texts[0].get_text() == 'Lowest mIoU of clip_demo, image by image'
    for row, index in enumerate(order):
        here = panels[8 * row : 8 * row + 8]
        assert here[0][0] == f'00000{index}' and here[4][0] == 'ground truth'
        for name, method, (title, pixels) in zip(('clip', 'maskclip', 'sclip'), expected, here[1:4], strict=True):
            assert title == f'{name}_demo\nmIoU {method[index][1]:.1f}'
            assert np.array_equal(pixels, PALETTE[method[index][0]])
        assert all(title.endswith('% right') for title, _ in here[5:])


@pytest.mark.slow
def test_images_by_name_and_from_elsewhere(run, figures, expected, scenes, tmp_path):
    shutil.copy(scenes / 'images' / '000001.jpg', tmp_path / 'own [x].jpg')
    code, out, err = run(CONFIGS[2], CONFIGS[0], '--images', '000002', 'own [x].jpg', '000000', *SCENES)
    assert code == 0, err
    assert figures[0][0] == ['000002', 'own [x]', '000000']
    assert table(out)['own [x]'] == ['-', '-']
    assert table(out)['000002'] == [f'{expected[i][2][1]:.2f}' for i in (2, 0)]
    assert (tmp_path / 'work_dirs' / 'compare' / 'comparison.png').is_file()


class EveryFourthPixel(BaseModel):
    """A segmentor that gives labels at a quarter of the image's size, of a weight that only its checkpoint has."""

    def __init__(self, **more):
        super().__init__(**more)
        self.step = torch.nn.Parameter(torch.ones(()))

    def forward(self, inputs, data_samples, mode):
        for image, sample in zip(inputs, data_samples, strict=True):
            sample.pred_sem_seg = PixelData(data=(image[:1, 2::4, 2::4] // self.step).long())
        return data_samples


@pytest.mark.slow
def test_another_model_beside_methods_of_one_pass(run, figures, expected, scenes):
    """It is predicted with by itself, and its labels are brought to the size of the ground truth."""
    MODELS.register_module(module=EveryFourthPixel, force=True)
    config = load_config(CONFIGS[2])
    config.model, config.load_from = dict(type='EveryFourthPixel'), 'quarter.pth'
    torch.save(dict(state_dict=dict(step=torch.tensor(22.0))), 'quarter.pth')
    config.dump('quarter.py')
    images = [cv2.imread(str(scenes / 'images' / f'{scene:06}.jpg'))[2::4, 2::4, 0] for scene in range(3)]
    labels = [(image // 22).repeat(4, axis=0).repeat(4, axis=1) for image in images]
    own = [(each, miou(each, scene, scenes)) for scene, each in enumerate(labels)]
    methods = [expected[2], own, expected[0]]
    flags = ['--best', 2, '--by', 'gain', '--max-images', 3, '--error-map', '--model-name', 'builtin:demo', *SCENES]
    code, out, err = run(CONFIGS[2], 'quarter.py', CONFIGS[0], *flags)
    assert code == 0, err
    assert '--pretrained leave these configs alone, which have no CLIP of open_clip: quarter.\n' in err
    values = np.array([[value for _, value in method[:3]] for method in methods])
    best = np.argsort(values[0] - values[2])[:2]
    ((names, panels, _),) = figures
    assert names == [f'{scene:06}' for scene in best]
    assert table(out) == {f'{scene:06}': [f'{value:.2f}' for value in values[:, scene]] for scene in best}
    for column, method in enumerate(methods, 1):
        assert np.array_equal(panels[column][1], PALETTE[method[best[0]][0]])

    flags = ['--max-images', '1', '--out', 'maps', '--show-dir', 'pictures', *SCENES, 'test_dataloader.num_workers=0']
    assert main.main(['test', 'quarter.py', '--work-dir', 'work', *flags]) == 0
    assert mmengine.load('work/result.json')['metrics']['mIoU'] == pytest.approx(own[0][1])
    assert np.array_equal(np.asarray(Image.open('maps/000000.png')), labels[0])
    assert Path('pictures/000000.png').is_file()

    config.test_dataloader.dataset.pipeline[2:2] = [dict(type='Pad', size_divisor=128)]
    config.dump('quarter.py')
    code, _, err = run('quarter.py', '--worst', 1, *SCENES)
    assert code == 1 and 'has 64 x 64 labels, but is evaluated at 192 x 192 pixels, and the image was padded' in err


def test_pages_and_truth(run, figures, tmp_path):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'comparison_2.png').write_text('mine')
    arguments = [CONFIGS[0], '--images', '000000', '000001', '000002', '--out-dir', 'out', *SCENES]
    assert run(*arguments, '--rows', 2, '--no-gt')[0] == 0
    assert [names for names, *_ in figures] == [['000000', '000001'], ['000002']]
    written = sorted(path.name for path in (tmp_path / 'out').iterdir())
    assert written == ['comparison_1.png', 'comparison_2-2.png', 'comparison_2.png']
    assert (tmp_path / 'out' / 'comparison_2.png').read_text() == 'mine'
    assert all(title != 'ground truth' for title, _ in figures[0][1])


@pytest.fixture
def broken(scenes, tmp_path):
    """A copy of the scenes: the first image is cut, the second has no label map."""
    root = shutil.copytree(scenes, tmp_path / 'broken')
    image = root / 'images' / '000000.jpg'
    image.write_bytes(image.read_bytes()[:1000])
    (root / 'annotations' / '000001.png').unlink()
    return root


@pytest.mark.slow
def test_damaged_images_do_not_stop_the_others(run, figures, broken, tmp_path):
    code, out, err = run(*CONFIGS[:2], '--worst', 4, '--by', 'last', '--data-root', broken)
    assert code == 1
    assert sorted(figures[0][0]) == ['000002', '000003'] and set(table(out)) == {'000002', '000003'}
    assert figures[0][2].texts[0].get_text() == 'Lowest mIoU of maskclip_demo, image by image'
    assert '1 of 4 images have no ground truth and are not ranked.' in out
    assert re.search(r'000000.jpg was left out: .*damaged or no image', err)
    assert err.rstrip().endswith('Error: 1 image was left out; the reasons stand above.')
    code, _, err = run(CONFIGS[0], '--images', '000000', '--data-root', broken)
    assert code == 1 and len(figures) == 1
    assert err.rstrip().endswith('1 image was left out; the reasons stand above. No figure was drawn.')
