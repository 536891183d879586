"""Where the weights of a model lie: in a file, in a folder, or under a name that has to be fetched."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.utils import EntryNotFoundError, get_session

from ...compat import open_clip
from ...demo import WEIGHTS
from ...errors import MissingFileError, nearest
from ...files import file_hash
from .config import ClipConfig
from .support import open_clip_name

_NAMES = ('open_clip_model.safetensors', 'open_clip_pytorch_model.bin')  # in a repository of the hub, the best first
_USUAL = (
    'open_clip_model.safetensors',
    'open_clip_pytorch_model.safetensors',
    'open_clip_pytorch_model.bin',
    'open_clip_pytorch_model.pth',
    'model.safetensors',
    'pytorch_model.bin',
    'pytorch_model.pth',
    'model.pth',
)  # names of weights in a folder, the best first
_PATIENCE = 5  # seconds in which a server must accept a connection


def find_weights(config: ClipConfig) -> Path | None:
    """The file with the weights of both towers, fetched where a tag or a hub has it; None for random weights.

    Raises:
        MissingFileError: There is no such file and no such tag, or it cannot be fetched.
    """
    name, pretrained = config.model_name, config.pretrained
    if name == 'builtin:demo':
        return WEIGHTS
    if config.folder is not None:
        return _in_folder(config.folder)
    if name.startswith('hf-hub:'):
        return fetch_from_hub(f"The weights of '{name}'", name.removeprefix('hf-hub:'), _NAMES, config.cache_dir)
    if pretrained is None:
        return None
    tag = open_clip.get_pretrained_cfg(open_clip_name(name), pretrained)
    if tag:
        return _fetch_tag(tag, config)
    if Path(pretrained).expanduser().is_file():
        return Path(pretrained).expanduser()
    tags = open_clip.list_pretrained_tags_by_model(open_clip_name(name))
    known = f'Tags of this architecture: {", ".join(tags)}.' if tags else 'This architecture has no tags; give a file.'
    raise MissingFileError(
        f"model.clip.pretrained is '{pretrained}', which is neither a file nor a tag of {name}."
        f'{nearest(pretrained, tags)} {known}'
    )


def fetch_from_hub(what: str, repository: str, names: Sequence[str], cache_dir: str | None) -> Path:
    """The first of `names` that a repository of the Hugging Face Hub has, out of the hub's cache or downloaded.

    huggingface_hub asks a hub that cannot be reached again and again, for 25 seconds and each name. So it is tried
    once beforehand whether the hub answers; if not, only the cache is looked into. HF_ENDPOINT, HF_HUB_OFFLINE and
    proxies are honoured.

    Args:
        what: What the message shall call it, with a capital letter.
        repository: ORG/REPO.
        names: Of files, the best first.
        cache_dir: Of the hub; None for its own.

    Raises:
        MissingFileError: With the reason.
    """
    unreachable = problem = _why_unreachable(constants.ENDPOINT)
    try:
        for name in names:
            try:
                return Path(hf_hub_download(repository, name, cache_dir=cache_dir, local_files_only=bool(unreachable)))
            except EntryNotFoundError as error:
                problem = unreachable or str(error)
    except Exception as error:  # the hub's client raises many kinds
        problem = unreachable or str(error)
    reason = problem.partition('\n')[0]
    raise MissingFileError(
        f'{what} could not be downloaded ({reason}), nor found in a cache. Without a connection give files: '
        'pretrained="/path/to/weights.pt" or model_name="local-dir:/path/to/folder" in the clip of the config '
        '(--pretrained and --model-name where the command has them). Behind a mirror set HF_ENDPOINT.'
    )


def find_in_hub_cache(repository: str, names: Sequence[str], cache_dir: str | None = None) -> Path | None:
    """The first of `names` that the hub's cache has of a repository; nothing is downloaded."""
    for name in names:
        found = try_to_load_from_cache(repository, name, cache_dir=cache_dir)
        if isinstance(found, str):
            return Path(found)
    return None


def _why_unreachable(address: str) -> str:
    """The reason why a server does not accept a connection, or nothing; a slow answer is an answer."""
    try:
        get_session().head(address, timeout=_PATIENCE)
    except Exception as error:  # of httpx or requests, as huggingface_hub has it
        if type(error).__name__ != 'ReadTimeout':
            return f'{address} cannot be reached: {error}'
    return ''


def _fetch_tag(tag: dict[str, Any], config: ClipConfig) -> Path:
    """The file of a tag: from the hub, or an archive that OpenAI's package or an old open_clip left in its cache."""
    repository, _, name = tag.get('hf_hub', '').rpartition('/')
    names = (Path(name).with_suffix('.safetensors').name, name) if name else _NAMES
    url = tag.get('url', '')
    archive = Path(config.cache_dir or '~/.cache/clip').expanduser() / Path(url).name
    try:
        what = f"The weights '{config.pretrained}' of {config.model_name}"
        return fetch_from_hub(what, repository, names, config.cache_dir)
    except MissingFileError:
        # Most addresses hold the beginning of the file's hash.
        if archive.is_file() and (file_hash(archive)[:8] in url or not re.search('[0-9a-f]{8}', url)):
            return archive
        raise


def _in_folder(folder: Path) -> Path:
    """The weights in a folder of a model: a file of a usual name, or the only one that can be weights."""
    files = sorted(path for path in folder.iterdir() if path.suffix in ('.safetensors', '.bin', '.pt', '.pth'))
    usual = [path for name in _USUAL for path in files if path.name == name]
    if not usual and len(files) != 1:
        raise MissingFileError(
            f'{folder} must hold one weights file (for example {_NAMES[0]}), but holds {len(files)}: '
            f'{", ".join(path.name for path in files) or "none"}.'
        )
    return (usual or files)[0]
