import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mmengine.logging import MMLogger
from PIL import Image

from mmseg_sclip import paths
from mmseg_sclip.ablation import running
from mmseg_sclip.ablation.rows import select
from mmseg_sclip.ablation.running import Entry
from mmseg_sclip.cli import main
from mmseg_sclip.engine import fingerprint
from mmseg_sclip.errors import MissingFileError

ROOT = Path(__file__).resolve().parents[2]


def ablate(out, *argv):
    return main.main(['ablate', '--out', str(out), '--demo-count', '3', '--device', 'cpu', *map(str, argv)])


def results(out):
    found = json.loads((out / 'results.json').read_text())
    return {(entry['table'], entry['row'], entry['dataset']): entry for entry in found}


@pytest.fixture(scope='module')
def out(tmp_path_factory):
    """A folder with three rows of the demo."""
    folder = tmp_path_factory.mktemp('ablate [x]')
    assert ablate(folder, '--table', '1', '3', '--rows', 'maskclip', 'sclip+pamr', 'local:1', '--demo-seed', '5') == 0
    return folder


def test_rows_of_the_demo(out):
    found = results(out)
    assert set(found) == {
        ('1', 'maskclip', 'demo'),
        ('1', 'sclip+pamr', 'demo'),
        ('3', 'maskclip', 'demo'),
        ('3', 'local:1', 'demo'),
    }
    for entry in found.values():
        assert (entry['seed'], entry['images'], entry['skipped'], entry['paper']) == (5, 3, None, None)
        assert 0 < entry['mIoU'] <= 100 and entry['seconds'] > 0
        result = json.loads(Path(entry['result']).read_text())
        assert entry['mIoU'] == round(result['metrics']['mIoU'], 2) and result['config'] == entry['config']
    local = found['3', 'local:1', 'demo']
    assert local['mIoU'] == found['1', 'maskclip', 'demo']['mIoU']  # a window of one patch is MaskCLIP
    assert len(list((out / 'runs').iterdir())) == 3  # maskclip of two tables is one run
    assert '## Table 1' in (out / 'tables.md').read_text()
    assert (out / 'tables.csv').read_text().startswith('table,row,numbers,demo,voc21\n')


def test_the_result_is_that_of_the_test_command(out, tmp_path):
    (tmp_path / 'refined.py').write_text(
        f"_base_ = '{paths.config_path('sclip_demo')}'\n"
        "model = dict(test_cfg=dict(refine=[dict(type='PAMR', steps=10, dilations=(8, 16))]))\n"
        'test_dataloader = dict(dataset=dict(seed=5, count=3))\n'
    )
    assert (
        main.main(['test', str(tmp_path / 'refined.py'), '--work-dir', str(tmp_path / 'work'), '--device', 'cpu']) == 0
    )
    result = json.loads((tmp_path / 'work' / 'result.json').read_text())
    row = json.loads(Path(results(out)['1', 'sclip+pamr', 'demo']['result']).read_text())
    assert row['classes'] == result['classes'] and row['metrics'] == result['metrics']


def test_finished_rows_are_not_run_again(out, monkeypatch, capsys):
    before = results(out)['1', 'maskclip', 'demo']
    with monkeypatch.context() as patch:
        patch.setattr(running, 'evaluate_methods', None)
        assert ablate(out, '--table', '1', '--rows', 'maskclip', '--demo-seed', '5') == 0
        assert results(out)['1', 'maskclip', 'demo'] == before
        said = capsys.readouterr().out
        assert '(kept)' in said and f'The tables are in {out / "results.json"} and' in said
        # Another setting is another run, and it fails here.
        change = ['--cfg-options', 'model.test_cfg.logit_scale=50']
        assert ablate(out, '--table', '1', '--rows', 'maskclip', '--demo-seed', '5', *change) == 1
    failed = results(out)['1', 'maskclip', 'demo']
    assert failed['mIoU'] is None and 'NoneType' in failed['skipped']
    assert 'FAILED' in capsys.readouterr().out


