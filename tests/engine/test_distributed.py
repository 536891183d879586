"""Several processes: how they join and leave, and that they count each image once, also where some are killed."""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from functools import partial
from pathlib import Path

import pytest
import torch
from mmengine.model import is_model_wrapper
from mmengine.registry import init_default_scope
from mmseg.registry import MODEL_WRAPPERS

from mmseg_sclip import errors
from mmseg_sclip.config import load_config
from mmseg_sclip.engine.distributed import join_processes, leave_processes
from mmseg_sclip.engine.evaluation import evaluate
from mmseg_sclip.engine.journal import Journal
from mmseg_sclip.engine.runner import build_runner, isolated
from mmseg_sclip.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]


IMAGES, FORKED = 40, set()


@pytest.fixture(autouse=True)
def none_is_left():
    """A process that hangs would keep the whole session from its end."""
    yield
    for pid in FORKED:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    FORKED.clear()


def fork(log, work):
    """The process that does some work, and ends."""
    pid = os.fork()
    if pid:
        FORKED.add(pid)
        return pid
    code = 1
    try:
        sys.stdout = sys.stderr = log.open('a', buffering=1)
        code = work() or 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)  # never back into pytest


def wait(pid):
    """The exit code, or the negative signal."""
    status = os.waitpid(pid, 0)[1]
    FORKED.remove(pid)
    return os.waitstatus_to_exitcode(status)


def program(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f'#!/bin/sh\n{text}\n')
    (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def join(monkeypatch, tmp_path):
    """`join(nodes, **variables)` is the address of the first machine that a Slurm job's process would join."""
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_PORT', 'MASTER_ADDR', 'SLURM_JOB_NODELIST'):
        monkeypatch.setenv(name, '')  # so that it is put back
        monkeypatch.delenv(name)
    for name, value in dict(PROCID='0', NTASKS='2', LOCALID='0').items():
        monkeypatch.setenv(f'SLURM_{name}', value)
    monkeypatch.setenv('PATH', str(tmp_path / 'bin'))
    monkeypatch.setattr(torch.distributed, 'init_process_group', lambda *args, **options: None)

    def join(nodes, **variables):
        for name, value in dict(variables, SLURM_JOB_NODELIST=nodes).items():
            monkeypatch.setenv(name, value)
        join_processes('slurm', torch.device('cpu'))
        return os.environ['MASTER_ADDR']

    return join


def test_the_first_machine_of_a_slurm_job(join, tmp_path):
    assert join('node-3.cluster') == 'node-3.cluster'  # one machine needs no list
    del os.environ['MASTER_ADDR']
    for nodes in ('node-[3-4]', 'a,b'):
        with pytest.raises(UsageError, match='MASTER_ADDR'):
            join(nodes)
    program(tmp_path / 'bin', 'scontrol', 'echo "first-of-$3"; echo second')
    assert join('node-[3-4]') == 'first-of-node-[3-4]'
    assert join('a,b', MASTER_ADDR='node-3') == 'node-3'


def test_a_process_has_left_the_others_when_it_exits(tmp_path, monkeypatch):
    for name, value in dict(RANK='0', WORLD_SIZE='1', LOCAL_RANK='0', MASTER_ADDR='127.0.0.1', MASTER_PORT='0').items():
        monkeypatch.setenv(name, value)

    def command(argv):
        join_processes('pytorch', torch.device('cpu'))
        torch.distributed.barrier()
        raise UsageError

    def work():
        atexit._clear()
        code = errors.run(command, [])
        joined = torch.distributed.is_initialized()
        atexit._run_exitfuncs()
        (tmp_path / 'seen').write_text(f'{code} {joined} {torch.distributed.is_initialized()}')

    wait(fork(tmp_path / 'log.txt', work))
    assert (tmp_path / 'seen').read_text() == '1 True False'


@pytest.mark.parametrize('backend, code, left', [('gloo', 0, 1), ('gloo', 1, 1), ('nccl', 0, 1), ('nccl', 1, 0)])
def test_after_an_error_nccl_is_not_left_for_it_would_wait_for_the_others(monkeypatch, backend, code, left):
    calls = []
    monkeypatch.setattr(torch.distributed, 'is_initialized', lambda: True)
    monkeypatch.setattr(torch.distributed, 'get_backend', lambda: backend)
    monkeypatch.setattr(torch.distributed, 'destroy_process_group', lambda: calls.append(backend))
    errors.run(lambda argv: code, [])
    leave_processes()
    assert len(calls) == left


LAUNCHERS = dict(pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK')


@pytest.mark.parametrize('launcher', LAUNCHERS)
def test_the_launcher_must_have_started_the_process(monkeypatch, launcher):
    monkeypatch.delenv(LAUNCHERS[launcher], raising=False)
    with pytest.raises(UsageError, match=f'{LAUNCHERS[launcher]} is not set'):
        join_processes(launcher)


def test_the_wrapper_of_a_model_without_trainable_weights():
    model = torch.nn.Identity()
    model.test_step = model.val_step = lambda data: [data]
    wrapped = MODEL_WRAPPERS.build(dict(type='FrozenModelWrapper', module=model))
    assert is_model_wrapper(wrapped)
    assert (wrapped.test_step(1), wrapped.val_step(2), wrapped(3)) == ([1], [2], 3)


@pytest.mark.slow
def test_torchrun_starts_a_test_and_an_error_of_one_process_ends_all(tmp_path):
    """`tools/dist_test.sh`, as a user runs it."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'PORT': str(port)}
    environment['PATH'] = f'{Path(sys.executable).parent}:{os.environ["PATH"]}'
    command = [str(ROOT / 'tools' / 'dist_test.sh'), 'sclip_demo', '2', '--work-dir', str(tmp_path / 'work')]
    command += ['--device', 'cpu', '--cfg-options', 'test_dataloader.dataset.count=5', 'test_dataloader.num_workers=0']
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / 'work' / 'result.json').read_text())
    assert (result['images'], result['processes']) == (5, 2)
    for name in ('images/0.jpg', 'images/1.jpg', 'annotations/0.png', 'annotations/1.png'):
        (tmp_path / 'bad' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'bad' / name).write_bytes(b'no image')
    command += ['--data-root', str(tmp_path / 'bad')]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0 and 'is damaged or no image' in done.stderr + done.stdout


@pytest.mark.slow
@pytest.mark.parametrize('signum, code', [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_the_command_with_their_codes(tmp_path, signum, code):
    command = [sys.executable, str(ROOT / 'tools' / 'test.py'), 'sclip_demo', '--work-dir', str(tmp_path / 'work')]
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    output = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    # What runs in the background of a script ignores SIGINT, and its children inherit that.
    output['preexec_fn'] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen([*command, '--device', 'cpu'], env=environment, **output)
    while not any(path.stat().st_size for path in tmp_path.glob('work/journal/*/*.jsonl')) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signum)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == code, output
    last = output.strip().splitlines()[-1]
    assert 'Partial result of' in last and 'Go on with: python' in last and last.endswith('--resume')


def test_the_script_asks_slurm_for_gpus(tmp_path):
    path = f'{program(tmp_path / "bin", "srun", "echo $@")}:{os.environ["PATH"]}'
    command = ['bash', str(ROOT / 'tools' / 'slurm_test.sh'), 'part', 'job', 'sclip_demo']
    for a_node, words in (('0', []), ('2', ['--gres=gpu:2', '--ntasks-per-node=2'])):
        said = subprocess.check_output(command, env={'PATH': path, 'GPUS_PER_NODE': a_node}, text=True)
        expected = ['-p', 'part', '--job-name=job', '--ntasks=4', *words, '--cpus-per-task=5', '--kill-on-bad-exit=1']
        assert said.split()[: len(expected)] == expected


def start(config, log, processes, die_after=None):
    """The processes of an evaluation; the first one may die after so many images of its own."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]

    def work(rank):
        if rank == 0 and die_after:
            calls, real, kill = [], Journal.add, partial(os.kill, os.getpid(), signal.SIGKILL)
            Journal.add = lambda *args: calls.append(real(*args)) or len(calls) == die_after and kill()
        if processes > 1:
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes), MASTER_PORT=str(port))
            config.launcher = 'pytorch'
            join_processes('pytorch')
        with isolated():
            return errors.run(lambda argv: evaluate(config, 'cpu', resume=True) and 0, [])

    return [fork(log, partial(work, rank)) for rank in range(processes)]


