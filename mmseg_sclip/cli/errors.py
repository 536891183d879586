"""How every command of ours reports errors: one last line `Error: ...`, exit code 1, no traceback."""

import argparse
import ast
import re
import sys
import traceback
from collections.abc import Callable, Sequence

WORKER_ERROR = re.compile(r'Caught (\w+) in .+\.\nOriginal Traceback')
OUT_OF_MEMORY = (
    'The device has too little memory. Let fewer windows through at once (--cfg-options '
    'model.test_cfg.window_batch=4; the default is 16), or take another device: --device cpu.'
)
TRACEBACK = 'Traceback (most recent call last):\n'


class UsageError(Exception):
    """The command line itself is wrong."""


class ArgumentParser(argparse.ArgumentParser):
    """argparse's parser, but wrong arguments end like every other error, and `--debug` is always there."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.add_argument('--debug', action='store_true', help='show the traceback of an error')

    def error(self, message: str) -> None:
        """Print the usage and raise, where argparse would exit with code 2."""
        self.print_usage(sys.stderr)
        raise UsageError(f'{message} (`{self.prog} --help` explains the arguments)')


def run(function: Callable[[Sequence[str]], int | None], argv: Sequence[str]) -> int:
    """Call `function(argv)` and turn what it raises into an exit code and a readable last line.

    Args:
        function: Returns the exit code; None counts as 0.
        argv: Its arguments. With `--debug` among them the traceback is printed too.
    """
    try:
        return function(argv) or 0
    except KeyboardInterrupt:
        print('Interrupted.', file=sys.stderr)
        return 130
    except SystemExit as error:  # argparse after --help
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        reason: BaseException = error
    except Exception as error:
        reason = error
    sys.stdout.flush()  # the message comes last, also where both streams go to one file
    if '--debug' in argv:
        traceback.print_exception(reason)
    print(f'Error: {describe(reason)}', file=sys.stderr, flush=True)
    return 1


def describe(error: BaseException) -> str:
    """What an error says to the user, on one line."""
    name, text = _unwrap(error)
    text = ' '.join(text.split())
    if name == 'OutOfMemoryError':  # torch's; this module must not import torch
        return f'{OUT_OF_MEMORY} ({". ".join(text.split(". ")[:2]) or name})'
    if not text:
        return f'{name} without a message (--debug shows where it was raised)'
    return text if ' ' in text else f'{name}: {text}'  # a lone word, like the key of a KeyError, explains nothing


def _unwrap(error: BaseException) -> tuple[str, str]:
    """The name and text of the error that was meant, out of those that torch and mmengine wrap around it."""
    text = str(error)
    if isinstance(error, KeyError) and len(error.args) == 1:
        text = str(error.args[0])  # str() of a KeyError is the repr of its key
    if WORKER_ERROR.match(text):
        return _last_of_traceback(text)
    if text.startswith('Failed to import custom modules') and error.__cause__ is not None:
        # mmengine lists sys.path, and leaves out why the import failed.
        cause = error.__cause__
        reason = f': {cause.__context__}' if cause.__context__ is not None else ''
        return 'ImportError', f'{cause}{reason} (named in `custom_imports` of the config)'
    return type(error).__name__, text


def _last_of_traceback(text: str) -> tuple[str, str]:
    """The name and message of the exception with which a formatted traceback ends."""
    lines = text.rpartition(TRACEBACK)[2].splitlines()
    start = next((i for i, line in enumerate(lines) if line and not line.startswith(' ')), 0)  # frames are indented
    name, _, message = '\n'.join(lines[start:]).partition(':')
    name, message = name.rpartition('.')[2].strip(), message.strip()
    if name == 'KeyError' and message[:1] in ('"', "'"):
        message = str(ast.literal_eval(message))
    return name, message