@pytest.mark.slow
def test_what_a_result_depends_on_is_run_again_when_it_changes(tmp_path, monkeypatch, capsys):
    package = tmp_path / 'package'
    shutil.copytree(paths.PACKAGE / 'models', package / 'models', ignore=shutil.ignore_patterns('__pycache__'))
    monkeypatch.setattr(fingerprint, 'PACKAGE', package)
    assert ablate(tmp_path / 'first', '--table', '1', '--rows', 'clip') == 0
    (images,) = (paths.cache_root() / 'scenes').glob('*evaluation-seed0-*-3-*/images')
    data = shutil.copytree(images.parent, tmp_path / 'data')
    capsys.readouterr()

    def kept(*argv):
        assert ablate(tmp_path / 'out', '--table', '1', '--rows', 'clip', '--data-root', f'demo={data}', *argv) == 0
        return '(kept)' in capsys.readouterr().out

    assert [kept(), kept()] == [False, True]
    with (package / 'models' / 'attention' / 'vanilla.py').open('a') as file:
        file.write('# edited\n')
    assert [kept(), kept()] == [False, True]
    label = next((data / 'annotations').iterdir())
    label.write_bytes(label.read_bytes())
    assert [kept(), kept()] == [False, True]
    workers = ['--cfg-options', 'test_dataloader.num_workers=0']
    assert kept(*workers)


def test_what_cannot_run_is_skipped_with_the_reason(tmp_path):
    rows = ['--table', '1', '2', '4', '--rows', 'clip', 'learned', 'mode2']
    where = ['--data-root', f'voc21={tmp_path / "no"}', f'voc20={tmp_path / "no"}']
    assert ablate(tmp_path, *rows, '--datasets', 'voc21', 'voc20', *where) == 0
    found = results(tmp_path)
    assert str(tmp_path / 'no') in found['1', 'clip', 'voc21']['skipped']
    assert '--data-root voc21=DIR' in found['1', 'clip', 'voc21']['skipped']
    assert found['1', 'clip', 'voc21']['paper'] == 18.8 and found['1', 'clip', 'voc21']['seed'] is None
    assert 'train_dataloader' in found['2', 'learned', 'voc21']['skipped']
    assert "called 'sclip_learned_voc20'" in found['2', 'learned', 'voc20']['skipped']
    assert ablate(tmp_path, '--table', '4', '--rows', 'mode2') == 0
    assert 'not resized' in results(tmp_path)['4', 'mode2', 'demo']['skipped']


@pytest.mark.slow
def test_a_row_without_a_number_is_skipped_with_the_reason(tmp_path):
    for part in ('images', 'annotations'):
        (tmp_path / 'data' / part).mkdir(parents=True)
    Image.new('RGB', (64, 64)).save(tmp_path / 'data' / 'images' / '0.jpg')
    Image.new('L', (64, 64), 255).save(tmp_path / 'data' / 'annotations' / '0.png')
    for _ in range(2):  # the second time it is kept
        argv = ['--table', '1', '--rows', 'clip', '--data-root', f'demo={tmp_path / "data"}']
        assert ablate(tmp_path / 'out', *argv) == 0
        entry = results(tmp_path / 'out')['1', 'clip', 'demo']
        assert entry['mIoU'] is None and 'all ground truth is ignored' in entry['skipped']
        assert 'clip (demo): There is no mIoU' in (tmp_path / 'out' / 'tables.md').read_text()


@pytest.mark.slow
def test_a_row_that_fails_leaves_the_others_alone(tmp_path, capsys):
    assert ablate(tmp_path, '--table', '3', '--rows', 'local:2', 'maskclip', '--demo-seed', '5') == 1
    found = results(tmp_path)
    assert 'odd number of patches' in found['3', 'local:2', 'demo']['skipped']
    assert found['3', 'maskclip', 'demo']['mIoU'] > 0
    assert '1 rows failed' in capsys.readouterr().out


