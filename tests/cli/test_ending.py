"""What commands say at their end."""

from pathlib import Path

import pytest

from mmseg_sclip.cli import main
from mmseg_sclip.cli import test as command
from mmseg_sclip.errors import Interrupted

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    'called, words',
    [
        ('/usr/bin/mmseg-sclip', 'mmseg-sclip test'),
        (str(ROOT / 'mmseg_sclip' / '__main__.py'), 'python -m mmseg_sclip test'),
        (str(ROOT / 'mmseg_sclip_cli.py'), 'mmseg-sclip test'),
        (str(ROOT / 'tools' / 'test.py'), f'python {ROOT / "tools" / "test.py"}'),
    ],
)
@pytest.mark.parametrize('given', [[], ['--resume']])
def test_an_interrupted_test_prints_the_command_to_go_on_with(monkeypatch, capsys, tmp_path, called, words, given):
    def interrupt(*_):
        raise Interrupted(15, 'Partial result.')

    monkeypatch.setattr(command, 'evaluate', interrupt)
    monkeypatch.setattr('sys.argv', [called])
    argv = ['sclip_demo', '--work-dir', str(tmp_path / 'my runs'), *given]
    assert main.main(['test', *argv]) == 143
    last = capsys.readouterr().err.splitlines()[-1]
    how = f"{words} sclip_demo --work-dir '{tmp_path}/my runs' --resume"
    assert last == f'Interrupted. Partial result. Go on with: {how}'


def test_what_started_several_processes_must_do_so_again(monkeypatch, capsys, tmp_path):
    def interrupt(*_):
        raise Interrupted(2, 'Partial result.')

    monkeypatch.setattr(command, 'evaluate', interrupt)
    monkeypatch.setattr(command, 'join_processes', lambda launcher, device: device)
    assert main.main(['test', 'sclip_demo', '--work-dir', str(tmp_path), '--launcher', 'pytorch']) == 130
    assert capsys.readouterr().err.endswith('Partial result. Go on with: the same command with --resume\n')
