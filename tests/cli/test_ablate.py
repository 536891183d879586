import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mmengine.logging import MMLogger

from mmseg_sclip.ablation import runs
from mmseg_sclip.ablation.tables import select
from mmseg_sclip.cli import main

ROOT = Path(__file__).resolve().parents[2]
KEYS = ['table', 'row', 'config', 'dataset', 'seed', 'images', 'mIoU', 'paper', 'skipped', 'seconds']


def ablate(out, *argv):
    return main.main(['ablate', '--out', str(out), '--demo-count', '3', '--device', 'cpu', *map(str, argv)])


def results(out):
    found = json.loads((out / 'results.json').read_text())
    assert all(list(entry) == KEYS for entry in found)
    return {(entry['table'], entry['row'], entry['dataset']): entry for entry in found}


@pytest.fixture(scope='module')
def out(tmp_path_factory):
    """A folder with three rows of the demo."""
    folder = tmp_path_factory.mktemp('ablate')
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
    local = found['3', 'local:1', 'demo']
    assert local['config'] == 'ablations/sclip_local_demo'
    assert local['mIoU'] == found['1', 'maskclip', 'demo']['mIoU']  # a window of one patch is MaskCLIP
    assert len(list((out / 'runs').iterdir())) == 3  # maskclip of two tables is one run
    assert '## Table 1' in (out / 'tables.md').read_text()
    assert (out / 'tables.csv').read_text().startswith('table,row,numbers,demo,voc21\n')


def test_the_result_is_that_of_the_test_command(out, tmp_path, capsys):
    options = ['test_dataloader.dataset.seed=5', 'test_dataloader.dataset.count=3']
    argv = ['test', 'baselines/sclip_pamr_demo', '--work-dir', str(tmp_path), '--cfg-options', *options]
    assert main.main([*argv, '--device', 'cpu']) == 0
    (metrics,) = tmp_path.glob('*/*.json')
    assert results(out)['1', 'sclip+pamr', 'demo']['mIoU'] == pytest.approx(json.loads(metrics.read_text())['mIoU'])


def test_finished_runs_are_not_run_again(out, monkeypatch, capsys):
    before = results(out)['1', 'maskclip', 'demo']
    with monkeypatch.context() as patch:
        patch.setattr(runs, 'measure', None)
        assert ablate(out, '--table', '1', '--rows', 'maskclip', '--demo-seed', '5') == 0
        assert results(out)['1', 'maskclip', 'demo'] == before
        assert '(kept)' in capsys.readouterr().out
        # Another setting is another run, and it fails here.
        change = ['--cfg-options', 'model.test_cfg.logit_scale=50']
        assert ablate(out, '--table', '1', '--rows', 'maskclip', '--demo-seed', '5', *change) == 1
    failed = results(out)['1', 'maskclip', 'demo']
    assert failed['mIoU'] is None and 'NoneType' in failed['skipped']
    assert 'FAILED' in capsys.readouterr().out


def test_what_cannot_run_is_skipped_with_the_reason(tmp_path):
    argv = ['--table', '1', '2', '4', '--datasets', 'demo', 'voc21', 'voc20', '--rows', 'clip', 'identity', 'mode2']
    assert ablate(tmp_path, *argv, 'mode3', '--demo-seed', '5', '--data-root', f'voc21={tmp_path / "no"}') == 0
    found = results(tmp_path)
    assert 'There' not in (found['1', 'clip', 'demo']['skipped'] or '')
    assert str(tmp_path / 'no') in found['1', 'clip', 'voc21']['skipped']
    assert found['1', 'clip', 'voc21']['paper'] == 18.8 and found['1', 'clip', 'voc21']['seed'] is None
    assert 'voc21, context59, coco_stuff164k' in found['2', 'identity', 'voc20']['skipped']
    assert 'not resized' in found['4', 'mode2', 'demo']['skipped']
    assert 'none of the sources' in found['4', 'mode3', 'voc21']['skipped']