@pytest.mark.slow
def test_a_row_alone_is_tried_once(tmp_path, monkeypatch):
    tried, test = [], running.evaluate_methods
    monkeypatch.setattr(running, 'evaluate_methods', lambda *args, **more: tried.append(1) or test(*args, **more))
    assert ablate(tmp_path, '--table', '3', '--rows', 'local:2') == 1
    assert len(tried) == 1 and 'odd number' in results(tmp_path)['3', 'local:2', 'demo']['skipped']


def test_the_projection_is_not_trained_on_the_scenes_that_it_is_tested_on(tmp_path, monkeypatch):
    roots = []

    def train(config, *_, **__):
        roots.extend(loader.dataset.get('data_root') for loader in (config.train_dataloader, config.test_dataloader))
        raise MissingFileError('No training here.')

    monkeypatch.setattr(running, 'train_projection', train)
    assert ablate(tmp_path, '--table', '2', '--rows', 'learned', '--data-root', f'demo={tmp_path}') == 0
    assert roots == [None, str(tmp_path)]


@pytest.mark.slow
def test_rows_that_share_their_images_are_one_pass_with_the_counts_of_rows_alone(tmp_path, monkeypatch):
    passes, test = [], running.evaluate_methods

    def counting(configs, *args, **options):
        passes.append(len(configs))
        return test(configs, *args, **options)

    monkeypatch.setattr(running, 'evaluate_methods', counting)
    rows = ['clip', 'maskclip', 'sclip', 'sharpening']
    assert ablate(tmp_path / 'one', '--table', '1', '3', '--rows', *rows) == 0
    assert passes == [4]  # rows of both tables are tested once
    one = results(tmp_path / 'one')
    for row in rows:
        assert ablate(tmp_path / 'each', '--table', '1', '3', '--rows', row) == 0
        for key, entry in results(tmp_path / 'each').items():
            first, second = (json.loads(Path(entry['result']).read_text()) for entry in (one[key], entry))
            assert first['classes'] == second['classes'] and first['fingerprint'] == second['fingerprint']


def test_nothing_of_a_run_stays_behind(tmp_path):
    before = set(MMLogger._instance_dict)
    ablate(tmp_path, '--table', '1', '--rows', 'clip')
    assert set(MMLogger._instance_dict) == before
    (log,) = (tmp_path / 'runs').glob('*/*/*.log')
    assert 'mIoU' in log.read_text()


@pytest.mark.slow
def test_the_learned_projection_is_trained_once_and_tested_with_its_checkpoint(tmp_path, monkeypatch):
    trained, train = [], running.train_projection
    monkeypatch.setattr(
        running, 'train_projection', lambda *args, **more: trained.append(args[1]) or train(*args, **more)
    )
    short = ['train_cfg.max_iters=2', 'train_dataloader.batch_size=1']
    for seed in (5, 6):
        options = ['--demo-seed', seed, '--cfg-options', *short]
        assert ablate(tmp_path, '--table', '2', '--rows', 'learned', *options) == 0
        (entry,) = results(tmp_path).values()
        result = json.loads(Path(entry['result']).read_text())
        assert result['weights']['checkpoint']['name'] == str(trained[0] / 'projection.pth')
    assert len(trained) == 1
    more = ['--cfg-options', *short, 'optim_wrapper.optimizer.lr=1']
    assert ablate(tmp_path, '--table', '2', '--rows', 'learned', *more) == 0
    assert len(trained) == 2 and trained[1] != trained[0]


