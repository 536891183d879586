"""Several methods on one dataset: the numbers of `test`, in as few passes as the images allow."""

import json
from pathlib import Path

import pytest

from mmseg_sclip.ablation.protocols import common_protocol
from mmseg_sclip.cli import main
from mmseg_sclip.comparing import runs
from mmseg_sclip.config import load_config
from mmseg_sclip.engine.evaluation import evaluate
from mmseg_sclip.engine.fingerprint import digest, fingerprint
from mmseg_sclip.engine.result import write_result
from mmseg_sclip.engine.runner import isolated
from mmseg_sclip.errors import Interrupted
from mmseg_sclip.options import own_options

FEW = ['--cfg-options', 'test_dataloader.num_workers=0', 'test_dataloader.dataset.count=3', '--device', 'cpu']


def compare(out, *argv):
    return main.main(['compare-methods', '--out', str(out), *FEW, *map(str, argv)])


def load(path):
    return json.loads(path.read_text())


@pytest.fixture
def passes(monkeypatch):
    """The seeds of each pass; results are written without a test, and the mIoU is the seed's."""
    seen = []

    def write(configs, device, *_):
        seen.append([config.test_dataloader.dataset.seed for config in configs])
        if len(seen) == 2:
            raise Interrupted(15, 'Partial result.')
        results = []
        for config in configs:
            metrics = dict(mIoU=float(config.test_dataloader.dataset.seed))
            result = dict(
                images=3, metrics=metrics, seconds=1.0, skipped=[], fingerprint=digest(fingerprint(config, device))
            )
            write_result(result, config.work_dir)
            results.append(result)
        return results

    monkeypatch.setattr(runs, 'evaluate_methods', write)
    return seen


@pytest.mark.slow
def test_options_of_a_second_network_are_those_of_the_methods_that_have_it(tmp_path, capsys):
    options = ['test_dataloader.num_workers=0', 'test_dataloader.dataset.count=1', 'model.companions.dino.patch_size=4']
    more = ['--protocol', 'own', 'common', '--cfg-options', *options, '--device', 'cpu', '--out', str(tmp_path)]
    assert main.main(['compare-methods', 'demo', '--methods', 'sclip', 'proxyclip', *more]) == 0
    capsys.readouterr()
    assert main.main(['compare-methods', 'demo', '--methods', 'sclip', 'clip', *more]) != 0
    assert "model.companions.dino must be a dict with a 'type'" in capsys.readouterr().err
    sclip, proxyclip = load_config('sclip_demo'), load_config('proxyclip_demo')
    given = {'model.companions.dino.patch_size': 4, 'model.test_cfg.prob_thd': 0.1}
    assert own_options(proxyclip, given, [sclip]) == given
    assert own_options(sclip, given, [proxyclip]) == {'model.test_cfg.prob_thd': 0.1}
    added = {**given, 'model.companions.dino.type': 'FilterBank'}
    assert own_options(sclip, added, [proxyclip]) == added


@pytest.mark.slow
def test_each_method_has_the_numbers_of_the_test_command(tmp_path, capsys):
    """A part from outside runs in the same pass, and is what it is under both protocols."""
    own = Path(__file__).parents[2] / 'examples' / 'own_head' / 'sclip_demo_centred.py'
    out = tmp_path / 'all'
    assert compare(out, 'demo', '--methods', 'sclip', 'naclip', own, '--protocol', 'own', 'common') == 0
    assert f'The table is {out / "methods.md"}' in capsys.readouterr().out
    rows = load(out / 'methods.json')['methods']
    assert [row['method'] for row in rows] == ['sclip', 'naclip', 'sclip_demo_centred'] * 2
    assert [row['pass'] for row in rows] == [1] * 6
    for row, config in zip(rows, ['sclip_demo', 'naclip_demo', own], strict=False):
        work = tmp_path / row['method']
        assert main.main(['test', str(config), '--work-dir', str(work), *FEW]) == 0
        alone = load(work / 'result.json')
        assert load(out / row['result'])['classes'] == alone['classes']
        assert row['mIoU'] == alone['metrics']['mIoU'] and row['images'] == 3
        assert f'| {row["method"]} | {row["mIoU"]:.2f} |' in (out / 'methods.md').read_text()
    assert load(out / rows[5]['result'])['classes'] == load(out / rows[2]['result'])['classes']
    config = common_protocol('naclip', 'demo')
    config.test_dataloader.dataset.count, config.work_dir = 3, str(tmp_path / 'alone')
    with isolated():
        alone = evaluate(config, 'cpu')
    result = load(out / 'common' / 'naclip' / 'result.json')
    assert result['classes'] == alone['classes'] != load(out / rows[1]['result'])['classes']
    assert result['config'] == 'naclip_demo (protocol of sclip)'


