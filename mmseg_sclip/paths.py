"""Where things lie: the shipped configs, and the cache for what is computed or painted."""

import difflib
import os
from pathlib import Path, PurePath

import platformdirs

from .errors import MissingFileError

PACKAGE = Path(__file__).resolve().parent


def cache_root() -> Path:
    """The folder for what mmseg_sclip makes itself; it may not exist yet.

    The environment variable `MMSEG_SCLIP_CACHE` moves it. Downloaded weights stay in the caches of open_clip and
    Hugging Face.
    """
    chosen = os.environ.get('MMSEG_SCLIP_CACHE')
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir('mmseg_sclip', appauthor=False))


def scenes_root() -> Path:
    """The folder of the painted scenes, one folder per set."""
    return cache_root() / 'scenes'


def configs_root() -> Path:
    """The folder of the shipped configs: `.mim/configs` in a wheel, the top-level `configs/` in a checkout.

    Raises:
        MissingFileError: The installation holds no configs.
    """
    # The wheel's place first: next to an installed package, `../configs` may belong to anyone.
    candidates = (PACKAGE / '.mim' / 'configs', PACKAGE.parent / 'configs')
    for folder in candidates:
        if (folder / '_base_').is_dir():
            return folder
    looked = ' and '.join(str(folder) for folder in candidates)
    raise MissingFileError(f'No configs of mmseg_sclip in {looked}. Install the package again, or use a full checkout.')


def list_configs() -> list[Path]:
    """The shipped configs that can be run, sorted by name; the parts in `_base_` are left out."""
    root = configs_root()
    found = (path for path in root.rglob('*.py') if '_base_' not in path.relative_to(root).parts)
    return sorted(found, key=config_name)


def config_name(path: Path) -> str:
    """The name by which `config_path` finds a shipped config wherever it lies, `<method>_<dataset>`."""
    return path.stem


def method_and_dataset(name: str) -> tuple[str, str]:
    """The two halves of the name of a shipped config; the second is empty where no dataset is called so."""
    datasets = {path.stem for path in (configs_root() / '_base_' / 'datasets').glob('*.py')}
    method, dataset = next(((name[: -len(own) - 1], own) for own in datasets if name.endswith(f'_{own}')), (name, ''))
    return method, dataset


def config_path(name: str) -> Path:
    """The file of a shipped config.

    Args:
        name: Such as `clip_demo`, or the path inside the configs folder, each with or without `.py`. Parts are found
            by their path only, such as `_base_/datasets/voc21`.

    Raises:
        MissingFileError: No shipped config has this name; the message names the nearest ones.
    """
    inside = PurePath(str(name).removesuffix('.py'))
    path = configs_root() / f'{inside}.py'
    if path.is_file() and not inside.is_absolute() and '..' not in inside.parts:
        return path
    known = {config_name(path): path for path in list_configs()}
    if inside.parent.as_posix() in (*_FORMER_FOLDERS, '.') and inside.name in known:
        return known[inside.name]
    near = difflib.get_close_matches(inside.name, known, n=3, cutoff=0.5)
    hint = _row_of_a_table(inside.name) or (f'Did you mean {" or ".join(near)}? ' if near else '')
    raise MissingFileError(f'No shipped config is called {str(name)!r}. {hint}`mmseg-sclip configs` lists them all.')


_FORMER_FOLDERS = (
    'baselines',
    'ablations',
    'freecp_sclip',
    'maskclip_official',
    'resclip_clearclip',
    'resclip_sclip',
)
# Configs of the past that are rows of the table tool now, and their table.
_ROWS = dict(identity=2, random=2, q=2, k=2, sharpening=3, local=3, earlier=3, mode1=4, mode2=4, mode4=4, mode5=4)


def _row_of_a_table(name: str) -> str:
    """What to say about a config of the past that is a row of the table tool now."""
    method, pamr, dataset = name.partition('_pamr_')
    row, table = f'{method}+pamr', 1
    if not pamr:
        row, _, dataset = name.replace('random_ensemble', 'random:4').removeprefix('sclip_').partition('_')
        table = _ROWS.get(row.partition(':')[0])
    command = f'mmseg-sclip ablate --table {table} --rows {row} --datasets {dataset}'
    return f'It is a row of the table tool now: `{command}`. ' if table and dataset else ''
