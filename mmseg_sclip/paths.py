"""Where things lie: the shipped configs, and the cache for what is computed or painted."""

import difflib
import os
from pathlib import Path, PurePath

import platformdirs

PACKAGE = Path(__file__).resolve().parent


def cache_root() -> Path:
    """The folder for what mmseg_sclip makes itself; it may not exist yet.

    The environment variable `MMSEG_SCLIP_CACHE` moves it. Downloaded weights stay in the caches of open_clip and
    Hugging Face.
    """
    chosen = os.environ.get('MMSEG_SCLIP_CACHE')
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir('mmseg_sclip', appauthor=False))


def configs_root() -> Path:
    """The folder of the shipped configs: `.mim/configs` in a wheel, the top-level `configs/` in a checkout.

    Raises:
        FileNotFoundError: The installation holds no configs.
    """
    # The wheel's place first: next to an installed package, `../configs` may belong to anyone.
    candidates = (PACKAGE / '.mim' / 'configs', PACKAGE.parent / 'configs')
    for folder in candidates:
        if (folder / '_base_').is_dir():
            return folder
    looked = ' and '.join(str(folder) for folder in candidates)
    raise FileNotFoundError(
        f'No configs of mmseg_sclip in {looked}. Install the package again, or use a full checkout.'
    )


def list_configs() -> list[Path]:
    """The shipped configs that can be run, sorted; the parts in `_base_` are left out."""
    root = configs_root()
    return sorted(path for path in root.rglob('*.py') if '_base_' not in path.relative_to(root).parts)


def config_name(path: Path) -> str:
    """The name by which `config_path` finds a shipped config, e.g. `baselines/clip_demo`."""
    return path.relative_to(configs_root()).with_suffix('').as_posix()


def config_path(name: str) -> Path:
    """The file of a shipped config.

    Args:
        name: The path inside the configs folder, with or without `.py`, e.g. `baselines/clip_demo`. Parts are found
            too, e.g. `_base_/datasets/voc21`.

    Raises:
        FileNotFoundError: No shipped config has this name; the message names the nearest ones.
    """
    name = str(name)
    inside = PurePath(name if name.endswith('.py') else f'{name}.py')
    path = configs_root() / inside
    if path.is_file() and not inside.is_absolute() and '..' not in inside.parts:
        return path
    known = [config_name(path) for path in list_configs()]
    near = difflib.get_close_matches(inside.with_suffix('').as_posix(), known, n=3, cutoff=0.5)
    hint = f'Did you mean {" or ".join(near)}? ' if near else ''
    raise FileNotFoundError(f'No shipped config is called {name!r}. {hint}`mmseg-sclip configs` lists them all.')
