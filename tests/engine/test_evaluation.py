"""Several processes, resuming, skipped samples, views, full disks: the counts are those of a plain run."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.registry import init_default_scope
from mmengine.runner import TestLoop as PlainLoop
from mmseg.registry import LOOPS
from PIL import Image
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from mmseg_sclip.config import load_config
from mmseg_sclip.engine import evaluation, preparing
from mmseg_sclip.engine.evaluation import evaluate
from mmseg_sclip.engine.journal import Journal
from mmseg_sclip.engine.metric import ExactIoUMetric
from mmseg_sclip.engine.runner import isolated
from mmseg_sclip.errors import BadFileError, ConfigError, Interrupted, MissingFileError, output_error
from mmseg_sclip.visual.prediction_hook import PredictionVisualizationHook

ROOT = Path(__file__).resolve().parents[2]
SIZES = [(70, 90), (64, 64), (90, 70), (64, 96), (80, 80), (64, 70), (72, 64)]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


@pytest.fixture(scope='module')
def data(tmp_path_factory, recipe):
    """Seven images with label maps, two of one name in different folders."""
    root = tmp_path_factory.mktemp('data')
    names = [f'{index}' for index in range(5)] + ['first/same', 'second/same']
    for index, (name, size) in enumerate(zip(names, SIZES, strict=True)):
        for kind in ('images', 'annotations'):
            (root / kind / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(recipe.image(index, *size)).save(root / 'images' / f'{name}.jpg')
        labels = np.random.default_rng(index).integers(0, 12, size, dtype=np.uint8)
        Image.fromarray(labels).save(root / 'annotations' / f'{name}.png')
    return root


@pytest.fixture
def config(data, tmp_path):
    config = load_config('sclip_demo', {'test_dataloader.num_workers': 0})
    config.test_dataloader.dataset.data_root = str(data)
    config.work_dir = str(tmp_path / 'work')
    return config


def run(config, **options):
    with isolated():
        return evaluate(config, 'cpu', **options)


@pytest.fixture(scope='module')
def expected(data, tmp_path_factory):
    """The result of a plain run."""
    config = load_config('sclip_demo', {'test_dataloader.num_workers': 0})
    config.test_dataloader.dataset.data_root = str(data)
    config.work_dir = str(tmp_path_factory.mktemp('expected'))
    init_default_scope('mmseg')
    return run(config)


def break_off(config, monkeypatch, after, error=KeyboardInterrupt):
    """Run, and stop behind `after` images."""
    add, calls = Journal.add, []

    def counting(self, *args):
        add(self, *args)
        calls.append(args)
        if len(calls) == after:
            raise error()

    with monkeypatch.context() as patch:
        patch.setattr(Journal, 'add', counting)
        return run(config)


# --- resume -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('after', [1, 4, 7])
def test_an_interrupted_run_goes_on_where_it_stopped(config, expected, monkeypatch, after, tmp_path):
    with pytest.raises(Interrupted, match=f'{after} of 7 images: mIoU') as interrupt:
        break_off(config, monkeypatch, after)
    assert interrupt.value.signum == signal.SIGINT
    assert not (tmp_path / 'work' / 'result.json').exists()
    tested = []
    monkeypatch.setattr(
        Journal, 'add', lambda self, key, *args, add=Journal.add: (tested.append(key), add(self, key, *args))
    )
    result = run(config, resume=True)
    assert len(tested) == 7 - after
    assert result['classes'] == expected['classes'] and result['metrics'] == expected['metrics']
    assert result['images'] == 7
    assert not (tmp_path / 'work' / 'journal').exists()  # the result has made it superfluous


def test_torn_and_damaged_records_are_counted_again(config, expected, monkeypatch, tmp_path):
    with pytest.raises(Interrupted):
        break_off(config, monkeypatch, 5)
    (path,) = (tmp_path / 'work' / 'journal').glob('*/counts-*.jsonl')
    whole = path.read_bytes()
    lines = whole.split(b'\n')
    for content, kept in (
        (whole[:-9], 4),  # the last record is torn
        (whole[:-1], 4),  # its line end is missing
        (b'\n'.join([*lines[:2], lines[2].replace(b'[', b'{', 1), *lines[3:]]), 2),  # damaged in the middle
        (b'', 0),
    ):
        path.write_bytes(content)
        journal = Journal(path.parent.parent, {})
        journal.folder = path.parent
        assert len(journal.read().keys) == kept
    path.write_bytes(whole[:-9])
    assert run(config, resume=True)['classes'] == expected['classes']


def test_without_resume_everything_is_tested_again(config, expected, monkeypatch):
    with pytest.raises(Interrupted):
        break_off(config, monkeypatch, 3)
    assert run(config)['classes'] == expected['classes']


def test_two_unfinished_runs_count_no_image_twice(config, expected, monkeypatch):
    for after in (2, 4):
        with pytest.raises(Interrupted):
            break_off(config, monkeypatch, after)
    assert run(config, resume=True)['classes'] == expected['classes']


@pytest.mark.parametrize(
    'change, words',
    [
        (
            lambda config: config.model.test_cfg.update(logit_scale=50),
            'settings.model.test_cfg.logit_scale was 40 and is 50',
        ),
        (lambda config: config.model.decode_head.update(vocabulary=['a'] * 12), 'vocabulary'),
        (
            lambda config: config.test_evaluator.update(ignore_index=3),
            'settings.test_evaluator.ignore_index was None and is 3',
        ),
        (lambda config: os.utime(Path(config.test_dataloader.dataset.data_root, 'images', '0.jpg')), 'data.*0.jpg was'),
    ],
)
def test_a_journal_of_something_else_is_refused_with_the_difference(config, monkeypatch, change, words):
    with pytest.raises(Interrupted):
        break_off(config, monkeypatch, 2)
    change(config)
    with pytest.raises(ConfigError, match=words):
        run(config, resume=True)


def test_a_resumed_run_may_ask_for_other_numbers_of_the_counts(config, expected, monkeypatch):
    with pytest.raises(Interrupted):
        break_off(config, monkeypatch, 5)
    config.test_evaluator.update(iou_metrics=['mIoU', 'mDice'], beta=2, nan_to_num=0, prefix='x')
    config.env_cfg.mp_cfg.opencv_num_threads = 1
    result = run(config, resume=True)
    assert result['classes'] == expected['classes'] and result['fingerprint'] != expected['fingerprint']
    dice = [200 * each['intersect'] / (each['predicted'] + each['truth']) for each in result['classes']]
    assert result['metrics']['mDice'] == pytest.approx(np.mean(dice), abs=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize('how', ['another size', 'equal size', 'equal size and time'])
def test_weights_replaced_under_their_name_are_refused(config, mini_json, mini_state, tmp_path, monkeypatch, how):
    path = tmp_path / 'weights.pt'
    torch.save(mini_state, path)
    config.model.clip = dict(model_name=str(mini_json), pretrained=str(path))
    with pytest.raises(Interrupted):
        break_off(config, monkeypatch, 2)
    before = path.stat()
    more = dict(logit_bias=torch.zeros(1000)) if how == 'another size' else {}
    torch.save({**mini_state, 'visual.proj': 2 * mini_state['visual.proj'], **more}, path)
    assert (path.stat().st_size == before.st_size) == (how != 'another size')
    if how == 'equal size and time':
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ConfigError, match=r'--resume: .* weights\.sha256 was .* and is'):
        run(config, resume=True)
    torch.save(mini_state, path)
    assert run(config, resume=True)['images'] == 7


def test_resume_without_a_journal_begins_at_the_beginning(config, expected):
    assert run(config, resume=True)['classes'] == expected['classes']


def test_the_workers_of_the_loader_end_before_the_partial_result_is_told(config, monkeypatch):
    config.test_dataloader.update(num_workers=2, persistent_workers=False)
    wait, calls = _MultiProcessingDataLoaderIter._try_get_data, []

    def interrupted(self, *args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            assert len(multiprocessing.active_children()) == 2
            raise KeyboardInterrupt
        return wait(self, *args, **kwargs)

    monkeypatch.setattr(_MultiProcessingDataLoaderIter, '_try_get_data', interrupted)
    with pytest.raises(Interrupted) as interrupt:
        run(config)
    assert not multiprocessing.active_children()
    assert 'of 7 images' in str(interrupt.value)  # alive until here, as on its way to the command line


def test_what_is_recorded_is_drawn_and_written(config, monkeypatch, tmp_path):
    """An interrupt while a picture is drawn leaves its image to the resumed run."""
    folders = [tmp_path / 'maps', tmp_path / 'pictures']
    config.test_evaluator.output_dir = str(folders[0])
    config.default_hooks.visualization = dict(
        type='PredictionVisualizationHook', draw=True, interval=1, out_dir=str(folders[1])
    )
    draw, calls = PredictionVisualizationHook.after_test_iter, []

    def interrupted(self, *args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        draw(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(PredictionVisualizationHook, 'after_test_iter', interrupted)
        with pytest.raises(Interrupted, match='2 of 7 images'):
            run(config)
    run(config, resume=True)
    assert [len([path for path in folder.rglob('*') if path.is_file()]) for folder in folders] == [7, 7]


def test_a_second_metric_cannot_be_resumed(config, monkeypatch):
    config.test_evaluator = [dict(config.test_evaluator, prefix='a'), dict(config.test_evaluator, prefix='b')]
    with pytest.raises(Interrupted):
        break_off(config, monkeypatch, 3)
    with pytest.raises(ConfigError, match='test_evaluator has 2 metrics'):
        run(config, resume=True)


class OwnLoop(PlainLoop):
    """A loop of a user's."""


