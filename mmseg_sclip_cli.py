"""Where the command line enters: opens mmseg_sclip without running its `__init__`.

`import mmseg_sclip` refuses a broken environment, but `mmseg-sclip doctor` is made for one. So the package is put in
place unexecuted here, and `mmseg_sclip.cli.main` executes it for the commands that need it.
"""

import importlib.util
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command of `mmseg-sclip`; see `mmseg_sclip.cli.main`."""
    if 'mmseg_sclip' not in sys.modules:
        spec = importlib.util.find_spec('mmseg_sclip')
        sys.modules['mmseg_sclip'] = importlib.util.module_from_spec(spec)
    from mmseg_sclip.cli.main import main as command

    return command(argv)


if __name__ == '__main__':
    sys.exit(main())
