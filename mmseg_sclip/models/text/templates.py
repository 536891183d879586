"""Prompt templates."""

from collections.abc import Sequence

from ...checks import check_choice
from ...compat import open_clip
from ...errors import ConfigError

_SCENE = (
    'there is a {} in the scene.',
    'there is the {} in the scene.',
    'this is a {} in the scene.',
    'this is the {} in the scene.',
    'this is one {} in the scene.',
)


def _imagenet() -> tuple[str, ...]:
    return tuple(template('{}') for template in open_clip.OPENAI_IMAGENET_TEMPLATES)


SHIPPED_TEMPLATES = {  # functions, since open_clip is imported late
    'openai_imagenet': _imagenet,
    'maskclip': lambda: _imagenet() + _SCENE,
    'simple': lambda: ('a photo of a {}.',),
}


def load_templates(spec: str | Sequence[str]) -> tuple[str, ...]:
    """Templates by name, or checked as given.

    Args:
        spec: 'openai_imagenet' (the 80 of CLIP's paper, as open_clip ships them), 'maskclip' (those and
            five about scenes, as MaskCLIP and CLIP Surgery use), 'simple', or a list
            of strings with one `{}` for the phrase.

    Raises:
        ConfigError: The name is unknown, the list is empty, or a string has no `{}`.
    """
    if isinstance(spec, str):
        check_choice('decode_head.templates', spec, SHIPPED_TEMPLATES)
        return SHIPPED_TEMPLATES[spec]()
    if not isinstance(spec, Sequence) or not spec:
        raise ConfigError(
            f'decode_head.templates is {spec!r}. Give one of {", ".join(SHIPPED_TEMPLATES)} or a list such '
            "as ['a photo of a {}.']."
        )
    for template in spec:
        if not isinstance(template, str) or template.count('{}') != 1:
            raise ConfigError(f'The template {template!r} must be a string with exactly one {{}} for the phrase.')
    return tuple(spec)
