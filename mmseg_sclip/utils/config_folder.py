"""Where the config lies that is being built."""

import sys
from pathlib import Path

from mmengine.config import Config


def running_config_folder() -> Path | None:
    """The folder of the config file that a caller is building a model from, or None.

    MMEngine hands parts of a config to what it builds, but not the place of its file. So its `Config` is
    looked for among the callers' variables, the nearest first: that of `init_model`, of the runner, or of
    a script.
    """
    frame = sys._getframe(1)
    while frame is not None:
        for value in frame.f_locals.values():
            if isinstance(value, Config) and value.filename:
                return Path(value.filename).resolve().parent
        frame = frame.f_back
    return None
