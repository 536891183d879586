"""What can fail where open_clip builds a part with Hugging Face's transformers, in one sentence each."""

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from ...errors import ConfigError, MissingFileError

_OF_TOKENIZERS = 'sentencepiece tiktoken protobuf'  # transformers may name any one of them, and not the one it needs


@contextmanager
def with_transformers(what: str) -> Iterator[None]:
    """A block that builds a part with transformers, which is an optional package.

    Args:
        what: What messages shall call the part, with a capital letter.

    Raises:
        ConfigError: A package is missing, or does not fit the others.
        MissingFileError: Files of the part are not in the cache of the hub, and cannot be fetched.
    """
    try:
        yield
    except OSError as error:
        raise MissingFileError(
            f'{what} could not be loaded ({_first_line(error)}). It is fetched once, from the Hugging Face Hub: go '
            'online, set HF_ENDPOINT for a mirror, or name a folder that holds it in the model description.'
        ) from error
    except (ImportError, RuntimeError, ValueError) as error:  # open_clip has a RuntimeError where it has no package
        if why := _why_no_transformers():
            raise ConfigError(
                f'{what} needs the package transformers, which {why}: pip install "mmseg_sclip[transformers]". Or take '
                'another network, such as ViT-B-16-quickgelu for CLIP, which needs none.'
            ) from error
        asked_for = re.search(_OF_TOKENIZERS.replace(' ', '|'), str(error), re.IGNORECASE)
        if not asked_for and not isinstance(error, ImportError):
            raise
        raise ConfigError(
            f'{what} needs a package that is not installed ({_first_line(error)}): pip install '
            f'{_OF_TOKENIZERS if asked_for else getattr(error, "name", None) or "--upgrade transformers"}.'
        ) from error


def import_transformers(what: str, name: str) -> ModuleType:
    """The package, imported at its first use.

    Args:
        what: What needs it, as messages call it.
        name: Of a class that is needed, since the package imports each when it is asked for.

    Raises:
        ConfigError: It is missing, or does not fit the other packages.
    """
    with with_transformers(what):
        package = importlib.import_module('transformers')
        getattr(package, name)
    return package


def _why_no_transformers() -> str:
    """What is wrong with the package, or nothing where it can be imported."""
    try:
        _ = importlib.import_module('transformers').AutoTokenizer  # which is imported only now
    except ImportError as error:
        return 'is not installed' if error.name == 'transformers' else f'cannot be imported ({_first_line(error)})'
    return ''


def _first_line(error: Exception) -> str:
    return str(error).strip().partition('\n')[0].rstrip('. ')