def prints_classes():
    """Whether this MMEngine can print a config with classes in it, which its runner does."""
    try:
        return bool(Config(dict(type=PlainLoop)).pretty_text)
    except Exception:  # YAPF's
        return False


@pytest.mark.parametrize('loop', ['mmengine.TestLoop', PlainLoop, 'OwnLoop'])
def test_loops_and_samplers_are_known_by_what_they_are(config, expected, monkeypatch, loop):
    config.test_cfg = dict(type=loop)
    config.test_dataloader.sampler = dict(type='mmengine.DefaultSampler', shuffle=False)
    if loop is PlainLoop:
        if not prints_classes():
            pytest.skip('this MMEngine takes no classes')
        config.test_dataloader.sampler.type, config.test_evaluator.type = DefaultSampler, ExactIoUMetric
    monkeypatch.setitem(LOOPS.module_dict, 'OwnLoop', OwnLoop)
    with pytest.raises(Interrupted):
        break_off(config, monkeypatch, 3)
    assert run(config, resume=True)['classes'] == expected['classes']
    if loop == 'OwnLoop':
        with pytest.raises(ConfigError, match='--on-error skip is the work of EvaluationLoop'):
            run(config, on_error='skip')


def test_several_datasets_are_read_in_other_views_and_without_what_is_damaged(damaged, expected):
    whole = dict(damaged.test_dataloader.dataset)
    repeated = dict(type='RepeatDataset', times=1, dataset=dict(whole, indices=[3, 4, 5, 6]))
    damaged.test_dataloader.dataset = dict(type='ConcatDataset', datasets=[dict(whole, indices=[0, 1, 2]), repeated])
    for tta in (False, True):
        result = run(damaged, on_error='skip', tta=tta)
        assert result['images'] == 5
        assert sorted(Path(sample['image']).name for sample in result['skipped']) == ['2.jpg', '4.jpg']


