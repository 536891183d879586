"""The benchmark: the tool's figures, its meters, and the plain implementation by hand."""

import importlib.util
import json
import sys
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from reference import class_probabilities

from mmseg_sclip import errors
from mmseg_sclip.config import load_config
from mmseg_sclip.errors import BadFileError, MissingFileError
from mmseg_sclip.paths import PACKAGE

TOOLS = PACKAGE.parent / 'tools'
sys.path.append(str(TOOLS))
from bench import measure, meters  # noqa: E402
from bench.inputs import build_model, find_items  # noqa: E402
from bench.meters import Stages, peak_gflops, peak_mib, seconds  # noqa: E402
from bench.report import rows  # noqa: E402

CPU = torch.device('cpu')


def load_tool():
    spec = importlib.util.spec_from_file_location('benchmark_tool', TOOLS / 'benchmark.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


main = load_tool().main


@pytest.fixture
def photographs(tmp_path, recipe):
    folder = tmp_path / 'photographs'
    folder.mkdir()
    for index, size in enumerate([(97, 130), (130, 97), (64, 64)]):
        cv2.imwrite(str(folder / f'{index}.png'), recipe.image(index, *size))
    return folder


@pytest.fixture
def figures(tmp_path, capsys):
    """Runs the tool and returns its figures, its output, and its signs of life."""

    def run_tool(*argv):
        file = tmp_path / 'figures.json'
        assert main([*map(str, argv), '--json', str(file)]) == 0
        captured = capsys.readouterr()
        return json.loads(file.read_text()), captured.out, captured.err

    return run_tool


# --- the tool ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_demo_has_truth_and_all_figures_fit_together(figures):
    found, printed, signs = figures('sclip_demo', '--max-images', 2, '--repeats', 1, '--precision', 'fp32', 'bf16')
    assert [run['precision'] for run in found] == ['fp32', 'bf16']
    assert found[0]['plain'] == found[1]['plain']  # measured once
    for run in found:
        assert (run['config'], run['size'], run['windows'], run['queries']) == ('sclip_demo', [128, 128], 9, 12)
        slow, fast, ratio = run['plain'], run['ours'], run['ratio']
        assert ratio['s_per_image'] == pytest.approx(slow['s_per_image'] / fast['s_per_image'])
        assert ratio['start_cold'] == pytest.approx(slow['start_s'] / fast['start_s'])
        assert set(fast['stages']) == {'load', 'windows', 'vit', 'text', 'pixels', 'evaluation'}
        assert all(value > 0 for value in fast['stages'].values())
        assert run['vit_share_of_peak'] == pytest.approx(run['vit_gflops'] / run['peak_gflops'])
        assert run['miou']['plain'] == found[0]['miou']['plain']
    assert found[0]['equal_pixels'] > 0.9999 > 0.9 < found[1]['equal_pixels']
    assert abs(found[0]['miou']['ours'] - found[0]['miou']['plain']) < 0.01
    for words in ('9 windows', '12 phrases', 'cold start', 'share of vit', 'same labels', 'mIoU'):
        assert words in printed
    assert 'sclip_demo: repetition 1 of 1, image 2 of 2, plain' in signs


@pytest.mark.slow
def test_methods_alone_and_in_one_pass(figures):
    methods = ['sclip', 'naclip', 'cliptrase']
    (run,), printed, _ = figures('sclip_demo', '--max-images', 2, '--repeats', 2, '--methods', *methods)
    assert [method['name'] for method in run['methods']] == methods
    for figure in (*run['methods'], run['together']):
        least, most = figure['spread']
        assert 0 < least <= figure['s_per_image'] <= most
    assert all(method['equal_pixels'] == 1 for method in run['methods'])
    for words in (*methods, 'all in one pass', 'one by one', 'times sclip'):
        assert words in printed


@pytest.mark.slow
def test_photographs_random_weights_and_another_size(figures, photographs, mini_json):
    (run,), _, _ = figures(
        *('sclip_voc21', '--model-name', mini_json, '--random-weights', '--images', photographs, '--size', '60x90'),
        *('--max-images', 1, '--repeats', 1, '--cfg-options', 'model.decode_head.templates=simple'),
    )
    assert (run['size'], run['images'], run['queries'], run['windows']) == ([60, 90], 1, 56, 8)
    assert run['miou'] is None
    assert run['equal_pixels'] > 0.999


@pytest.mark.parametrize(
    'argv, words',
    [
        (['--size', '60'], 'HEIGHTxWIDTH in pixels'),
        (['--size', '0x5'], 'HEIGHTxWIDTH in pixels'),
        (['--repeats', '0'], 'not a positive whole number'),
        (['--images', 'nowhere'], '--images nowhere is not a folder'),
        (['--precision', 'fp8'], 'fp8'),
        (['sclip_voc20', '--methods', 'clip'], '--methods needs one sclip_DATASET'),
        (['--methods', 'nothing'], 'nothing'),
        (['--random-weights'], 'builtin:demo brings its weights'),
        (['--json', '.'], 'is a folder'),
        (['--json', f'{__file__}/figures.json'], 'cannot be written'),
        (['--json', __file__], 'not written by mmseg_sclip'),
        (['--random-weights', '--pretrained', 'x'], 'exclude each other'),
    ],
    ids=str,
)
def test_wrong_arguments(argv, words, capsys):
    assert errors.run(main, ['sclip_demo', *argv]) == 1
    assert words in capsys.readouterr().err.strip().splitlines()[-1]


def test_what_the_plain_way_does_not_have_is_refused(tmp_path, capsys):
    config = load_config('sclip_demo')
    config.model.test_cfg.refine = [dict(type='PAMR')]
    config.dump(tmp_path / 'own.py')
    assert errors.run(main, [str(tmp_path / 'own.py')]) == 1
    assert 'which does not have test_cfg.refine' in capsys.readouterr().err.strip().splitlines()[-1]


def test_folders_without_images_and_damaged_ones(tmp_path):
    (tmp_path / 'a.txt').write_text('')
    with pytest.raises(MissingFileError, match='holds no image'):
        main(['sclip_demo', '--images', str(tmp_path)])
    (tmp_path / 'a.png').write_text('no image')
    with pytest.raises(BadFileError, match='a.png cannot be decoded'):
        main(['sclip_demo', '--images', str(tmp_path), '--size', '50x50'])


def test_sizes_and_files(photographs, tmp_path):
    init_default_scope('mmseg')
    config = load_config('sclip_voc20')
    items = find_items(config, photographs, None, 3, tmp_path)
    assert [item.size for item in items] == [(97, 130), (130, 97), (64, 64)]
    assert items[1].load()['inputs'].shape == (3, 450, 336)  # the short side becomes 336
    patterns = find_items(config, None, None, 2, tmp_path)
    assert [item.size for item in patterns] == [(375, 500)] * 2
    assert not np.array_equal(*(item.load()['inputs'].numpy() for item in patterns))


def test_patterns_stand_in_for_a_dataset_that_is_not_there(tmp_path, monkeypatch):
    init_default_scope('mmseg')
    monkeypatch.chdir(tmp_path)
    (item,) = find_items(load_config('sclip_context59'), None, None, 1, tmp_path)
    assert item.load()['inputs'].shape[0] == 3


# --- the plain way ----------------------------------------------------------------------------------------------------


def test_class_probabilities_by_hand():
    # Two queries for class 0, one for class 1; the logarithms make probabilities of 1/2, 1/4, 1/4 and so on.
    cosines = torch.tensor([[[2.0, 1, 1, 1]], [[1, 1, 4, 1]], [[1, 2, 3, 6]]]).log()  # (Q, 1, 4)
    expected = torch.tensor([[[2 / 4, 1 / 4, 4 / 8, 1 / 8]], [[1 / 4, 2 / 4, 3 / 8, 6 / 8]]])
    settings = dict(logit_scale=1, area_thd=None)
    torch.testing.assert_close(class_probabilities(cosines, (2, 1), settings, None), expected)
    # Class 1 has two of two pixels of the foreground: it stays below a threshold of 1, and goes at it.
    torch.testing.assert_close(class_probabilities(cosines, (2, 1), dict(logit_scale=1, area_thd=0.9), 0), expected)
    gone = class_probabilities(cosines, (2, 1), dict(logit_scale=1, area_thd=1.0), 0)
    torch.testing.assert_close(gone[0], expected[0])
    assert not gone[1].any()


# --- meters -----------------------------------------------------------------------------------------------------------


def test_stages_add_up_and_leave_no_hook():
    config = load_config('sclip_demo')
    model = build_model(config, 'fp32', CPU)
    model.decode_head.encode_vocabulary(CPU)
    modules = [*model.modules()]
    stages = Stages(CPU)
    image = torch.randn(1, 3, 64, 64)
    with stages.watching(model), torch.no_grad():
        taken, _ = seconds(lambda: model._forward(image), CPU)
    assert min(stages.seconds['text'], stages.seconds['vit']) > 0
    assert stages.seconds['text'] + stages.seconds['vit'] < taken
    before = dict(stages.seconds)
    model._forward(image)
    assert stages.seconds == before
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)


