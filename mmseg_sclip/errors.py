"""The errors that a user can cause, and what the command line prints of an error.

Every error that a user can cause and mend derives from `UserError` and says what was got, what is allowed, and what to
do next. The command line prints it on one line. Everything else is a bug of ours or of a library, and keeps its
traceback.
"""

import argparse
import difflib
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence

_WORKER = re.compile(r'Caught \w+ in .+\.\nOriginal Traceback')
_OUT_OF_MEMORY = (
    'The device has too little memory. Let fewer windows through at once (--cfg-options '
    'model.test_cfg.window_batch=4; the default is 16), or take another device: --device cpu.'
)
_KILLED = re.compile(r'DataLoader worker \(pid.*(killed|exited)|Pin memory thread exited', re.DOTALL)
_MISSING = ('Please install ', 'mmcv.ops.')  # MMSegmentation's and our own word of an operator or a package
_RECEIVING = 'torch.multiprocessing.reductions'  # where a loader takes over what a worker has loaded
_LOST = re.compile(r'Connection (closed|reset) by peer|Broken pipe|Connection was likely closed')  # gloo, and its store
exit_code: int | None = None  # what `run` has returned, for what is cleaned up at the exit; None before that


class UserError(Exception):
    """An error that the user can mend; its text says how."""


class UsageError(UserError):
    """The command line itself is wrong."""


class ConfigError(UserError, ValueError):
    """A setting, a word or an argument is wrong."""


class MissingFileError(UserError, FileNotFoundError):
    """A file, a folder or weights are not where they are looked for."""


class BadFileError(UserError, OSError, ValueError):
    """A file is there but cannot be used: it is damaged, or holds something else."""


class OutputError(UserError, OSError):
    """Something cannot be written, or would replace what the user gave."""


class Interrupted(KeyboardInterrupt):
    """A run was ended by a signal.

    Args:
        signum: The signal.
        message: What is kept, and how to go on.
    """

    def __init__(self, signum: int = signal.SIGINT, message: str = '') -> None:
        super().__init__(message)
        self.signum = int(signum)


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint such as ` Did you mean 'stride'?`, or nothing where no known word is near."""
    close = difflib.get_close_matches(str(word), [str(name) for name in known], n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close and close[0] != str(word) else ''


def output_error(path: object, error: OSError, what: str = '') -> OutputError:
    """What to say where `path` cannot be written.

    Args:
        path: The file or the folder.
        error: Why.
        what: Which of the outputs it is, such as `--show-dir`.
    """
    reason = error.strerror or str(error) or type(error).__name__
    which = f' ({what})' if what else ''
    return OutputError(
        f'Cannot write {path}{which}: {reason}. Free some space there, or name a folder that can be written to.'
    )


class ArgumentParser(argparse.ArgumentParser):
    """argparse's parser, but wrong arguments end like every other error, and `--debug` is always there."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.add_argument('--debug', action='store_true', help='show the traceback of an error')

    def error(self, message: str) -> None:
        """Print the usage and raise, where argparse would exit with code 2."""
        self.print_usage(sys.stderr)
        raise UsageError(f'{message} (`{self.prog} --help` explains the arguments)')


def run(command: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """Call `command(argv)` and turn what it raises into an exit code and a readable last line.

    Args:
        command: Returns the exit code; None counts as 0.
        argv: Its arguments; None for those of the process. With `--debug` among them every error shows its traceback.

    Returns:
        0, 1 after an error, 128 plus the number of the signal after an interrupt: 130 or 143.
    """
    global exit_code
    exit_code = _run(command, list(sys.argv[1:] if argv is None else argv))
    return exit_code


def _run(command: Callable[[Sequence[str]], int | None], argv: Sequence[str]) -> int:
    try:
        return command(argv) or 0
    except KeyboardInterrupt as error:
        print(f'Interrupted. {error}'.rstrip(), file=sys.stderr, flush=True)
        return 128 + getattr(error, 'signum', int(signal.SIGINT))
    except SystemExit as error:  # argparse after --help
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(f'Error: {error.code}', file=sys.stderr)
        return 1
    except Exception as error:
        try:
            _report(error, '--debug' in argv)
        except RuntimeError as late:  # where a worker's death becomes known only now
            if not worker_was_killed(late):
                raise
            _report(late, '--debug' in argv)
        return 1


def _report(error: Exception, debug: bool) -> None:
    sys.stdout.flush()  # the message comes last, also where both streams go to one file
    if not (isinstance(error, UserError) or _explained(error)) or debug:
        traceback.print_exception(error)
    print(f'Error: {describe(error)}', file=sys.stderr, flush=True)


def worker_was_killed(error: BaseException) -> bool:
    """Whether an error says that a loader's worker was killed; torch raises it wherever this process just is."""
    return isinstance(error, RuntimeError) and _KILLED.search(str(error)) is not None


def describe(error: BaseException) -> str:
    """What an error says to the user, on one line; an error that is not ours is named with its class."""
    if explained := _explained(error):
        return explained
    name, text = type(error).__name__, str(error)
    if _WORKER.match(text):  # torch puts the traceback of a loader's worker into the text
        lines = text.splitlines()
        start = max(i for i, line in enumerate(lines) if line.startswith(('Traceback', 'Original Traceback'))) + 1
        last = next(i for i in range(start, len(lines)) if lines[i] and not lines[i].startswith(' '))
        text = '\n'.join(lines[last:]).partition(': ')[2]
    text = ' '.join(text.split())
    return text if isinstance(error, UserError) else f'{name}: {text}' if text else name


def _explained(error: BaseException) -> str | None:
    """What helps against an error of other libraries, where that is known; then no traceback is needed."""
    name, text = type(error).__name__, str(error)
    if name == 'OutOfMemoryError':  # torch's; this module must not import torch
        return f'{_OUT_OF_MEMORY} ({". ".join(text.split(". ")[:2])})'
    if worker_was_killed(error) or _worker_is_gone(error):
        return (
            'A process that loads images was killed, most often because the memory is too small. What is finished is '
            'kept: go on with --resume, and with fewer of these processes, such as --cfg-options '
            f'test_dataloader.num_workers=0. ({" ".join(text.split()) or name})'
        )
    if isinstance(error, RuntimeError) and _LOST.search(text):  # a download that breaks off raises an OSError
        return (
            'Another process of this job has ended, and this one cannot go on without it. The message of that process '
            f'says why; if it has none, it was killed. What is finished is kept: go on with --resume. ({name})'
        )
    if text.startswith(_MISSING):
        return text
    if text.startswith('Failed to import custom modules') and error.__cause__ is not None:
        cause = error.__cause__  # MMEngine lists sys.path in place of the reason
        return f'{cause.__context__ or cause} (a module in `custom_imports` of the config cannot be imported)'
    return None


def _worker_is_gone(error: BaseException) -> bool:
    """Whether a loader could not take over a sample because the worker that offers it is dead.

    torch's own message needs a sign of that death which may arrive later than this error.
    """
    return isinstance(error, (ConnectionError, EOFError, FileNotFoundError)) and any(
        frame.f_globals.get('__name__') == _RECEIVING for frame, _ in traceback.walk_tb(error.__traceback__)
    )