def test_sigterm_ends_as_sigint_does(config, monkeypatch):
    with pytest.raises(Interrupted) as interrupt:
        break_off(config, monkeypatch, 2, lambda: os.kill(os.getpid(), signal.SIGTERM) or RuntimeError)
    assert interrupt.value.signum == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


# --- samples that cannot be read --------------------------------------------------------------------------------------


@pytest.fixture
def damaged(config, data, tmp_path):
    """The config on a copy of the data, in which one image is cut off and one label map is missing."""
    root = tmp_path / 'damaged'
    shutil.copytree(data, root)
    image = root / 'images' / '2.jpg'
    image.write_bytes(image.read_bytes()[:-200])
    (root / 'annotations' / '4.png').unlink()
    config.test_dataloader.dataset.data_root = str(root)
    return config


@pytest.mark.slow
def test_stop_names_the_file(damaged):
    with pytest.raises(BadFileError, match='2.jpg'):
        run(damaged)
    with pytest.raises((BadFileError, MissingFileError), match='2.jpg'):
        run(damaged, resume=True)
    assert run(damaged, resume=True, on_error='skip')['images'] == 5  # and goes on from what is counted


@pytest.mark.slow
@pytest.mark.parametrize('batch, workers, tta', [(1, 0, False), (3, 0, False), (2, 2, False), (1, 0, True)])
def test_skip_leaves_them_out(damaged, batch, workers, tta, monkeypatch):
    damaged.test_dataloader.update(batch_size=batch, num_workers=workers)
    result = run(damaged, on_error='skip', tta=tta)
    assert result['images'] == 5
    assert sorted(Path(sample['image']).name for sample in result['skipped']) == ['2.jpg', '4.jpg']
    assert any('4.png' in sample['reason'] for sample in result['skipped'])
    readable = sum(height * width for index, (height, width) in enumerate(SIZES) if index not in (2, 4))
    assert sum(entry['truth'] for entry in result['classes']) == readable


