"""tools/soak.py: what it counts, and when it fails."""

import sys

import pytest

from mmseg_sclip.engine.metric import ExactIoUMetric
from mmseg_sclip.errors import UsageError
from mmseg_sclip.paths import PACKAGE

sys.path.append(str(PACKAGE.parent / 'tools'))
import soak  # noqa: E402


@pytest.mark.slow
def test_a_leak_is_found(fresh_engine, monkeypatch, capsys):
    """Every image leaves 32 MiB, more than a process gives back meanwhile."""
    assert soak.main(['--images', '12', '--warm-up', '4', '--device', 'cpu']) == 0
    assert '12 images; from image 4 on the memory grew by ' in capsys.readouterr().out
    leaked, process = [], ExactIoUMetric.process

    def leaking(self, *args):
        leaked.append(b'\x01' * 2**25)
        process(self, *args)

    monkeypatch.setattr(ExactIoUMetric, 'process', leaking)
    assert soak.main(['--images', '12', '--warm-up', '4', '--device', 'cpu']) == 1


@pytest.mark.parametrize('numbers', [('4', '4'), ('4', '0')])
def test_a_run_without_a_warm_up_is_refused(numbers):
    with pytest.raises(UsageError, match='the warm-up is 1 image or more, but shorter'):
        soak.main(['--images', numbers[0], '--warm-up', numbers[1]])
