"""The benchmark: the plain way against goldens and by hand, the meters, and the tool's figures."""

import json
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmseg_sclip.benchmark import plain, start
from mmseg_sclip.benchmark.inputs import file_items, usual_size
from mmseg_sclip.benchmark.measure import Stages, peak_gflops, peak_mib, seconds
from mmseg_sclip.benchmark.report import rows
from mmseg_sclip.benchmark.run import Timing, miou
from mmseg_sclip.cli.benchmark import main
from mmseg_sclip.cli.configuring import load_config
from mmseg_sclip.cli.main import main as run_command
from mmseg_sclip.models.clip import ClipSource
from mmseg_sclip.models.postprocess import class_scores, suppress_small_classes

CPU = torch.device('cpu')


@pytest.fixture
def photographs(tmp_path, recipe):
    folder = tmp_path / 'photographs'
    folder.mkdir()
    for index, size in enumerate([(97, 130), (130, 97), (64, 64)]):
        cv2.imwrite(str(folder / f'{index}.png'), recipe.image(index, *size))
    return folder


@pytest.fixture
def figures(tmp_path, capsys):
    """Runs the tool and returns its figures, its output, and its code."""

    def run(*argv):
        file = tmp_path / 'figures.json'
        assert main([*map(str, argv), '--json', str(file)]) == 0
        return json.loads(file.read_text()), capsys.readouterr().out

    return run


# --- the tool ---------------------------------------------------------------------------------------------------------


def test_the_demo_has_truth_and_all_figures_fit_together(figures):
    found, printed = figures('sclip_demo', '--max-images', 2, '--repeats', 1, '--precision', 'fp32', 'bf16')
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


def test_photographs_random_weights_and_another_size(figures, photographs, mini_json):
    found, _ = figures(
        *('sclip_voc21', '--model-name', mini_json, '--random-weights', '--images', photographs, '--size', '60x90'),
        *('--max-images', 1, '--repeats', 1, '--cfg-options', 'model.decode_head.templates=simple'),
    )
    (run,) = found
    assert (run['size'], run['images'], run['queries'], run['windows']) == ([60, 90], 1, 56, 8)
    assert run['miou'] is None
    assert run['equal_pixels'] > 0.999


@pytest.mark.parametrize(
    'argv, words',
    [
        (['--size', '60'], 'HEIGHTxWIDTH in pixels'),
        (['--size', '0x5'], 'HEIGHTxWIDTH in pixels'),
        (['--repeats', '0'], 'no positive whole number'),
        (['--images', 'nowhere'], '--images nowhere is no folder'),
        (['--precision', 'fp8'], 'fp8'),
        (['--random-weights'], 'builtin:demo brings its weights'),
        (['--json', '.'], 'is a folder'),
        (['--json', f'{__file__}/figures.json'], 'cannot be written'),
        (['--random-weights', '--pretrained', 'x'], 'exclude each other'),
        (['--cfg-options', 'model.test_cfg.pamr.steps=2'], 'does not have test_cfg.pamr'),
    ],
    ids=str,
)
def test_wrong_arguments(argv, words, capsys):
    assert run_command(['benchmark', 'sclip_demo', *argv]) == 1
    assert words in capsys.readouterr().err.strip().splitlines()[-1]


def test_json_on_the_standard_output_is_nothing_else(capsys, mini_json):
    argv = [
        '--model-name',
        str(mini_json),
        '--random-weights',
        '--size',
        '60x90',
        '--max-images',
        '1',
        '--repeats',
        '1',
    ]
    assert main(['sclip_voc20', *argv, '--json', '-', '--cfg-options', 'model.decode_head.templates=simple']) == 0
    captured = capsys.readouterr()
    assert [run['config'] for run in json.loads(captured.out)] == ['sclip_voc20']
    assert 'windows/s' in captured.err


def test_the_text_cache_is_moved_and_weights_are_not(mini_clip, tmp_path):
    source = ClipSource(dict(mini_clip, cache_dir=str(tmp_path)))
    with start.empty_text_cache():
        assert source.text_cache() != tmp_path / 'text_banks' and source.config.cache_dir == str(tmp_path)
    assert source.text_cache() == tmp_path / 'text_banks'


