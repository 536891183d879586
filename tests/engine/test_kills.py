"""Processes that are killed at many moments, and that start at once: the counts are those of an undisturbed one.

They are forked from this one, so that each starts in no time.
"""

import json
import multiprocessing
import os
import random
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
from mmseg_sclip.datasets import painting
from mmseg_sclip.engine.distributed import join_processes
from mmseg_sclip.engine.evaluation import evaluate
from mmseg_sclip.engine.journal import Journal
from mmseg_sclip.engine.runner import build_runner, isolated
from mmseg_sclip.images import LoadImage
from mmseg_sclip.models.clip import ClipSource
from mmseg_sclip.models.clip.tower import VisionTower

IMAGES = 100
# Where a process dies, and how often it passes there in its first images; at some time: behind so many images of all.
IN_THE_RUN = {
    'in the forward': 12,
    'reading an image': 3,
    'before a record': 2,
    'in a record': 2,
    'behind a record': 2,
    'at some time': 6,
}
AT_THE_END = ('before the result', 'behind the result', 'in the removal of the journal')


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def dying(function, number, before=True, when=lambda *args: True):
    """A function that kills its process in its call `number`, before or behind its work."""
    left = [number]

    def call(*args, **kwargs):
        left[0] -= when(*args)
        last = left[0] == 0 and when(*args)
        if last and before:
            die()
        result = function(*args, **kwargs)
        return die() if last else result

    return call


class HalfWritten:
    """A file that gets half of its last record."""

    def __init__(self, file, records):
        self.file, self.left = file, records

    def write(self, record):
        self.left -= 1
        self.file.write(record[: len(record) // 2] if self.left == 0 else record)
        return self.left or die()

    def __getattr__(self, name):
        return getattr(self.file, name)


def arm(where, number):
    """Let this process die there."""

    def open_badly(journal, opened=Journal._open):
        opened(journal)
        journal._file = HalfWritten(journal._file, number)

    def remove_one(folder, **_):
        next(Path(folder).iterdir()).unlink()
        die()

    if where == 'in the forward':
        VisionTower.block = dying(VisionTower.block, number)
    elif where == 'reading an image':
        LoadImage.transform = dying(LoadImage.transform, number)
    elif where in ('before a record', 'behind a record'):
        Journal.add = dying(Journal.add, number, where.startswith('before'))
    elif where == 'in a record':
        Journal._open = open_badly
    elif where in ('before the result', 'behind the result'):
        is_result = lambda _, path: Path(path).name == 'result.json'  # noqa: E731
        os.replace = dying(os.replace, 1, where.startswith('before'), is_result)
    elif where == 'in the removal of the journal':
        shutil.rmtree = remove_one


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


def start(config, log, rank, processes, port, where, number):
    def work():
        if rank == 0:
            arm(where, number)
        if processes > 1:
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes), MASTER_PORT=str(port))
            config.launcher = 'pytorch'
            join_processes('pytorch')
        with isolated():
            return errors.run(lambda argv: evaluate(config, 'cpu', resume=True) and 0, [])

    return fork(log, work)


def start_all(config, log, processes, where=None, number=None):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    return [start(config, log, rank, processes, port, where, number) for rank in range(processes)]


def wait(pid):
    """The exit code, or the negative signal."""
    status = os.waitpid(pid, 0)[1]
    FORKED.remove(pid)
    return os.waitstatus_to_exitcode(status)


def recorded(config):
    return sum(path.read_bytes().count(b'\n') for path in Path(config.work_dir).glob('journal/*/*.jsonl'))


def run(config, log, processes=1, where=None, number=None):
    """How the first process ends; the others die with it."""
    before = recorded(config)
    pids = start_all(config, log, processes, where, number)
    if where == 'at some time':
        deadline = time.monotonic() + 60
        while recorded(config) < before + number and time.monotonic() < deadline:
            time.sleep(0.001)
        os.kill(pids[0], signal.SIGKILL)
    code = wait(pids[0])
    for pid in pids[1:]:
        if code:
            os.kill(pid, signal.SIGKILL)
        wait(pid)
    return code


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
    work, log, rng = Path(config.work_dir), tmp_path / 'log.txt', random.Random(0)
    with isolated():
        expected = evaluate(config, 'cpu')
    (work / 'result.json').unlink()
    moments = [(where, most) for where, most in IN_THE_RUN.items() for _ in range(2)]
    rng.shuffle(moments)
    for where, most in [*moments, *((where, 1) for where in AT_THE_END)]:
        code = run(config, log, rng.choice([1, 1, 2, 3]), where, rng.randint(1, most))
        assert code == -signal.SIGKILL, (where, log.read_text())
        assert (work / 'result.json').exists() == (where in AT_THE_END[1:])
    assert run(config, log, 2) == 0, log.read_text()
    result = json.loads((work / 'result.json').read_text())
    assert result['classes'] == expected['classes'] and result['metrics'] == expected['metrics']
    assert result['images'] == IMAGES and not (work / 'journal').exists()