@pytest.mark.slow
def test_what_was_skipped_is_remembered_by_a_resumed_run(damaged, monkeypatch):
    damaged.test_dataloader.num_workers = 0
    monkeypatch.setattr(evaluation, 'write_result', lambda *args: None)
    whole = run(damaged, on_error='skip')
    add, calls = Journal.add, []

    def counting(self, *args):
        add(self, *args)
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, 'add', counting)
        with pytest.raises(Interrupted, match='3 of 7 images'):
            run(damaged, on_error='skip')
    result = run(damaged, on_error='skip', resume=True)
    assert result['classes'] == whole['classes'] and result['images'] == 5
    assert {sample['image'] for sample in result['skipped']} == {sample['image'] for sample in whole['skipped']}


# --- what cannot be written -------------------------------------------------------------------------------------------


def test_a_full_disk_does_not_end_the_counting(config, expected, monkeypatch, capsys):
    def full(self):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(Journal, '_open', full)
    config.test_evaluator.output_dir = str(Path(config.work_dir).parent / 'maps')
    monkeypatch.setattr('mmseg_sclip.files.os.replace', lambda *args: full(None))
    result = run(config)
    assert result['classes'] == expected['classes']
    assert any('7 files of --out' in line for line in result['unwritten'])
    assert any('result.json' in line and 'No space left' in line for line in result['unwritten'])
    assert 'counted again if it is interrupted' in capsys.readouterr().out


def test_counts_outlive_a_result_that_cannot_be_written(config, expected, monkeypatch):
    def full(*args):
        raise output_error('result.json', OSError(28, 'No space left on device'))

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, 'write_result', full)
        (sentence,) = run(config)['unwritten']
    assert 'No space left' in sentence and '--resume' in sentence
    monkeypatch.setattr(Journal, 'add', None)  # nothing is tested again
    assert run(config, resume=True)['classes'] == expected['classes']
    assert json.loads((Path(config.work_dir) / 'result.json').read_text())['classes'] == expected['classes']
    assert not (Path(config.work_dir) / 'journal').exists()


def test_a_work_folder_that_cannot_be_written(config, expected, monkeypatch):
    prepare = preparing.OutputFolder.prepare

    def refuse(self):
        if self.folder == Path(config.work_dir):
            raise output_error(self.folder, OSError(30, 'Read-only file system'), self.what)
        prepare(self)

    monkeypatch.setattr(preparing.OutputFolder, 'prepare', refuse)
    result = run(config)
    assert result['classes'] == expected['classes']
    (sentence,) = result['unwritten']
    assert 'Read-only file system' in sentence
    folder = Path(sentence.split('The files of this run are in ')[1].rstrip('.'))
    assert json.loads((folder / 'result.json').read_text())['classes'] == expected['classes']


# --- views ------------------------------------------------------------------------------------------------------------


def test_one_view_is_the_plain_test(config, expected):
    views = config.tta_pipeline[2].transforms
    views[0] = [dict(type='Resize', scale_factor=1.0, keep_ratio=True)]
    views[1] = [dict(type='RandomFlip', prob=0.0)]
    assert run(config, tta=True)['classes'] == expected['classes']


