"""The benchmark's figures, and the soak test."""

import importlib.util
import json
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope

from mmseg_sclip import errors
from mmseg_sclip.config import load_config
from mmseg_sclip.engine.metric import ExactIoUMetric
from mmseg_sclip.errors import ConfigError, MissingFileError, UsageError
from mmseg_sclip.paths import PACKAGE

TOOLS = PACKAGE.parent / 'tools'
sys.path.append(str(TOOLS))
import soak  # noqa: E402
from bench import measure  # noqa: E402
from bench.inputs import find_items, without_weights  # noqa: E402


def load_tool():
    spec = importlib.util.spec_from_file_location('benchmark_tool', TOOLS / 'benchmark.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


main = load_tool().main


@pytest.fixture
def figures(tmp_path, capsys):
    """Runs the tool and returns its figures, its output, and its signs of life."""

    def run_tool(*argv):
        file = tmp_path / 'figures.json'
        assert main([*map(str, argv), '--json', str(file)]) == 0
        return json.loads(file.read_text()), *capsys.readouterr()

    return run_tool


@pytest.mark.slow
def test_the_demo_has_truth_and_all_figures_fit_together(figures):
    found, printed, signs = figures('sclip_demo', '--max-images', 2, '--repeats', 1, '--precision', 'fp32', 'bf16')
    assert [run['precision'] for run in found] == ['fp32', 'bf16']
    assert found[0]['plain'] == found[1]['plain']  # measured once
    for run in found:
        assert (run['config'], run['size'], run['windows'], run['queries']) == ('sclip_demo', [192, 192], 16, 12)
        slow, fast, ratio = run['plain'], run['ours'], run['ratio']
        assert ratio['s_per_image'] == pytest.approx(slow['s_per_image'] / fast['s_per_image'])
        assert ratio['start_cold'] == pytest.approx(slow['start_s'] / fast['start_s'])
        assert set(fast['stages']) == {'load', 'windows', 'vit', 'text', 'pixels', 'evaluation'}
        assert all(value > 0 for value in fast['stages'].values())
        assert run['vit_share_of_peak'] == pytest.approx(run['vit_gflops'] / run['peak_gflops'])
    assert found[0]['equal_pixels'] > 0.9999 > 0.9 < found[1]['equal_pixels']
    assert abs(found[0]['miou']['ours'] - found[0]['miou']['plain']) < 0.01
    for words in ('16 windows', '12 phrases', 'cold start', 'share of vit', 'same labels', 'mIoU'):
        assert words in printed
    assert 'sclip_demo: repetition 1 of 1, image 2 of 2, plain' in signs


@pytest.mark.slow
def test_methods_alone_and_in_one_pass(figures):
    names = ['sclip', 'naclip', 'cliptrase', 'proxyclip']
    (run,), printed, _ = figures('sclip_demo', '--max-images', 2, '--repeats', 2, '--methods', *names)
    assert [method['name'] for method in run['methods']] == names and 'all in one pass' in printed
    for figure in (*run['methods'], run['together']):
        least, most = figure['spread']
        assert 0 < least <= figure['s_per_image'] <= most
    assert all(method['equal_pixels'] == 1 for method in run['methods'])


@pytest.mark.parametrize(
    'argv, words',
    [
        (['--size', '60'], 'HEIGHTxWIDTH in pixels'),
        (['--repeats', '0'], 'not a positive whole number'),
        (['--images', 'nowhere'], '--images nowhere is not a folder'),
        (['sclip_voc20', '--methods', 'clip'], '--methods needs one sclip_DATASET'),
        (['--random-weights'], 'builtin:demo brings its weights'),
        (['--json', __file__], 'not written by mmseg_sclip'),
        (['--random-weights', '--pretrained', 'x'], 'exclude each other'),
    ],
    ids=str,
)
def test_wrong_arguments(argv, words, capsys):
    assert errors.run(main, ['sclip_demo', *argv]) == 1
    assert words in capsys.readouterr().err.strip().splitlines()[-1]


def test_what_cannot_be_measured(tmp_path):
    config = load_config('sclip_demo')
    config.test_dataloader.dataset.count, config.model.test_cfg.refine = 2, [dict(type='PAMR')]
    config.dump(tmp_path / 'own.py')
    with pytest.raises(ConfigError, match='which does not have test_cfg.refine'):
        main([str(tmp_path / 'own.py')])
    with pytest.raises(MissingFileError, match='holds no image'):
        main(['sclip_demo', '--images', str(tmp_path)])


def test_sizes_and_files(tmp_path, recipe):
    init_default_scope('mmseg')
    for index, size in enumerate([(97, 130), (130, 97), (64, 64)]):
        cv2.imwrite(str(tmp_path / f'{index}.png'), recipe.image(index, *size))
    config = load_config('sclip_voc20')
    items = find_items(config, tmp_path, None, 3, tmp_path)
    assert [item.size for item in items] == [(97, 130), (130, 97), (64, 64)]
    assert items[1].load()['inputs'].shape == (3, 450, 336)  # the short side becomes 336
    patterns = find_items(config, None, None, 2, tmp_path)
    assert [item.size for item in patterns] == [(375, 500)] * 2
    assert not np.array_equal(*(item.load()['inputs'].numpy() for item in patterns))


def test_second_networks_need_no_files():
    companions = {**load_config('proxyclip_voc20').model.companions, 'bank': dict(type='FilterBank')}
    found = without_weights(companions)
    assert found['dino'] == {**companions['dino'], 'pretrained': None} and found['bank'] == dict(type='FilterBank')


def test_medians_and_miou_by_hand():
    timing = measure.Timing([[1.0, 9.0, 2.0], [4.0, 4.0, 7.0]], [None, None])
    assert (timing.s_per_image, timing.spread) == (3.0, (2.5, 8.0))
    guess, truth = torch.tensor([[0, 0, 1]]), torch.tensor([[[0, 1, 1]]])
    sample = SimpleNamespace(get=lambda _: SimpleNamespace(data=truth))
    item = SimpleNamespace(load=lambda: dict(data_samples=sample))
    assert measure.miou([guess], [item], 3) == pytest.approx(50)  # 1/2 and 1/2; the third class is nowhere
    nothing = SimpleNamespace(load=lambda: dict(data_samples=SimpleNamespace(get=lambda _: None)))
    assert measure.miou([guess], [nothing], 3) is None


@pytest.mark.slow
@pytest.mark.parametrize('leak', [0, 32])
def test_a_leak_is_found(fresh_engine, monkeypatch, capsys, leak):
    """So many MiB stay in memory with every image; 32 are more than a process gives back meanwhile."""
    leaked, process = [], ExactIoUMetric.process

    def leaking(self, *args):
        leaked.append(b'\x01' * (leak << 20))
        process(self, *args)

    monkeypatch.setattr(ExactIoUMetric, 'process', leaking)
    assert soak.main(['--images', '12', '--warm-up', '4', '--device', 'cpu']) == (leak > 0)
    assert '12 images; from image 4 on the memory grew by ' in capsys.readouterr().out


def test_a_run_without_a_warm_up_is_refused():
    with pytest.raises(UsageError, match='the warm-up is 1 image or more, but shorter'):
        soak.main(['--images', '4', '--warm-up', '4'])
