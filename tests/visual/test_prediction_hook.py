"""Pictures of predictions during a test."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import sample
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from PIL import Image

from mmseg_sclip.apis import SCLIPInferencer
from mmseg_sclip.config import load_config
from mmseg_sclip.engine.runner import build_runner, isolated
from mmseg_sclip.files import is_ours
from mmseg_sclip.visual import PredictionVisualizationHook, prediction_hook
from mmseg_sclip.visual.methods import Method


@pytest.fixture
def figures(monkeypatch):
    """What was drawn: arguments and figure."""
    seen = []
    draw = prediction_hook.prediction_figure

    def watch(*arguments):
        seen.append((arguments, draw(*arguments)))
        return seen[-1][1]

    monkeypatch.setattr(prediction_hook, 'prediction_figure', watch)
    return seen


@pytest.mark.slow
def test_a_second_test_replaces_the_pictures_of_the_first(tmp_path, figures):
    config = load_config('sclip_demo', {'test_dataloader.dataset.count': 2, 'test_dataloader.num_workers': 0})
    config.work_dir = str(tmp_path / 'work')
    config.default_hooks.visualization.update(draw=True, out_dir=str(tmp_path / 'pictures'))
    config.visualizer = dict(type='Visualizer', name='plain')  # which draws no labels itself
    with isolated():
        runner = build_runner(config, 'cpu')
        for count in (2, 4):
            runner.test()
            written = sorted((tmp_path / 'pictures').iterdir())
            assert [path.name for path in written] == ['000000.png', '000001.png'] and len(figures) == count
    assert all(map(is_ours, written))
    (image, labels, truth, names, palette), figure = figures[0]
    assert names[0] == 'grass' and palette[0] == (80, 150, 55)
    assert [cell.get_title() for cell in figure.axes] == ['ground truth', 'prediction']
    for cell, classes in zip(figure.axes, (truth, labels), strict=True):
        expected = (image + np.array(palette)[classes].astype(float)) / 2
        assert np.abs(cell.images[0].get_array() - expected).max() <= 0.5
    listed = [text.get_text() for text in figure.legends[0].get_texts()]
    assert listed == [name for label, name in enumerate(names) if label in labels or label in truth]


@pytest.fixture
def images(tmp_path, recipe):
    """Two images of one stem, stored with an EXIF tag that would turn them."""
    exif = Image.Exif()
    exif[0x0112] = 6
    paths = [tmp_path / folder / 'x.jpg' for folder in 'ab']
    for path in paths:
        path.parent.mkdir()
        Image.fromarray(recipe.image(0, 40, 60)).save(path, exif=exif, quality=100, subsampling=0)
    return paths


def run(hook, paths, visualizer=None):
    """The hook in a test whose labels are all 0."""
    dataset = SimpleNamespace(metainfo=dict(classes=['left', 'right'], palette=[[255, 0, 0], [0, 0, 255]]))
    loader, labels = SimpleNamespace(dataset=dataset), PixelData(data=torch.zeros(1, 40, 60, dtype=torch.int64))
    runner = SimpleNamespace(model=SimpleNamespace(), cfg={}, iter=0, visualizer=visualizer, test_dataloader=loader)
    hook.before_test(runner)
    for index, path in enumerate(paths):
        found = sample((40, 60), img_path=str(path))
        found.pred_sem_seg = labels
        hook.after_test_iter(runner, index, {}, [found])


def test_equal_stems_and_files_of_the_user(images, tmp_path, figures):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'x.png').write_text('mine')
    hook = PredictionVisualizationHook(draw=True, out_dir=str(tmp_path / 'out'))
    for _ in range(2):
        run(hook, images)
        assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['x-2.png', 'x-3.png', 'x.png']
    assert (tmp_path / 'out' / 'x.png').read_text() == 'mine'
    (image, *_), figure = figures[0]
    stored = np.asarray(Image.open(images[0]))  # Pillow gives RGB, and does not turn
    assert image.shape == (40, 60, 3) and np.abs(image.astype(int) - stored).mean() < 2
    assert [cell.get_title() for cell in figure.axes] == ['']


@pytest.mark.parametrize('show', [False, True])
def test_without_a_folder_the_visualizer_gets_them(images, show):
    seen = []
    visualizer = SimpleNamespace(
        show=lambda pixels, name, wait: seen.append(('show', name, pixels.shape)),
        add_image=lambda name, pixels, step: seen.append(('add', name, pixels.shape)),
    )
    run(PredictionVisualizationHook(draw=True, show=show, interval=2), images, visualizer)
    ((kind, name, shape),) = seen  # every second one
    assert (kind, name) == ('show' if show else 'add', 'x') and min(shape[:2]) > 200
    PredictionVisualizationHook().before_test(None)  # draws nothing, asks for nothing


def test_one_dataset_has_one_palette(tmp_path, mini_clip):
    """A dataset of one's own without colours, in the three commands that draw it."""
    config = load_config('sclip_voc21')
    config.model.clip = mini_clip
    head = dict(vocabulary=['wall', 'cat', 'dog'], class_names=None, background_index=0, templates='simple')
    config.model.decode_head.update(head)
    meta = dict(classes=('rest', 'cats', 'dogs'))
    dataset = dict(type='BaseSegDataset', metainfo=meta, pipeline=config.test_dataloader.dataset.pipeline)
    config.test_dataloader.dataset = dataset
    config.dump(tmp_path / 'own.py')
    hook, model = PredictionVisualizationHook(draw=True), MODELS.build(config.model)
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(meta, palette=[[9, 9, 9]] * 3)))
    hook.before_test(SimpleNamespace(model=model, cfg=config, test_dataloader=loader))
    assert hook._classes == ['rest', 'cats', 'dogs']
    assert hook._palette[0] == (0, 0, 0) and len(set(hook._palette)) == 3
    assert Method('own', config).palette == hook._palette
    assert SCLIPInferencer(config=tmp_path / 'own.py', device='cpu').colours == hook._palette
