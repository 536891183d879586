"""Joining several processes and leaving them; what they count together is tested in test_kills.py."""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest
import torch
from mmengine.model import is_model_wrapper
from mmseg.registry import MODEL_WRAPPERS

from mmseg_sclip import errors
from mmseg_sclip.engine.distributed import join_processes, leave_processes
from mmseg_sclip.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]


def program(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f'#!/bin/sh\n{text}\n')
    (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def join(monkeypatch, tmp_path):
    """`join(nodes, **variables)` is the address of the first machine that a Slurm job's process would join."""
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_PORT', 'MASTER_ADDR', 'SLURM_JOB_NODELIST'):
        monkeypatch.setenv(name, '')
        monkeypatch.delenv(name)
    for name, value in dict(SLURM_PROCID='0', SLURM_NTASKS='2', SLURM_LOCALID='0', PATH=str(tmp_path / 'bin')).items():
        monkeypatch.setenv(name, value)
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


@pytest.mark.parametrize('error', [None, UsageError, ZeroDivisionError])
def test_a_process_has_left_the_others_when_it_exits(tmp_path, monkeypatch, error):
    for name, value in dict(RANK='0', WORLD_SIZE='1', LOCAL_RANK='0', MASTER_ADDR='127.0.0.1', MASTER_PORT='0').items():
        monkeypatch.setenv(name, value)

    def command(argv):
        join_processes('pytorch', torch.device('cpu'))
        torch.distributed.barrier()
        if error is not None:
            raise error

    pid = os.fork()
    if not pid:  # os._exit: never back into pytest, whose own functions must not run at this exit
        try:
            atexit._clear()
            code = errors.run(command, [])
            joined = torch.distributed.is_initialized()
            atexit._run_exitfuncs()
            (tmp_path / 'seen').write_text(f'{code} {joined} {torch.distributed.is_initialized()}')
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert (tmp_path / 'seen').read_text() == f'{int(error is not None)} True False'


@pytest.mark.parametrize('backend, code, left', [('gloo', 0, 1), ('gloo', 1, 1), ('nccl', 0, 1), ('nccl', 1, 0)])
def test_after_an_error_nccl_is_not_left_for_it_would_wait_for_the_others(monkeypatch, backend, code, left):
    calls = []
    monkeypatch.setattr(torch.distributed, 'is_initialized', lambda: True)
    monkeypatch.setattr(torch.distributed, 'get_backend', lambda: backend)
    monkeypatch.setattr(torch.distributed, 'destroy_process_group', lambda: calls.append(backend))
    errors.run(lambda argv: code, [])
    leave_processes()
    assert len(calls) == left


@pytest.mark.parametrize(
    'launcher, variable', [('pytorch', 'RANK'), ('slurm', 'SLURM_PROCID'), ('mpi', 'OMPI_COMM_WORLD_RANK')]
)
def test_the_launcher_must_have_started_the_process(monkeypatch, launcher, variable):
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(UsageError, match=f'{variable} is not set'):
        join_processes(launcher)


def test_the_wrapper_stands_around_a_model_without_trainable_weights():
    class Model(torch.nn.Module):
        def test_step(self, data):
            return [data]

        val_step = test_step

        def forward(self, x):
            return x + 1

    wrapped = MODEL_WRAPPERS.build(dict(type='FrozenModelWrapper', module=Model()))
    assert is_model_wrapper(wrapped)
    assert (wrapped.test_step(1), wrapped.val_step(2), wrapped(3)) == ([1], [2], 4)


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
    assert done.returncode != 0 and 'cannot be decoded' in done.stderr + done.stdout


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


@pytest.mark.parametrize('a_node, words', [('0', []), ('2', ['--gres=gpu:2', '--ntasks-per-node=2'])])
def test_the_script_asks_slurm_for_gpus(tmp_path, a_node, words):
    path = f'{program(tmp_path / "bin", "srun", "echo $@")}:{os.environ["PATH"]}'
    command = ['bash', str(ROOT / 'tools' / 'slurm_test.sh'), 'part', 'job', 'sclip_demo']
    said = subprocess.check_output(command, env={'PATH': path, 'GPUS_PER_NODE': a_node}, text=True)
    expected = ['-p', 'part', '--job-name=job', '--ntasks=4', *words, '--cpus-per-task=5', '--kill-on-bad-exit=1']
    assert said.split()[: len(expected)] == expected
