"""Several methods on one dataset: the numbers of `test`, in as few passes as the images allow."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmseg_sclip.ablation.protocols import common_protocol
from mmseg_sclip.cli import compare_methods, main
from mmseg_sclip.engine import evaluation
from mmseg_sclip.engine.evaluation import evaluate
from mmseg_sclip.engine.runner import isolated
from mmseg_sclip.errors import Interrupted, OutputError
from mmseg_sclip.paths import config_path

FEW = ['--max-images', '3', '--cfg-options', 'test_dataloader.num_workers=0', '--device', 'cpu']


def compare(out, *argv):
    return main.main(['compare-methods', '--out', str(out), *FEW, *map(str, argv)])


def classes(path):
    return json.loads(path.read_text())['classes']


@pytest.mark.slow
def test_each_method_has_the_numbers_of_the_test_command(tmp_path, capsys):
    assert compare(tmp_path / 'all', 'demo', '--methods', 'sclip', 'gem', 'pearl') == 0
    table = (tmp_path / 'all' / 'methods.md').read_text()
    rows = json.loads((tmp_path / 'all' / 'methods.json').read_text())['methods']
    assert [row['method'] for row in rows] == ['sclip', 'gem', 'pearl']
    for row in rows:
        work = tmp_path / row['method']
        assert main.main(['test', f'{row["method"]}_demo', '--work-dir', str(work), *FEW]) == 0
        alone = json.loads((work / 'result.json').read_text())
        assert classes(tmp_path / 'all' / row['result']) == alone['classes']
        assert row['mIoU'] == alone['metrics']['mIoU'] and row['images'] == 3
        assert f'| {row["method"]} | {row["mIoU"]:.2f} |' in table
    assert 'methods.md' in capsys.readouterr().out


@pytest.mark.slow
def test_one_protocol_for_all_is_one_pass(tmp_path):
    assert compare(tmp_path, 'demo', '--methods', 'sclip', 'naclip', 'cliptrase', '--protocol', 'common') == 0
    rows = json.loads((tmp_path / 'methods.json').read_text())['methods']
    assert {row['pass'] for row in rows} == {1}
    config = common_protocol('naclip', 'demo')
    config.test_dataloader.dataset.indices, config.work_dir = 3, str(tmp_path / 'alone')
    with isolated():
        alone = evaluate(config, 'cpu')
    result = json.loads((tmp_path / 'common' / 'naclip' / 'result.json').read_text())
    assert result['classes'] == alone['classes']
    assert result['config'] == 'naclip_demo (protocol of sclip)'


@pytest.mark.slow
def test_both_protocols_and_several_seeds_are_one_table(tmp_path):
    assert compare(tmp_path, 'demo', '--methods', 'sclip', 'gem', '--protocol', 'own', 'common', '--seeds', 5, 6) == 0
    rows = json.loads((tmp_path / 'methods.json').read_text())['methods']
    assert [(row['seed'], row['protocol'], row['method']) for row in rows] == [
        (seed, protocol, method) for seed in (5, 6) for protocol in ('own', 'common') for method in ('sclip', 'gem')
    ]
    first, second = ([row for row in rows if row['seed'] == seed] for seed in (5, 6))
    assert {row['pass'] for row in first}.isdisjoint(row['pass'] for row in second)
    low, high = sorted((first[0]['mIoU'], second[0]['mIoU']))
    assert f'| sclip | {(low + high) / 2:.2f} ({low:.2f}–{high:.2f}) |' in (tmp_path / 'methods.md').read_text()
    assert classes(tmp_path / 'seed5' / 'own' / 'sclip' / 'result.json') == classes(tmp_path / first[2]['result'])


@pytest.mark.slow
def test_own_configs_may_be_named(tmp_path):
    own, out = tmp_path / 'mine.py', tmp_path / 'out' / 'own'
    change = 'model = dict(backbone=dict(decoder=dict(residual=False)))'
    own.write_text(f"_base_ = '{config_path('sclip_demo')}'\n{change}\n")
    assert compare(tmp_path / 'out', 'demo', '--methods', 'sclip', own) == 0
    assert classes(out / 'mine' / 'result.json') != classes(out / 'sclip' / 'result.json')


@pytest.mark.slow
def test_parts_from_outside_run_in_the_same_pass(tmp_path):
    config = Path(__file__).parents[2] / 'examples' / 'own_head' / 'sclip_demo_centred.py'
    assert compare(tmp_path, 'demo', '--methods', 'sclip', config, '--protocol', 'own', 'common') == 0
    rows = json.loads((tmp_path / 'methods.json').read_text())['methods']
    assert [row['pass'] for row in rows] == [1] * 4
    assert main.main(['test', str(config), '--work-dir', str(tmp_path / 'alone'), *FEW]) == 0
    for row in (rows[1], rows[3]):  # it is what it is under both protocols
        assert classes(tmp_path / row['result']) == classes(tmp_path / 'alone' / 'result.json')


@pytest.mark.parametrize(
    'argv, words',
    [
        (['demo', '--methods', 'sclip', 'sclip'], 'names one of them twice'),
        (['voc21', '--methods', 'sclip', '--seeds', '1'], '--seeds is for the scenes of the demo, not for voc21'),
        (['demo', '--methods', 'skclip'], "called 'skclip_demo'"),
        (['demo', '--methods', 'sclip', '--protocol', 'mine'], 'invalid choice'),
        (['demo', '--methods', 'sclip', '--max-images', '-1'], '--max-images is -1; it must be at least 1'),
    ],
)
def test_wrong_flags(tmp_path, capsys, argv, words):
    assert compare(tmp_path / 'out', *argv) == 1
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / 'out').exists()


def test_a_foreign_table_is_not_replaced(tmp_path, capsys):
    (tmp_path / 'methods.md').write_text('mine')
    assert compare(tmp_path, 'demo', '--methods', 'sclip') == 1
    assert 'methods.md' in capsys.readouterr().err.splitlines()[-1]
    assert (tmp_path / 'methods.md').read_text() == 'mine'


@pytest.mark.slow
@pytest.mark.parametrize('on_error', ['stop', 'skip'])
def test_an_interrupted_command_goes_on_and_keeps_finished_passes(tmp_path, capsys, monkeypatch, on_error):
    argv = ['demo', '--methods', 'clip', 'maskclip', '--seeds', 5, 6, '--on-error', on_error]
    passes, test = [], compare_methods.evaluate_methods

    def stop(configs, *args):
        passes.append([config.test_dataloader.dataset.seed for config in configs])
        if len(passes) == 2:
            raise Interrupted(15, 'Partial result.')
        return test(configs, *args)

    monkeypatch.setattr(compare_methods, 'evaluate_methods', stop)
    monkeypatch.setattr('sys.argv', ['/usr/bin/mmseg-sclip'])
    assert compare(tmp_path / 'out', *argv) == 143
    last = capsys.readouterr().err.splitlines()[-1]
    assert 'Go on with: mmseg-sclip compare-methods --out' in last and last.endswith(f'--on-error {on_error} --resume')
    first = tmp_path / 'out' / 'seed5' / 'own' / 'clip' / 'result.json'
    before = first.stat().st_mtime_ns
    assert compare(tmp_path / 'out', *argv, '--resume') == 0
    assert passes == [[5, 5], [6, 6], [6, 6]] and first.stat().st_mtime_ns == before
    assert len(json.loads((tmp_path / 'out' / 'methods.json').read_text())['methods']) == 4
    # Another setting is another result, and a pass of which one method is missing is tested as a whole.
    assert compare(tmp_path / 'out', *argv, '--resume', '--max-images', 2) == 0
    (tmp_path / 'out' / 'seed6' / 'own' / 'clip' / 'result.json').unlink()
    assert compare(tmp_path / 'out', *argv, '--resume', '--max-images', 2) == 0
    assert passes[3:] == [[5, 5], [6, 6], [6, 6]]


@pytest.fixture
def data(tmp_path):
    """A dataset of three images in the layout of the demo."""
    folder = tmp_path / 'data'
    for part in ('images', 'annotations'):
        (folder / part).mkdir(parents=True)
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 12, (64, 64), dtype=np.uint8)
        Image.fromarray(pixels * 20).convert('RGB').save(folder / 'images' / f'{number}.jpg')
        Image.fromarray(pixels).save(folder / 'annotations' / f'{number}.png')
    return folder


@pytest.mark.slow
def test_what_was_skipped_and_what_could_not_be_written_is_told(data, tmp_path, capsys, monkeypatch):
    (data / 'images' / '1.jpg').write_bytes(b'no image')

    def refuse(*_):
        raise OutputError('No result.json on a full disk.')

    argv = ['demo', '--methods', 'clip', 'maskclip', '--data-root', data, '--on-error', 'skip']
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, 'write_result', refuse)
        assert compare(tmp_path / 'out', *argv) == 1
    out, err = capsys.readouterr()
    words = 'Error: The evaluation is done, but not all could be written. No result.json on a full disk. What was'
    assert err.splitlines()[-1].startswith(words)
    assert '1 images were skipped:\n' in out and out.count(f'{data}/images/1.jpg: ') == 1
    assert [row['images'] for row in json.loads((tmp_path / 'out' / 'methods.json').read_text())['methods']] == [2, 2]


@pytest.mark.slow
def test_methods_without_a_number_are_in_the_table(data, tmp_path):
    for path in (data / 'annotations').iterdir():
        Image.fromarray(np.full((64, 64), 255, np.uint8)).save(path)
    assert compare(tmp_path / 'ignored', 'demo', '--methods', 'clip', '--data-root', data) == 0
    for path in (data / 'images').iterdir():
        path.write_bytes(b'no image')
    assert compare(tmp_path / 'bad', 'demo', '--methods', 'clip', '--data-root', data, '--on-error', 'skip') == 0
    for name in ('ignored', 'bad'):
        (row,) = json.loads((tmp_path / name / 'methods.json').read_text())['methods']
        assert row['mIoU'] is row['aAcc'] is None
        assert '| clip | – | – | – |' in (tmp_path / name / 'methods.md').read_text()