@pytest.fixture
def config(tmp_path):
    init_default_scope('mmseg')
    options = {'test_dataloader.num_workers': 0, 'test_dataloader.dataset.count': IMAGES}
    config = load_config('sclip_demo', options)
    config.work_dir = str(tmp_path / 'work')
    return config


def test_a_worker_whose_parent_was_killed_before_it_started_ends(config, tmp_path):
    config.test_dataloader.num_workers = 1
    seen, ours = os.pipe()

    def kill_the_parent():
        parent = os.getppid()
        os.kill(parent, signal.SIGKILL)
        while os.getppid() == parent:
            time.sleep(0.01)
        os.write(ours, b'%d ' % os.getpid())

    def work():
        loader = build_runner(config, 'cpu').test_dataloader
        os.register_at_fork(after_in_child=kill_the_parent)
        next(iter(loader))

    assert wait(fork(tmp_path / 'log.txt', work)) == -signal.SIGKILL, (tmp_path / 'log.txt').read_text()
    os.close(ours)
    worker = b''
    while select.select([seen], [], [], 20)[0]:
        if not (more := os.read(seen, 100)):  # closed by the last process that had it
            break
        worker += more
    else:
        os.kill(int(worker), signal.SIGKILL)
        pytest.fail('the worker lives on')
    os.close(seen)
    assert worker


@pytest.mark.slow
@pytest.mark.parametrize('processes', [3, 8])
def test_processes_count_every_image_once(config, tmp_path, processes):
    """Seven images are not a multiple of three, and fewer than eight processes; label maps are written too."""
    config.test_dataloader.dataset.count = 7
    config.test_evaluator.output_dir = str(tmp_path / 'maps')
    config.default_hooks.visualization.update(draw=True, out_dir=str(tmp_path / 'pictures'))
    results, log = [], tmp_path / 'log.txt'
    for number in (1, processes):
        config.work_dir = str(tmp_path / f'{number}')
        assert [wait(pid) for pid in start(config, log, number)] == [0] * number, log.read_text()
        results.append(json.loads((tmp_path / f'{number}' / 'result.json').read_text()))
        assert not (tmp_path / f'{number}' / 'journal').exists()
        for folder in ('maps', 'pictures'):
            assert len(list((tmp_path / folder).iterdir())) == 7
    alone, together = results
    assert all(together[key] == alone[key] for key in ('classes', 'metrics', 'images'))
    assert together['images'] == 7 and together['processes'] == processes
    assert log.read_text().count('| checkerboard |') == 2  # tables are printed once per run


@pytest.mark.slow
def test_who_waits_for_a_killed_process_says_so(config, tmp_path):
    log = tmp_path / 'log.txt'
    pids = start(config, log, 2, die_after=1)
    assert [wait(pid) for pid in pids] == [-signal.SIGKILL, 1]
    last = log.read_text().splitlines()[-1]
    assert last.startswith('Error: Another process of this job has ended') and '--resume' in last
    assert 'Traceback' not in log.read_text()
