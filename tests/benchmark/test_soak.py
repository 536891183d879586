"""tools/soak.py: what it counts, and when it fails."""

import sys

import pytest

from mmseg_sclip.engine.metric import ExactIoUMetric
from mmseg_sclip.errors import UsageError
from mmseg_sclip.paths import PACKAGE

sys.path.append(str(PACKAGE.parent / 'tools'))
import soak  # noqa: E402


@pytest.mark.slow
def test_memory_is_read_behind_the_warm_up_and_at_the_end(fresh_engine, capsys):
    assert soak.main(['--images', '12', '--warm-up', '4', '--device', 'cpu']) == 0
    out = capsys.readouterr().out
    assert '      4 images: ' in out and '     12 images: ' in out
    assert '12 images; from image 4 on the memory grew by ' in out


@pytest.mark.slow
def test_a_leak_is_found(fresh_engine, monkeypatch):
    """Every image leaves 32 MiB behind, more than a process gives back meanwhile."""
    leaked, process = [], ExactIoUMetric.process

    def leaking(self, *args):
        leaked.append(b'\x01' * 2**25)
        process(self, *args)

    monkeypatch.setattr(ExactIoUMetric, 'process', leaking)
    assert soak.main(['--images', '12', '--warm-up', '4', '--device', 'cpu']) == 1


@pytest.mark.parametrize('numbers', [('4', '4'), ('4', '0'), ('0', '1')])
def test_a_run_without_a_warm_up_is_refused(numbers):
    with pytest.raises(UsageError, match='the warm-up is 1 image or more, but shorter'):
        soak.main(['--images', numbers[0], '--warm-up', numbers[1]])
