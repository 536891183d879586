"""The rows of the paper's tables on the demo: one pass for rows of one dataset, and nothing is tested twice."""

import json
from pathlib import Path

import pytest
from mmengine.logging import MMLogger

from mmseg_sclip.ablation import running
from mmseg_sclip.cli import main
from mmseg_sclip.errors import MissingFileError

COUNT = 2


def ablate(out, *argv):
    return main.main(['ablate', '--out', str(out), '--demo-count', str(COUNT), '--device', 'cpu', *map(str, argv)])


def results(out):
    found = json.loads((out / 'results.json').read_text())
    return {(entry['table'], entry['row'], entry['dataset']): entry for entry in found}


@pytest.fixture(scope='module')
def out(tmp_path_factory):
    """A folder with three rows of the demo."""
    folder, before = tmp_path_factory.mktemp('ablate [x]'), {'mmengine', *MMLogger._instance_dict}
    assert ablate(folder, '--table', '1', '3', '--rows', 'maskclip', 'sclip+pamr', 'local:1', '--demo-seed', '5') == 0
    assert {'mmengine', *MMLogger._instance_dict} == before  # nothing of a run is left
    return folder


@pytest.fixture
def tested(monkeypatch):
    """The names of the rows of each pass that is tested; it gives them no number, and `local:2` ends in an error."""
    seen = []

    def test(entries, device, resume):
        seen.append([entry.method for entry in entries])
        if 'local:2' in seen[-1]:
            raise ValueError('an odd number of patches')
        for entry in entries:
            miou = None if entry.method == 'clip' else 10.0 + len(entry.method)
            entry.result = dict(images=2, metrics=dict(mIoU=miou), seconds=1.0)

    monkeypatch.setattr(running, 'evaluate_pass', test)
    return seen


@pytest.mark.slow
def test_rows_of_the_demo(out):
    found = results(out)
    rows = [('1', 'maskclip'), ('1', 'sclip+pamr'), ('3', 'maskclip'), ('3', 'local:1')]
    assert set(found) == {(*row, 'demo') for row in rows}
    for entry in found.values():
        assert (entry['seed'], entry['images'], entry['skipped'], entry['paper']) == (5, COUNT, None, None)
        assert 0 < entry['mIoU'] <= 100 and entry['seconds'] > 0
        result = json.loads(Path(entry['result']).read_text())
        assert entry['mIoU'] == round(result['metrics']['mIoU'], 2) and result['config'] == entry['config']
    # A window of one patch is MaskCLIP.
    assert found['3', 'local:1', 'demo']['mIoU'] == found['1', 'maskclip', 'demo']['mIoU']
    folders = list((out / 'runs').iterdir())
    assert len(folders) == 3  # maskclip of two tables is one run
    assert len([log for folder in folders for log in folder.glob('*/*.log')]) == 1  # of one pass
    assert '## Table 1' in (out / 'tables.md').read_text()
    assert (out / 'tables.csv').read_text().startswith('table,row,numbers,demo,voc21\n')


def test_finished_rows_are_not_tested_again(out, tested, capsys):
    before = results(out)['1', 'maskclip', 'demo']
    argv = ['--table', '1', '--rows', 'maskclip', '--demo-seed', '5']
    assert ablate(out, *argv) == 0 and not tested
    assert results(out)['1', 'maskclip', 'demo'] == before
    said = capsys.readouterr().out
    assert '(kept)' in said and f'The tables are in {out / "results.json"} and' in said
    assert ablate(out, *argv, '--cfg-options', 'model.test_cfg.logit_scale=50') == 0
    assert tested == [['maskclip']]  # another setting is another run


def test_a_row_that_fails_leaves_the_others_alone(tmp_path, tested, capsys):
    rows = ['--table', '1', '3', '--rows', 'local:2', 'maskclip', 'clip']
    assert ablate(tmp_path, *rows) == 1
    # The pass of all, and then each alone. A row of both tables is tested once.
    assert tested[0] == ['maskclip', 'clip', 'local:2'] and tested[1:] == [['maskclip'], ['clip'], ['local:2']]
    found = results(tmp_path)
    assert 'odd number of patches' in found['3', 'local:2', 'demo']['skipped']
    assert found['1', 'maskclip', 'demo']['mIoU'] == found['3', 'maskclip', 'demo']['mIoU'] == 18
    assert found['1', 'clip', 'demo']['mIoU'] is None
    assert 'all ground truth is ignored' in found['3', 'clip', 'demo']['skipped']
    said = capsys.readouterr().out
    assert '1 rows failed' in said and 'local:2: FAILED: ' in said and 'clip: skipped: There is no mIoU' in said


