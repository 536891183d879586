"""Where `mmseg-sclip` enters.

It lies outside the package, which refuses to be imported in an environment that does not fit. What does not fit is then
printed here, so that `mmseg-sclip doctor` works there too.
"""

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command of `mmseg-sclip`; see `mmseg_sclip.cli.main`."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        from mmseg_sclip.cli.main import main as command
    except ImportError as error:
        if not hasattr(error, 'report'):
            raise
        if argv[:1] == ['doctor']:
            print(error.report)
        else:
            print(f'Error: {error}', file=sys.stderr)
        return 1
    return command(argv)


if __name__ == '__main__':
    sys.exit(main())
