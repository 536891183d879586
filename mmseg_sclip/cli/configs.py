"""`mmseg-sclip configs`: lists the shipped configs."""

from collections.abc import Sequence

from .. import paths
from ..errors import ArgumentParser


def main(argv: Sequence[str]) -> int:
    """Print one line per config: its name and its file."""
    ArgumentParser(prog='mmseg-sclip configs', description='List the shipped configs and their paths.').parse_args(argv)
    found = {paths.config_name(path): path for path in paths.list_configs()}
    width = max(map(len, found), default=0)
    lines = [f'{name:<{width}}  {path}\n' for name, path in found.items()]
    print(''.join(lines), end='')  # one write, so that `| head` may close the pipe early
    return 0