def test_memory_is_what_the_work_needs_at_its_peak():
    def work():
        held = torch.ones(24 * 2**20)  # 96 MiB
        return held.sum()

    found = peak_mib(work, CPU)
    if found is None:
        pytest.skip('this system does not tell its peak')
    assert 90 < found < 130


def test_seconds_and_peak_are_positive():
    taken, result = seconds(lambda: time.sleep(0.02) or 5, CPU)
    assert taken >= 0.02 and result == 5
    assert peak_gflops(torch.float32, CPU, repeats=2) > 0


@pytest.mark.parametrize('duration, products', [(0.2, 5), (0.8, 4), (8.0, 1)])
def test_the_peak_is_that_of_the_best_product_and_slow_ones_are_few(monkeypatch, duration, products):
    taken = []

    def slowing_down(work, device):
        taken.append(duration * (1 + len(taken) / 100))
        return taken[-1], None

    monkeypatch.setattr(meters, 'seconds', slowing_down)
    assert meters.peak_gflops(torch.float32, CPU, repeats=5) == pytest.approx(5.577375744 / duration)
    assert len(taken) == products


def test_medians_over_repetitions_and_means_over_images():
    timing = measure.Timing([[1.0, 9.0, 2.0], [4.0, 4.0, 7.0]], [None, None])
    assert timing.s_per_image == 3.0
    assert timing.spread == (2.5, 8.0)