@pytest.mark.slow
@pytest.mark.parametrize('processes', [2, 3, 8])
def test_processes_count_every_image_once(config, tmp_path, processes):
    """Seven images are not a multiple of two or three, and fewer than eight processes; label maps are written too."""
    config.test_dataloader.dataset.count = 7
    config.test_evaluator.output_dir = str(tmp_path / 'maps')
    config.default_hooks.visualization.update(draw=True, out_dir=str(tmp_path / 'pictures'))
    results = []
    for number in (1, processes):
        config.work_dir = str(tmp_path / f'{number}')
        pids = start_all(config, tmp_path / 'log.txt', number)
        assert [wait(pid) for pid in pids] == [0] * number, (tmp_path / 'log.txt').read_text()
        results.append(json.loads((tmp_path / f'{number}' / 'result.json').read_text()))
        assert not (tmp_path / f'{number}' / 'journal').exists()
        for folder in ('maps', 'pictures'):
            assert len(list((tmp_path / folder).iterdir())) == 7
    alone, together = results
    assert together['classes'] == alone['classes'] and together['metrics'] == alone['metrics']
    assert together['images'] == alone['images'] == 7 and together['processes'] == processes
    assert (tmp_path / 'log.txt').read_text().count('| checkerboard |') == 2  # tables are printed once a run


@pytest.mark.slow
def test_who_waits_for_a_killed_process_says_so(config, tmp_path):
    log = tmp_path / 'log.txt'
    pids = start_all(config, log, 2, 'behind a record', 3)
    assert [wait(pid) for pid in pids] == [-signal.SIGKILL, 1]
    last = log.read_text().splitlines()[-1]
    assert last.startswith('Error: Another process of this job has ended') and '--resume' in last
    assert 'Traceback' not in log.read_text()


@pytest.mark.slow
def test_of_three_that_start_on_an_empty_cache_two_are_killed(config, tmp_path, monkeypatch):
    """The first one dies while it paints and the second one while it encodes; who waits goes on with all of it."""
    with isolated():
        expected = evaluate(config, 'cpu')
    monkeypatch.setenv('MMSEG_SCLIP_CACHE', str(tmp_path / 'empty'))
    log, began = tmp_path / 'log.txt', tmp_path / 'began'

    def die_once(function, number, what):
        def call(*args, **kwargs):
            with log.open('a') as file:
                file.write(f'{what} by {os.getpid()}\n')
            counted = len([line for line in log.read_text().splitlines() if line == f'{what} by {os.getpid()}'])
            if counted == number and not (tmp_path / what).exists():
                (tmp_path / what).touch()
                die()
            return function(*args, **kwargs)

        return call

    def work(index):
        painting.scene = die_once(painting.scene, 7, 'painted')
        ClipSource.text_tower = die_once(ClipSource.text_tower, 1, 'encoded')
        config.work_dir = str(tmp_path / f'{index}')
        while not began.exists():
            time.sleep(0.01)
        with isolated():
            evaluate(config, 'cpu')

    pids = [fork(log, partial(work, index)) for index in range(3)]
    began.touch()
    codes = [wait(pid) for pid in pids]
    assert sorted(codes) == [-signal.SIGKILL, -signal.SIGKILL, 0], log.read_text()
    lines = log.read_text().splitlines()
    assert sum(line.startswith('painted by') for line in lines) == 7 + IMAGES
    assert sum(line.startswith('encoded by') for line in lines) == 2
    result = json.loads((tmp_path / f'{codes.index(0)}' / 'result.json').read_text())
    assert result['classes'] == expected['classes']
