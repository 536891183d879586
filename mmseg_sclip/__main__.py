"""`python -m mmseg_sclip ...` is `mmseg-sclip ...`; `python -m mmseg_sclip SCRIPT.py ...` runs a script.

The latter is for MMSegmentation's own tools with mmcv-lite, where mmseg can only be imported after mmseg_sclip.
"""

import runpy
import sys

from .cli.main import main

if __name__ == '__main__':
    if sys.argv[1:] and sys.argv[1].endswith('.py'):
        from . import registering  # noqa: F401

        del sys.argv[0]
        runpy.run_path(sys.argv[0], run_name='__main__')
    else:
        sys.exit(main())
