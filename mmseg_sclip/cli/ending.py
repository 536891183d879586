"""How commands end: the command to go on with, what was skipped, what could not be written."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import Interrupted, OutputError


def program(command: str) -> list[str]:
    """The words that call a command in the way in which this process was called."""
    called = Path(sys.argv[0])
    script = called.with_name(f'{command.replace("-", "_")}.py')
    if called.suffix == '.py' and script.is_file():
        return ['python', str(script)]
    return [*(['python', '-m', 'mmseg_sclip'] if called.name == '__main__.py' else ['mmseg-sclip']), command]


@contextmanager
def telling_how_to_go_on(command: str, argv: Sequence[str] | None, launcher: str) -> Iterator[None]:
    """Let an interrupt inside say how to go on.

    Args:
        command: The one that runs, such as `test`.
        argv: Its arguments; None for those of the process.
        launcher: Of its processes; what started them is not known here.

    Raises:
        Interrupted: In place of any interrupt, with its signal.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        words = [*program(command), *(sys.argv[1:] if argv is None else argv)]
        if '--resume' not in words:
            words.append('--resume')
        how = shlex.join(words) if launcher == 'none' else 'the same command with --resume'
        signum = getattr(interrupt, 'signum', signal.SIGINT)
        raise Interrupted(signum, f'{interrupt} Go on with: {how}'.lstrip()) from interrupt


def tell_losses(results: Sequence[Mapping], measured: str) -> None:
    """Print what was skipped, and refuse to end well where something could not be written.

    Args:
        results: See `evaluate`.
        measured: What is done in spite of it, as the beginning of a sentence.

    Raises:
        OutputError: Something could not be written.
    """
    skipped = {sample['image']: sample['reason'] for result in results for sample in result['skipped']}
    if skipped:
        print(f'{len(skipped)} images were skipped:')
        for image, reason in skipped.items():
            print(f'  {image}: {reason}')
    unwritten = dict.fromkeys(sentence for result in results for sentence in result.get('unwritten', ()))
    if unwritten:
        raise OutputError(f'{measured}, but not all could be written. {" ".join(unwritten)}')