def test_what_cannot_run_is_skipped_with_the_reason(tmp_path, tested):
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


def test_peers_are_told_of_and_left_out_on_the_demo(tmp_path, tested):
    peers = ['groupvit', 'groupvit+pamr', 'reco', 'tcl', 'tcl+pamr', 'segclip', 'ovsegmentor']
    assert ablate(tmp_path, '--table', '1') == 0
    found = results(tmp_path)
    assert len(tested) == 1 and not {*tested[0]} & {*peers}
    assert all('stand in. Name it in --rows' in found['1', row, 'demo']['skipped'] for row in peers)
    lines = (tmp_path / 'tables.md').read_text().splitlines()
    at = lines.index('|  |  | paper | – | 25.1 [A] |')
    assert lines[at - 1] == '| reco | ReCo, with references of each class | measured | – | – |'
    assert ablate(tmp_path, '--table', '1', '--rows', 'reco') == 0 and tested[-1] == ['reco']
    assert results(tmp_path)['1', 'reco', 'demo']['mIoU'] == 14


@pytest.fixture
def trained(monkeypatch):
    """The folders of trainings, which take two iterations."""
    seen, train = [], running.train_projection

    def short(config, folder, **more):
        seen.append(folder)
        config.merge_from_dict({'train_cfg.max_iters': 2, 'optim_wrapper.optimizer.lr': 1.0})
        return train(config, folder, **more)

    monkeypatch.setattr(running, 'train_projection', short)
    return seen


def test_the_projection_is_not_trained_on_the_scenes_that_it_is_tested_on(tmp_path, tested, monkeypatch):
    roots = []

    def train(config, *_, **__):
        roots.extend(loader.dataset.get('data_root') for loader in (config.train_dataloader, config.test_dataloader))
        raise MissingFileError('No training here.')

    monkeypatch.setattr(running, 'train_projection', train)
    assert ablate(tmp_path, '--table', '2', '--rows', 'learned', '--data-root', f'demo={tmp_path}') == 0
    assert roots == [None, str(tmp_path)]


@pytest.mark.slow
def test_the_projection_is_trained_once_and_counts_beside_other_rows(tmp_path, trained):
    classes = []
    for seed, rows in ((5, ['learned']), (6, ['learned']), (6, ['q', 'learned'])):
        folder = tmp_path / f'{len(rows)}'
        assert ablate(folder, '--table', '2', '--rows', *rows, '--demo-seed', seed) == 0
        found = {row: entry for (_, row, _), entry in results(folder).items()}
        result = json.loads(Path(found['learned']['result']).read_text())
        assert result['weights']['checkpoint']['name'] == str(trained[-1] / 'projection.pth')
        classes.append(result['classes'])
    assert len(trained) == 2 and classes[1] == classes[2] != classes[0]
    more = ['--demo-seed', 6, '--cfg-options', 'train_dataloader.batch_size=1']
    assert ablate(tmp_path / '1', '--table', '2', '--rows', 'learned', *more) == 0
    assert len(trained) == 3 and trained[2] != trained[0]


def test_an_unfinished_row_goes_on_after_its_last_image(tmp_path, monkeypatch):
    argv, seen = ['--table', '1', '--rows', 'clip', '--cfg-options', 'test_dataloader.num_workers=0'], []

    def stop(self, runner, batch_idx, data_batch=None, outputs=None):
        seen.extend(sample.img_path for sample in outputs)
        if len(seen) == 2:  # the first is recorded
            raise KeyboardInterrupt

    monkeypatch.setattr('mmengine.hooks.IterTimerHook.after_test_iter', stop)
    assert ablate(tmp_path, *argv) == 130
    (journal,) = tmp_path.glob('runs/*/journal')
    assert ablate(tmp_path, *argv) == 0
    assert seen[1:] == [seen[1]] * 2 and not journal.exists()
    (entry,) = results(tmp_path).values()
    result = json.loads(Path(entry['result']).read_text())
    assert entry['images'] == COUNT and sum(each['truth'] for each in result['classes']) == COUNT * 192 * 192


def test_a_folder_that_cannot_take_the_tables_is_refused_first(tmp_path, capsys, tested):
    (tmp_path / 'tables.md').write_text('mine')
    assert ablate(tmp_path, '--table', '1', '--rows', 'clip') == 1
    assert 'tables.md is there already and was not written by' in capsys.readouterr().err.splitlines()[-1]
    assert (tmp_path / 'tables.md').read_text() == 'mine' and not tested