@pytest.mark.slow
def test_finished_passes_are_kept_by_resume(tmp_path, capsys, monkeypatch, passes):
    argv = ['demo', '--methods', 'clip', 'maskclip', '--seeds', 5, 6, '--on-error', 'skip']
    monkeypatch.setattr('sys.argv', ['/usr/bin/mmseg-sclip'])
    assert compare(tmp_path, *argv) == 143
    last = capsys.readouterr().err.splitlines()[-1]
    assert 'Go on with: mmseg-sclip compare-methods --out' in last and last.endswith('--on-error skip --resume')
    assert compare(tmp_path, *argv, '--resume') == 0
    assert passes == [[5, 5], [6, 6], [6, 6]]
    rows = load(tmp_path / 'methods.json')['methods']
    assert [(row['seed'], row['method'], row['pass']) for row in rows] == [
        (seed, method, number) for number, seed in enumerate((5, 6), 1) for method in ('clip', 'maskclip')
    ]
    assert [row['mIoU'] for row in rows] == [5, 5, 6, 6] and rows[3]['result'] == 'seed6/own/maskclip/result.json'
    # Another setting is another result, and a pass of which one method is missing is tested as a whole.
    more = [*argv, '--resume', '--max-images', 2]
    assert compare(tmp_path, *more) == 0
    (tmp_path / 'seed6' / 'own' / 'clip' / 'result.json').unlink()
    assert compare(tmp_path, *more) == 0
    assert passes[3:] == [[5, 5], [6, 6], [6, 6]]
    assert compare(tmp_path, *argv) == 0
    assert passes[6:] == [[5, 5], [6, 6]]  # without --resume nothing is kept


def test_a_foreign_table_is_refused_before_the_test(tmp_path, capsys, passes):
    (tmp_path / 'methods.md').write_text('mine')
    assert compare(tmp_path, 'demo', '--methods', 'sclip') == 1
    assert 'methods.md' in capsys.readouterr().err.splitlines()[-1] and not passes
    assert (tmp_path / 'methods.md').read_text() == 'mine'


def test_what_was_skipped_and_what_could_not_be_written_is_told(tmp_path, capsys, monkeypatch):
    """The two methods of a pass skip the same image, and all ground truth is ignored, so that there is no number."""
    skipped, unwritten = [dict(image='1.jpg', reason='damaged')], ['No result.json on a full disk.']
    result = dict(images=2, metrics=dict(mIoU=None), seconds=1.0, skipped=skipped, unwritten=unwritten)
    monkeypatch.setattr(runs, 'evaluate_methods', lambda configs, *_: [dict(result) for _ in configs])
    assert compare(tmp_path, 'demo', '--methods', 'clip', 'maskclip') == 1
    out, err = capsys.readouterr()
    assert '1 images were skipped:\n  1.jpg: damaged\n' in out and out.count('1.jpg') == 1
    words = 'Error: The evaluation is done, but not all could be written. No result.json on a full disk.'
    assert err.splitlines()[-1].startswith(words)
    rows = load(tmp_path / 'methods.json')['methods']
    assert [(row['images'], row['mIoU'], row['aAcc']) for row in rows] == [(2, None, None)] * 2
    assert '| clip | – | – | – |' in (tmp_path / 'methods.md').read_text()
