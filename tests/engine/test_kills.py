"""Processes that are killed at many moments, and that start at once: the counts are those of an undisturbed one.

They are forked from this one, so that each starts in no time.
"""

import json
import multiprocessing
import os
import select
import shutil
import signal
import socket
import sys
import time
import traceback
from functools import partial
from pathlib import Path

import pytest
from mmengine.registry import init_default_scope

from mmseg_sclip import errors
from mmseg_sclip.config import load_config
from mmseg_sclip.engine.distributed import join_processes
from mmseg_sclip.engine.evaluation import evaluate
from mmseg_sclip.engine.journal import Journal
from mmseg_sclip.engine.runner import build_runner, isolated

IMAGES = 100


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def arm(where):
    """Let this process die there."""

    def replace(source, target, real=os.replace):
        result = Path(target).name == 'result.json'
        if result and where == 'before the result':
            die()
        real(source, target)
        if result and where == 'after the result':
            die()

    def remove_one(folder, **_):
        next(Path(folder).iterdir()).unlink()
        die()

    def add(*args, real=Journal.add):
        real(*args)
        die()

    if where == 'in the removal of the journal':
        shutil.rmtree = remove_one
    elif where == 'after a record':
        Journal.add = add
    else:
        os.replace = replace


FORKED = set()


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


def start(config, log, processes, where=None):
    """The processes of an evaluation, of which the first one dies somewhere."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]

    def work(rank):
        if rank == 0 and where:
            arm(where)
        if processes > 1:
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes), MASTER_PORT=str(port))
            config.launcher = 'pytorch'
            join_processes('pytorch')
        with isolated():
            return errors.run(lambda argv: evaluate(config, 'cpu', resume=True) and 0, [])

    return [fork(log, partial(work, rank)) for rank in range(processes)]


def wait(pid):
    """The exit code, or the negative signal."""
    status = os.waitpid(pid, 0)[1]
    FORKED.remove(pid)
    return os.waitstatus_to_exitcode(status)


@pytest.fixture
def config(tmp_path):
    init_default_scope('mmseg')
    options = {'test_dataloader.num_workers': 0, 'test_dataloader.dataset.count': IMAGES}
    config = load_config('sclip_demo', options)
    config.work_dir = str(tmp_path / 'work')
    return config


@pytest.mark.slow
def test_a_killed_loader_ends_the_test_with_one_message(tmp_path, run_main, monkeypatch):
    options = ['--cfg-options', f'test_dataloader.dataset.count={IMAGES}', 'test_dataloader.num_workers=2']
    assert run_main('sclip_demo', '--device', 'cpu', *options).code == 0
    expected = json.loads((tmp_path / 'work' / 'result.json').read_text())

    def add(*args, real=Journal.add):
        real(*args)
        for child in multiprocessing.active_children()[:1]:
            child.kill()

    with monkeypatch.context() as patch:
        patch.setattr(Journal, 'add', add)
        result = run_main('sclip_demo', '--device', 'cpu', *options)
    assert result.code == 1
    assert result.last.startswith('Error: A process that loads images was killed') and '--resume' in result.last
    result = run_main('sclip_demo', '--device', 'cpu', '--resume', *options)
    assert result.code == 0 and f' of {IMAGES} images were finished before' in result.out
    found = json.loads((tmp_path / 'work' / 'result.json').read_text())
    assert found['classes'] == expected['classes'] and found['images'] == IMAGES


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
def test_one_evaluation_survives_many_kills(config, tmp_path):
    work, log = Path(config.work_dir), tmp_path / 'log.txt'
    with isolated():
        expected = evaluate(config, 'cpu')
    (work / 'result.json').unlink()
    ends = ('before the result', 'after the result', 'in the removal of the journal')
    for number, where in enumerate([*range(0, IMAGES - 10, 9), *ends]):
        pids = start(config, log, number % 3 + 1, where if where in ends else None)
        if where not in ends:
            deadline = time.monotonic() + 60
            while sum(path.read_bytes().count(b'\n') for path in work.glob('journal/*/*.jsonl')) <= where:
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.001)
            os.kill(pids[0], signal.SIGKILL)
        assert wait(pids[0]) == -signal.SIGKILL, (where, log.read_text())
        for pid in pids[1:]:  # as torchrun does
            os.kill(pid, signal.SIGKILL)
            wait(pid)
        assert (work / 'result.json').exists() == (where in ends[1:])
    assert [wait(pid) for pid in start(config, log, 2)] == [0, 0], log.read_text()
    result = json.loads((work / 'result.json').read_text())
    assert result['classes'] == expected['classes'] and result['metrics'] == expected['metrics']
    assert result['images'] == IMAGES and not (work / 'journal').exists()


@pytest.mark.slow
@pytest.mark.parametrize('processes', [3, 8])
def test_processes_count_every_image_once(config, tmp_path, processes):
    """Seven images are not a multiple of three, and fewer than eight processes; label maps are written too."""
    config.test_dataloader.dataset.count = 7
    config.test_evaluator.output_dir = str(tmp_path / 'maps')
    config.default_hooks.visualization.update(draw=True, out_dir=str(tmp_path / 'pictures'))
    results = []
    for number in (1, processes):
        config.work_dir = str(tmp_path / f'{number}')
        pids = start(config, tmp_path / 'log.txt', number)
        assert [wait(pid) for pid in pids] == [0] * number, (tmp_path / 'log.txt').read_text()
        results.append(json.loads((tmp_path / f'{number}' / 'result.json').read_text()))
        assert not (tmp_path / f'{number}' / 'journal').exists()
        for folder in ('maps', 'pictures'):
            assert len(list((tmp_path / folder).iterdir())) == 7
    alone, together = results
    assert together['classes'] == alone['classes'] and together['metrics'] == alone['metrics']
    assert together['images'] == alone['images'] == 7 and together['processes'] == processes
    assert (tmp_path / 'log.txt').read_text().count('| checkerboard |') == 2  # tables are printed once per run


@pytest.mark.slow
def test_who_waits_for_a_killed_process_says_so(config, tmp_path):
    log = tmp_path / 'log.txt'
    pids = start(config, log, 2, 'after a record')
    assert [wait(pid) for pid in pids] == [-signal.SIGKILL, 1]
    last = log.read_text().splitlines()[-1]
    assert last.startswith('Error: Another process of this job has ended') and '--resume' in last
    assert 'Traceback' not in log.read_text()
