"""Painted scenes: always the same, painted once, whole or not at all."""

import errno
import threading
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from PIL import Image

from mmseg_sclip.datasets import PaintedScenesDataset, painting
from mmseg_sclip.datasets.painting import SceneSet, paint_folder
from mmseg_sclip.datasets.scenes import PURPOSES, scene
from mmseg_sclip.errors import BadFileError, ConfigError, OutputError

FEW = SceneSet(count=3, size=32)
STEPS = [dict(type=kind) for kind in ('LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs')]


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv('MMSEG_SCLIP_CACHE', str(tmp_path))
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob('*') if file.is_file()}


def test_every_parameter_has_a_folder_of_its_own(monkeypatch):
    assert SceneSet().name == f'v{painting.GENERATOR_VERSION}-evaluation-seed0-192px-100-6regions'
    changes = [{}, dict(purpose='training'), dict(seed=1), dict(count=101), dict(size=129), dict(max_regions=4)]
    names = {SceneSet(**change).name for change in changes}
    monkeypatch.setattr(painting, 'GENERATOR_VERSION', painting.GENERATOR_VERSION + 1)
    assert len(names | {SceneSet().name}) == len(changes) + 1


def test_two_that_ask_at_once_paint_once(tmp_path, monkeypatch):
    painted = []
    monkeypatch.setattr(painting, 'scene', lambda *which: painted.append(which) or scene(*which))
    threads = [threading.Thread(target=paint_folder, args=(FEW, tmp_path)) for _ in range(2)]
    for act in (threading.Thread.start, threading.Thread.join):
        for thread in threads:
            act(thread)
    assert len(painted) == FEW.count and folders(tmp_path) == [FEW.name]


def folders(root):
    return [path.name for path in root.iterdir() if path.is_dir()]


@pytest.mark.parametrize('killed', [False, True])
def test_interrupted_painting_leaves_nothing_for_ever(tmp_path, monkeypatch, killed):
    def interrupted(purpose, seed, index, *size):
        if index == 2:
            raise KeyboardInterrupt
        return scene(purpose, seed, index, *size)

    with monkeypatch.context() as patch:
        patch.setattr(painting, 'scene', interrupted)
        if killed:
            patch.setattr(painting.shutil, 'rmtree', lambda *_, **__: None)  # no time to clean up
        with pytest.raises(KeyboardInterrupt):
            paint_folder(FEW, tmp_path)
    assert [name[0] for name in folders(tmp_path)] == ['.'] * killed
    assert len(contents(folder := paint_folder(FEW, tmp_path))) == 2 * FEW.count
    assert folders(tmp_path) == [FEW.name]
    next(folder.glob('images/*')).unlink()
    with pytest.raises(BadFileError, match='holds 2 of 3 .* Delete'):
        paint_folder(FEW, tmp_path)


def test_a_cache_that_cannot_be_written_leaves_nothing_and_says_what_to_do(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(Image.Image, 'save', full)
    with pytest.raises(OutputError, match='painted scenes; MMSEG_SCLIP_CACHE moves them.*No space left'):
        paint_folder(FEW, tmp_path)
    assert folders(tmp_path) == []
    (tmp_path / 'file').write_text('')
    with pytest.raises(OutputError, match='Cannot write .*MMSEG_SCLIP_CACHE'):
        paint_folder(FEW, tmp_path / 'file')


def test_dataset_paints_once_into_the_cache(cache, tmp_path_factory, monkeypatch):
    lazy = PaintedScenesDataset(count=3, size=32, lazy_init=True)
    assert list(cache.iterdir()) == []
    lazy.full_init()
    folder = cache / 'scenes' / FEW.name
    assert [Path(sample['img_path']) for sample in lazy] == sorted(folder.glob('images/*'))
    given = paint_folder(FEW, tmp_path_factory.mktemp('given'))
    assert contents(given) == contents(folder) and len(contents(given)) == 2 * FEW.count
    monkeypatch.setattr(painting, 'scene', None)  # nothing is painted from here on
    assert len(PaintedScenesDataset(data_root=str(given), count=7, purpose='training')) == 3
    with DefaultScope.overwrite_default_scope('mmseg'):
        again = PaintedScenesDataset(count=3, size=32, pipeline=STEPS)
    assert len(again) == 3 and not again.metainfo['reduce_zero_label']
    for index, sample in enumerate(again):
        painted = scene('evaluation', 0, index, 32, 6)
        assert np.array_equal(sample['data_samples'].gt_sem_seg.data[0].numpy(), painted.label)
        loaded_bgr = sample['inputs'].numpy().transpose(1, 2, 0)
        assert np.abs((loaded_bgr[..., ::-1].astype(float) - painted.image).mean((0, 1))).max() < 3


@pytest.mark.parametrize('wrong', [dict(purpose='test'), dict(seed=-1), dict(count='two'), dict(size=64.0)])
def test_wrong_settings(wrong):
    with pytest.raises(ConfigError, match="choose one of 'evaluation|it must be a whole number from . on"):
        SceneSet(**wrong)
    with pytest.raises(ConfigError, match='a whole number from 1 to 12. Correct it .* test_dataloader.dataset.max_reg'):
        SceneSet(max_regions=13)


def test_the_training_sees_no_confetti_and_other_scenes_have_two_regions_to_be_seen(monkeypatch):
    scattered = []
    monkeypatch.setattr('mmseg_sclip.datasets.scenes._scatter_confetti', lambda rng, *where: scattered.append(where))
    counts = {}
    for purpose in PURPOSES:
        labels = [scene(purpose, 3, index, 24, 4).label for index in range(40)]
        counts[purpose] = [int((np.bincount(label.ravel()) >= 0.04 * label.size).sum()) for label in labels]
    assert len(scattered) == 80 and min(counts['training']) == 1 and max(map(max, counts.values())) == 4
    assert min(counts['evaluation']) == min(counts['projection']) == 2
    assert len(np.unique(scene('evaluation', 0, 0, 24, 1).label)) == 1  # where more are not allowed


def test_purposes_share_no_scene():
    """Nor do the first scenes of three seeds."""
    painted = [scene(purpose, seed, index, 16, 5) for purpose in PURPOSES for seed in range(3) for index in range(9)]
    assert len({one.image.tobytes() for one in painted}) == 3 * 3 * 9
