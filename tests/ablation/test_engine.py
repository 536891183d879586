import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmseg_sclip.ablation import engine
from mmseg_sclip.ablation.engine import Outcome, Run, Skipped, execute

# Loaded as a file: the engine needs nothing of the package.
SLOW = """
import importlib.util, sys, time
from pathlib import Path
spec = importlib.util.spec_from_file_location('engine', sys.argv[1])
engine = sys.modules['engine'] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(engine)
folder = Path(sys.argv[2])

def work(number):
    with (folder / 'calls').open('a') as file:
        file.write(f'{number}\\n')
    time.sleep(float(sys.argv[3]) if number == 2 else 0)
    return {'number': number}

outcomes = engine.execute([engine.Run(str(n), lambda n=n: work(n)) for n in range(4)], folder / 'runs')
print([outcome.result['number'] for outcome in outcomes])
"""


def counting(calls, name, result=None, error=None):
    def work():
        calls.append(name)
        if error is not None:
            raise error
        return {'name': name} if result is None else result

    return Run(name, work)


def test_results_come_in_order_and_are_kept(tmp_path):
    calls = []
    runs = [counting(calls, name) for name in 'abc']
    first = execute(runs, tmp_path / 'deep' / 'runs')
    assert [outcome.result for outcome in first] == [{'name': name} for name in 'abc']
    assert not any(outcome.kept for outcome in first) and all(outcome.seconds >= 0 for outcome in first)
    again = execute(list(reversed(runs)), tmp_path / 'deep' / 'runs')
    assert calls == ['a', 'b', 'c']
    assert [outcome.result['name'] for outcome in again] == ['c', 'b', 'a']
    assert all(outcome.kept for outcome in again)
    assert [outcome.seconds for outcome in again] == [outcome.seconds for outcome in reversed(first)]


def test_one_key_is_run_once(tmp_path):
    calls = []
    outcomes = execute([counting(calls, 'a'), counting(calls, 'a')], tmp_path)
    assert calls == ['a'] and [outcome.kept for outcome in outcomes] == [False, True]


def test_without_a_key_nothing_is_kept(tmp_path):
    runs = [Run(None, lambda: {'x': 1})] * 2
    assert [outcome.kept for outcome in execute(runs, tmp_path)] == [False, False]
    assert not list(tmp_path.iterdir())


def test_failures_and_skips_leave_the_rest_alone_and_are_tried_again(tmp_path):
    calls = []
    runs = [
        counting(calls, 'skip', error=Skipped('no data')),
        counting(calls, 'fail', error=ValueError('bad')),
        counting(calls, 'mute', error=AssertionError()),
        counting(calls, 'good'),
    ]
    skip, fail, mute, good = execute(runs, tmp_path, explain=lambda error: str(error).upper())
    assert skip == Outcome(reason='no data')
    assert fail == Outcome(reason='BAD', failed=True)
    assert mute == Outcome(reason='AssertionError', failed=True)
    assert good.result == {'name': 'good'}
    execute(runs, tmp_path)
    assert calls == ['skip', 'fail', 'mute', 'good', 'skip', 'fail', 'mute']


def test_an_interruption_goes_through_and_keeps_what_is_finished(tmp_path):
    calls = []
    runs = [counting(calls, 'a'), counting(calls, 'b', error=KeyboardInterrupt()), counting(calls, 'c')]
    with pytest.raises(KeyboardInterrupt):
        execute(runs, tmp_path)
    outcomes = execute([runs[0], counting(calls, 'b'), runs[2]], tmp_path)
    assert calls == ['a', 'b', 'b', 'c'] and [outcome.kept for outcome in outcomes] == [True, False, False]


def test_before_and_after_are_called(tmp_path):
    seen = []
    runs = [counting([], 'a'), counting([], 'b', error=Skipped('no'))]
    for _ in range(2):
        execute(runs, tmp_path, before=lambda i: seen.append(i), after=lambda i, o: seen.append((i, o.kept, o.reason)))
    assert seen == [0, (0, False, None), 1, (1, False, 'no'), (0, True, None), 1, (1, False, 'no')]


@pytest.mark.parametrize('content', ['', '{"result": {"na', '[]', '{"result": {}}'])
def test_a_file_that_is_no_record_is_made_anew(tmp_path, content):
    (tmp_path / 'a.json').write_text(content)
    (outcome,) = execute([counting([], 'a')], tmp_path)
    assert not outcome.kept and json.loads((tmp_path / 'a.json').read_text())['result'] == {'name': 'a'}


def test_files_appear_whole(tmp_path, monkeypatch):
    path = tmp_path / 'x.json'
    path.write_text('old')

    def replace(source, target):
        assert Path(source).read_text() == 'new' and path.read_text() == 'old'
        raise OSError('no space left')

    with monkeypatch.context() as patch:
        patch.setattr(engine.os, 'replace', replace)
        with pytest.raises(OSError, match='no space'):
            engine.write_atomically(path, 'new')
    assert [file.name for file in tmp_path.iterdir()] == ['x.json'] and path.read_text() == 'old'
    engine.write_atomically(path, 'new')
    assert path.read_text() == 'new'


@pytest.mark.skipif(not hasattr(signal, 'SIGKILL'), reason='no SIGKILL on this system')
def test_a_killed_process_goes_on_where_it_was(tmp_path):
    command = [sys.executable, '-c', SLOW, engine.__file__, str(tmp_path)]
    process = subprocess.Popen([*command, '60'], env={**os.environ}, stdout=subprocess.PIPE)
    calls = tmp_path / 'calls'
    deadline = time.monotonic() + 30
    while not (calls.is_file() and calls.read_text().split()[-1:] == ['2']):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert sorted(file.name for file in (tmp_path / 'runs').iterdir()) == ['0.json', '1.json']
    done = subprocess.run([*command, '0'], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[0, 1, 2, 3]'
    assert calls.read_text().split() == ['0', '1', '2', '2', '3']