def test_a_folder_without_images_and_a_damaged_one(tmp_path):
    (tmp_path / 'a.txt').write_text('')
    with pytest.raises(FileNotFoundError, match='holds no image'):
        main(['sclip_demo', '--images', str(tmp_path)])
    (tmp_path / 'a.png').write_text('no image')
    with pytest.raises(ValueError, match='a.png cannot be decoded'):
        main(['sclip_demo', '--images', str(tmp_path), '--size', '50x50'])


# --- the plain way ----------------------------------------------------------------------------------------------------


def test_class_probabilities_by_one_hot_products_equal_grouped_maxima():
    torch.manual_seed(0)
    cosines, sizes = torch.rand(7, 5, 6), (2, 1, 3, 1)
    settings = dict(logit_scale=9, area_thd=0.3)
    ours = suppress_small_classes(class_scores(cosines, 9, sizes), 0.3, 0)
    assert torch.equal(plain.class_probabilities(cosines, sizes, settings, 0), ours)
    expected = F.softmax(cosines * 9, 0)
    settings['area_thd'] = None
    assert torch.equal(plain.class_probabilities(cosines, sizes, settings, 0)[2], expected[3:6].amax(0))


# --- meters -----------------------------------------------------------------------------------------------------------


def test_stages_count_wrapped_methods_and_leave_no_trace():
    class Thing:
        def slow(self):
            return time.sleep(0.02) or 7

        def fast(self):
            return 3

    thing = Thing()
    stages = Stages(CPU)
    with stages.watching(work0=(thing, 'slow'), work1=(thing, 'fast')):
        assert (thing.slow(), thing.fast(), thing.slow()) == (7, 3, 7)
    assert 0.04 <= stages.seconds['work'] < 1
    counted = stages.seconds['work']
    thing.slow()
    assert stages.seconds['work'] == counted and not vars(thing)


def test_stages_of_a_module_leave_no_trace():
    module = torch.nn.Linear(2, 2)
    stages = Stages(CPU)
    with stages.watching(work=(module, 'forward')):
        module(torch.randn(1, 2))
    assert stages.seconds['work'] > 0
    assert 'forward' not in vars(module)


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


def test_medians_over_repetitions_and_means_over_images():
    timing = Timing([[1.0, 9.0, 2.0], [4.0, 4.0, 7.0]], [None, None])
    assert timing.s_per_image == 3.0
    assert timing.spread == (2.5, 8.0)


def test_plain_start_is_scaled_to_all_phrases(mini_clip, monkeypatch):
    monkeypatch.setattr(start.plain, 'encode_phrase', lambda *_: time.sleep(0.01))
    config = load_config('sclip_ade20k')
    config.model.clip = mini_clip
    found = start.measure_start(config, None, CPU)
    assert found.warm is None
    assert 150 * 0.01 <= found.cold < 150 * 0.01 * 3


def test_miou_by_hand():
    guess, truth = torch.tensor([[0, 0, 1]]), torch.tensor([[[0, 1, 1]]])
    sample = SimpleNamespace(get=lambda _: SimpleNamespace(data=truth))
    item = SimpleNamespace(load=lambda: dict(data_samples=sample))
    assert miou([guess], [item], 3) == pytest.approx(50)  # 1/2 and 1/2; the third class is nowhere
    nothing = SimpleNamespace(load=lambda: dict(data_samples=SimpleNamespace(get=lambda _: None)))
    assert miou([guess], [nothing], 3) is None


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


# --- inputs -----------------------------------------------------------------------------------------------------------


def test_sizes_and_files(photographs, tmp_path):
    from mmengine.registry import init_default_scope

    init_default_scope('mmseg')
    sizes = {'sclip_voc20': (375, 500), 'sclip_ade20k': (512, 683), 'sclip_cityscapes': (1024, 2048)}
    assert {name: usual_size(load_config(name)) for name in sizes} == sizes
    config = load_config('sclip_voc20')
    paths = sorted(photographs.iterdir())
    items = file_items(config, paths, None, 3, tmp_path)
    assert [item.size for item in items] == [(97, 130), (130, 97), (64, 64)]
    assert items[1].load()['inputs'].shape == (3, 450, 336)  # the short side becomes 336
    patterns = file_items(config, [], (50, 70), 2, tmp_path)
    assert [item.size for item in patterns] == [(50, 70)] * 2
    assert not np.array_equal(*(item.load()['inputs'].numpy() for item in patterns))
