"""Where every command enters: `mmseg-sclip NAME`, and `tools/NAME.py`.

It lies outside the package, which registers its parts as soon as it is imported. A command does so later: `--help`,
wrong arguments and `mmseg-sclip doctor` need neither torch nor an environment that fits.
"""

import sys
from collections.abc import Sequence

entering = False  # read by mmseg_sclip/__init__.py


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command of `mmseg-sclip`; see `mmseg_sclip.cli.main`."""
    global entering
    entering = True
    try:
        from mmseg_sclip.cli.main import main as command
    finally:
        entering = False  # what is imported from here on registers its parts, such as in processes that are spawned
    return command(argv)


if __name__ == '__main__':
    from mmseg_sclip_cli import main as enter  # under its own name, by which the package knows it

    sys.exit(enter())