@pytest.mark.slow
def test_the_learned_projection_counts_beside_other_rows_too(tmp_path, monkeypatch):
    def short(config, *args, train=running.train_projection, **more):
        config.merge_from_dict({'train_cfg.max_iters': 2, 'optim_wrapper.optimizer.lr': 1.0})
        return train(config, *args, **more)

    monkeypatch.setattr(running, 'train_projection', short)
    classes = []
    for rows in (['learned'], ['q', 'learned']):
        out = tmp_path / f'{len(rows)}'
        assert ablate(out, '--table', '2', '--rows', *rows) == 0
        found = {row: entry for (_, row, _), entry in results(out).items()}
        assert set(found) == set(rows)
        classes.append(json.loads(Path(found['learned']['result']).read_text())['classes'])
    assert classes[0] == classes[1]


@pytest.mark.parametrize(
    'argv, words',
    [
        (['--table', '5'], 'invalid choice'),
        (['--table', '1', '--rows', 'skclip'], "Did you mean 'sclip'?"),
        (['--table', '1', '--data-root', 'voc12=/x'], 'NAME=DIR'),
        (['--table', '1', '--datasets', 'voc12'], 'invalid choice'),
        (['--table', '1', '--demo-count', '0'], '--demo-count is 0'),
    ],
)
def test_wrong_flags(capsys, tmp_path, argv, words):
    assert main.main(['ablate', '--out', str(tmp_path / 'out'), *argv]) == 1
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / 'out').exists()


def test_a_folder_that_cannot_take_the_tables_is_refused_first(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(running, 'evaluate_methods', None)
    (tmp_path / 'tables.md').write_text('mine')
    assert ablate(tmp_path, '--table', '1', '--rows', 'clip') == 1
    assert 'tables.md is there already and was not written by' in capsys.readouterr().err.splitlines()[-1]
    assert ablate(tmp_path / 'tables.md' / 'out', '--table', '1', '--rows', 'clip') == 1
    assert '(--out): Not a directory' in capsys.readouterr().err.splitlines()[-1]
    assert (tmp_path / 'tables.md').read_text() == 'mine'


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, 'SIGKILL'), reason='no SIGKILL on this system')
def test_a_killed_command_goes_on(tmp_path, monkeypatch):
    rows = ['--table', '1', '--rows', 'clip', 'maskclip', 'sclip', '--demo-seed', '5', '--device', 'cpu']
    count = ['--demo-count', '40']  # so many that it cannot be over when it is killed
    command = [sys.executable, str(ROOT / 'tools' / 'ablate.py'), '--out', str(tmp_path), *rows]
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    process = subprocess.Popen([*command, *count], env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not any(b'\n' in path.read_bytes() for path in tmp_path.glob('runs/*/journal/*/counts*')):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / 'results.json').exists()
    monkeypatch.chdir(tmp_path)
    assert ablate(tmp_path, *rows, *count) == 0
    assert all(entry['mIoU'] > 0 and entry['images'] == 40 for entry in results(tmp_path).values())
    assert not list((tmp_path / 'runs').glob('*/journal'))


@pytest.mark.slow
def test_an_interrupted_row_goes_on_behind_its_last_image(tmp_path, monkeypatch):
    def stop(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx == 1:
            raise KeyboardInterrupt

    rows = ['--table', '1', '--rows', 'clip']
    with monkeypatch.context() as patch:
        patch.setattr('mmengine.hooks.IterTimerHook.after_test_iter', stop)
        with pytest.raises(KeyboardInterrupt):
            list(running.run([Entry('1', *select('1', ['clip']), 'demo', 0)], tmp_path, None, {}, three_images))
    (journal,) = tmp_path.glob('runs/*/journal')
    assert ablate(tmp_path, *rows) == 0
    assert not journal.exists()
    assert ablate(tmp_path / 'whole', *rows) == 0
    first, second = ((tmp_path / name).glob('runs/*/result.json') for name in ('.', 'whole'))
    one, other = (json.loads(next(paths).read_text()) for paths in (first, second))
    assert one['classes'] == other['classes'] and one['images'] == other['images'] == 3


def three_images(config, dataset):
    config.test_dataloader.dataset.count = 3