def test_a_row_that_fails_leaves_the_others_alone(tmp_path, capsys):
    assert ablate(tmp_path, '--table', '3', '--rows', 'local:2', 'maskclip', '--demo-seed', '5') == 1
    found = results(tmp_path)
    assert 'odd number of patches' in found['3', 'local:2', 'demo']['skipped']
    assert found['3', 'maskclip', 'demo']['mIoU'] > 0
    assert '1 runs failed' in capsys.readouterr().out


def test_nothing_of_a_run_stays_behind(tmp_path):
    before = set(MMLogger._instance_dict)
    ablate(tmp_path, '--table', '1', '--rows', 'clip')
    assert set(MMLogger._instance_dict) == before
    (log,) = (tmp_path / 'logs').glob('*/*/*.log')
    assert 'mIoU' in log.read_text()


def test_the_learned_projection_is_trained_once_and_tested_with_its_checkpoint(tmp_path, monkeypatch):
    import mmseg_sclip.learning as learning

    trained, tested = [], []

    def train(config, folder, seed=0, device=None, resume=False):
        trained.append((folder, resume, config.test_dataloader.dataset.count))
        folder.mkdir(parents=True)
        (folder / 'projection.pth').write_text('')
        return folder / 'projection.pth'

    monkeypatch.setattr(learning, 'train_projection', train)
    monkeypatch.setattr(runs, 'measure', lambda *args: tested.append(args[-1]) or dict(images=3, mIoU=1.0))
    for seed in (5, 6):
        assert ablate(tmp_path, '--table', '2', '--rows', 'learned', '--demo-seed', seed) == 0
    assert len(trained) == 1 and trained[0][1] and tested == [trained[0][0] / 'projection.pth'] * 2
    assert ablate(tmp_path, '--table', '2', '--rows', 'learned', '--cfg-options', 'optim_wrapper.optimizer.lr=1') == 0
    assert len(trained) == 2 and trained[1][0] != trained[0][0]


def key(tmp_path, name='sclip', dataset='demo', **settings):
    (row,) = select('1', [name])
    return runs.plan(row, dataset, runs.Settings(tmp_path, **settings)).key


def test_keys_change_with_what_changes_the_result(tmp_path):
    weights = tmp_path / 'weights.pt'
    weights.write_bytes(b'1')
    keys = [key(tmp_path), key(tmp_path, 'clip'), key(tmp_path, demo_seed=1), key(tmp_path, demo_count=5)]
    keys += [key(tmp_path, options={'model.test_cfg.logit_scale': 3}), key(tmp_path, pretrained=str(weights))]
    weights.write_bytes(b'22')
    keys.append(key(tmp_path, pretrained=str(weights)))
    assert len(set(keys)) == len(keys)
    assert key(tmp_path) == keys[0]
    assert key(tmp_path, options={'test_dataloader.num_workers': 0}) == keys[0]
    assert key(tmp_path / 'elsewhere') == keys[0]


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


@pytest.mark.skipif(not hasattr(signal, 'SIGKILL'), reason='no SIGKILL on this system')
def test_a_killed_command_goes_on(tmp_path, monkeypatch):
    rows = ['--table', '1', '--rows', 'clip', 'maskclip', 'sclip', '--demo-seed', '5', '--device', 'cpu']
    command = [sys.executable, str(ROOT / 'tools' / 'ablate.py'), '--out', str(tmp_path), *rows]
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    process = subprocess.Popen([*command, '--demo-count', '3'], env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / 'runs').glob('*.json')):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    kept = {path: path.read_text() for path in (tmp_path / 'runs').glob('*.json')}
    assert len(kept) < 3 and not (tmp_path / 'results.json').exists()
    monkeypatch.chdir(tmp_path)
    assert ablate(tmp_path, *rows) == 0
    assert all(path.read_text() == text for path, text in kept.items())
    assert all(entry['mIoU'] > 0 for entry in results(tmp_path).values())