def test_plain_start_is_scaled_to_all_phrases(mini_clip, monkeypatch):
    calls = []
    monkeypatch.setattr(measure, 'encode_phrase', lambda *_: calls.append(time.sleep(0.01)))
    config = load_config('sclip_ade20k')
    config.model.clip = mini_clip
    assert measure.plain_start(config, CPU) >= 150 * 0.01
    assert len(calls) == measure.PLAIN_PHRASES


def test_the_cache_of_words_is_empty_meanwhile(monkeypatch, tmp_path):
    from mmseg_sclip.paths import cache_root

    monkeypatch.setenv('MMSEG_SCLIP_CACHE', str(tmp_path))
    with measure.empty_cache():
        assert cache_root() != tmp_path and not list(cache_root().iterdir())
    assert cache_root() == tmp_path


def test_miou_by_hand():
    guess, truth = torch.tensor([[0, 0, 1]]), torch.tensor([[[0, 1, 1]]])
    sample = SimpleNamespace(get=lambda _: SimpleNamespace(data=truth))
    item = SimpleNamespace(load=lambda: dict(data_samples=sample))
    assert measure.miou([guess], [item], 3) == pytest.approx(50)  # 1/2 and 1/2; the third class is nowhere
    nothing = SimpleNamespace(load=lambda: dict(data_samples=SimpleNamespace(get=lambda _: None)))
    assert measure.miou([guess], [nothing], 3) is None


def test_rows_show_ratios_and_shares():
    run = dict(
        plain=dict(s_per_image=2.0, spread=(1.9, 2.2), start_s=80.0, peak_mib=None),
        ours=dict(
            s_per_image=0.5, spread=(0.4, 0.6), start_s=4.0, warm_start_s=0.1, peak_mib=100.0,
            stages=dict(load=0.1, vit=0.4),
        ),
        ratio=dict(s_per_image=4.0, start_cold=20.0, peak=None),
        windows=6, precision='fp32', equal_pixels=0.5, miou=None, peak_gflops=100.0, vit_gflops=90.0,
        vit_share_of_peak=0.9,
    )  # fmt: skip
    table = {name.strip(): cells for name, *cells in rows([run])}
    assert table['s an image'] == ['2.000', '0.500 (4.0x)']
    assert table['windows/s'] == ['3.00', '12.00']
    assert table['cold start, s'] == ['80.00', '4.00 (20x)']
    assert table['peak memory, MiB'] == ['?', '100 (?)']
    assert table['share of vit'] == ['', '80.0 %']
    assert table['share of the peak'] == ['', '90 %']
    assert table['same labels'] == ['', '50.000 %']
