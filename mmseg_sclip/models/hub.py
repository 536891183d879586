"""Files of the Hugging Face hub: out of its cache, or downloaded; a hub that cannot be reached is asked once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.utils import EntryNotFoundError, get_session

from ..errors import MissingFileError

_PATIENCE = 5  # seconds in which a server must accept a connection


class NotOnHub(MissingFileError):
    """A file cannot be had from the hub; the text is the reason, in a few words."""


def fetch_from_hub(repository: str, names: Sequence[str], cache_dir: str | None = None) -> Path:
    """The first of `names` that a repository of the Hugging Face hub has, out of the hub's cache or downloaded.

    huggingface_hub asks a hub that cannot be reached again and again, for 25 seconds and each name. So it is tried
    once beforehand whether the hub answers; if not, only the cache is looked into. HF_ENDPOINT, HF_HUB_OFFLINE and
    proxies are honoured.

    Args:
        repository: ORG/REPO.
        names: Of files, the best first.
        cache_dir: Of the hub; None for its own.

    Raises:
        NotOnHub: With the reason.
    """
    unreachable = problem = why_unreachable()
    try:
        for name in names:
            try:
                return Path(hf_hub_download(repository, name, cache_dir=cache_dir, local_files_only=bool(unreachable)))
            except EntryNotFoundError as error:
                problem = unreachable or str(error)
    except Exception as error:  # the hub's client raises many kinds
        problem = unreachable or str(error)
    raise NotOnHub(problem.strip().partition('\n')[0].rstrip('.'))


def find_in_cache(repository: str, names: Sequence[str], cache_dir: str | None = None) -> Path | None:
    """The first of `names` that the hub's cache has of a repository; nothing is downloaded."""
    for name in names:
        found = try_to_load_from_cache(repository, name, cache_dir=cache_dir)
        if isinstance(found, str):
            return Path(found)
    return None


def why_unreachable() -> str:
    """The reason why the hub does not accept a connection, or nothing; a slow answer is an answer."""
    address = constants.ENDPOINT
    if constants.HF_HUB_OFFLINE:
        return f'HF_HUB_OFFLINE forbids to ask {address}'
    try:
        get_session().head(address, timeout=_PATIENCE)
    except Exception as error:  # of httpx or requests, as huggingface_hub has it
        if type(error).__name__ != 'ReadTimeout':
            reason = str(error).strip().partition('\n')[0].rstrip('.')
            return f'{address} cannot be reached: {reason}; HF_ENDPOINT names a mirror'
    return ''