def test_all_views_change_the_result(config, expected):
    result = run(config, tta=True)
    assert result['classes'] != expected['classes']
    assert [entry['truth'] for entry in result['classes']] == [entry['truth'] for entry in expected['classes']]
    assert result['fingerprint'] != expected['fingerprint']


def test_a_config_without_views_is_refused(config):
    config.pop('tta_pipeline')
    with pytest.raises(ConfigError, match='--tta needs tta_pipeline'):
        run(config, tta=True)


# --- several processes ------------------------------------------------------------------------------------------------


def launch(processes, data, work_dir, *flags, script='tools/test.py', wait=True):
    """`tools/dist_test.sh`, or the script alone for one process."""
    common = ['sclip_demo', '--data-root', str(data), '--work-dir', str(work_dir), *flags]
    if processes == 1:
        command = [sys.executable, str(ROOT / script), *common]
    else:
        command = [str(ROOT / 'tools' / 'dist_test.sh'), common[0], str(processes), *common[1:]]
    environment = {
        **os.environ,
        'PYTHONPATH': str(ROOT),
        'OMP_NUM_THREADS': '1',
        'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
        'PORT': str(random.SystemRandom().randint(20000, 32000)),  # the system gives none of these to others
    }
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # jobs in the background of a shell ignore it
    )
    if not wait:
        return process
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def recorded(work_dir):
    return sum(path.read_bytes().count(b'\n') for path in work_dir.glob('journal/*/*.jsonl'))


@pytest.mark.slow
def test_two_processes_count_every_image_once(data, expected, tmp_path):
    """Seven images are no multiple of two; test_kills.py has other numbers."""
    folders = {flag: str(tmp_path / flag) for flag in ('out', 'show')}
    code, output = launch(2, data, tmp_path / 'work', '--out', folders['out'], '--show-dir', folders['show'])
    assert code == 0, output
    result = json.loads((tmp_path / 'work' / 'result.json').read_text())
    assert result['classes'] == expected['classes'] and result['processes'] == 2
    for folder in folders.values():
        assert len(list(Path(folder).iterdir())) == 7
    assert output.count('| checkerboard |') == 1  # tables are printed once


@pytest.mark.slow
@pytest.mark.parametrize('signum, code', [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_the_command_with_their_codes(data, tmp_path, signum, code):
    many = tmp_path / 'many'  # so that the signal cannot come too late
    for kind, suffix in (('images', 'jpg'), ('annotations', 'png')):
        (many / kind).mkdir(parents=True)
        for index in range(400):
            shutil.copy(data / kind / f'0.{suffix}', many / kind / f'{index}.{suffix}')
    process = launch(1, many, tmp_path / 'work', wait=False)
    while not recorded(tmp_path / 'work') and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signum)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    last = output.strip().splitlines()[-1]
    assert 'Partial result of' in last and 'Go on with: python' in last and last.endswith('--resume')


@pytest.mark.slow
def test_a_process_that_dies_ends_the_job(data, tmp_path):
    bad = tmp_path / 'bad'
    shutil.copytree(data, bad)
    (bad / 'images' / '3.jpg').write_bytes(b'no image')
    code, output = launch(2, bad, tmp_path / 'work')
    assert code != 0 and '3.jpg' in output


def test_the_launcher_must_have_started_the_process(monkeypatch):
    from mmseg_sclip.engine.distributed import join_processes
    from mmseg_sclip.errors import UsageError

    for launcher, variable in (('pytorch', 'RANK'), ('slurm', 'SLURM_PROCID'), ('mpi', 'OMPI_COMM_WORLD_RANK')):
        monkeypatch.delenv(variable, raising=False)
        with pytest.raises(UsageError, match=f'{variable} is not set'):
            join_processes(launcher)


def test_the_wrapper_stands_around_a_model_without_trainable_weights():
    from mmengine.model import is_model_wrapper
    from mmseg.registry import MODEL_WRAPPERS

    class Model(torch.nn.Module):
        def test_step(self, data):
            return [data]

        val_step = test_step

        def forward(self, x):
            return x + 1

    wrapped = MODEL_WRAPPERS.build(dict(type='FrozenModelWrapper', module=Model()))
    assert is_model_wrapper(wrapped)
    assert (wrapped.test_step(1), wrapped.val_step(2), wrapped(3)) == ([1], [2], 4)
