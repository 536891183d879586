"""Where the weights of a CLIP of open_clip lie: in a file, in a folder, or under a name that has to be fetched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...compat import open_clip
from ...demo import WEIGHTS
from ...errors import nearest
from ...files import file_hash
from ..pretrained import NAMED, Place, Pretrained, Shipped
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
_ARCHIVE = "OpenAI's cache"
# Of tags that shipped configs and documents name. OpenAI's repository is under MIT; Meta's licence is timm's word.
_LICENCES = {'openai': 'MIT', 'metaclip_400m': 'CC-BY-NC-4.0', 'metaclip_fullcc': 'CC-BY-NC-4.0'}
# Both towers in float32, counted: 4 bytes for each parameter.
_SIZES = {'ViT-B-32': 605, 'ViT-B-16': 598, 'ViT-L-14': 1710, 'ViT-L-14-336': 1712, 'RN50x16': 1164}


def find_weights(config: ClipConfig) -> Path | None:
    """The file with the weights of both towers, fetched where a tag or a hub has it; None for random weights.

    Raises:
        MissingFileError: There is no such file and no such tag, or it cannot be fetched.
    """
    pretrained = pretrained_clip(config)
    return None if pretrained is None else pretrained.fetch()


def pretrained_clip(config: ClipConfig) -> Pretrained | None:
    """The weights of both towers, which need not be there; None for random ones. Nothing is looked for yet."""
    name, pretrained = config.model_name, config.pretrained
    common: dict[str, Any] = dict(setting='model.clip.pretrained', name='clip', cache_dir=config.cache_dir)
    if name == 'builtin:demo':
        return Shipped(what="the demo's tiny CLIP", given=str(WEIGHTS), **common)
    if config.folder is not None:
        return _Folder(what=f'CLIP {name}', given=str(config.folder), **common)
    if name.startswith('hf-hub:'):
        repository = name.removeprefix('hf-hub:')
        common |= dict(repository=repository, hub_names=_NAMES, published=f'https://huggingface.co/{repository}')
        return _Repository(what=f'CLIP {name}', **common)
    if pretrained is None:
        return None
    tag = open_clip.get_pretrained_cfg(open_clip_name(name), pretrained)
    if tag:
        return _tagged(tag, name, pretrained, common)
    tags = open_clip.list_pretrained_tags_by_model(open_clip_name(name))
    return _File(what=f'CLIP {name}', given=pretrained, tags=tuple(tags), **common)


def _tagged(tag: dict[str, Any], name: str, pretrained: str, common: dict[str, Any]) -> Pretrained:
    repository, _, file = tag.get('hf_hub', '').rpartition('/')
    url = tag.get('url', '')
    return _Tag(
        what=f'CLIP {name} ({pretrained})',
        names=(Path(url).name,) if url else (),
        repository=repository or None,
        hub_names=(Path(file).with_suffix('.safetensors').name, file) if file else _NAMES,
        published=url or f'https://huggingface.co/{repository}',
        licence=_LICENCES.get(pretrained, ''),
        size=_SIZES.get(open_clip_name(name).removesuffix('-quickgelu')),
        url=url,
        **common,
    )


@dataclass(frozen=True, kw_only=True)
class _Tag(Pretrained):
    """A tag of open_clip: on the hub, or an archive that OpenAI's package or an old open_clip left in its cache."""

    url: str = ''

    def places(self) -> Iterator[Place]:
        yield from super().places()
        archive = Path(self.cache_dir or '~/.cache/clip').expanduser() / Path(self.url).name
        # Most addresses hold the beginning of the file's hash.
        if archive.is_file() and (file_hash(archive)[:8] in self.url or not re.search('[0-9a-f]{8}', self.url)):
            yield Place(_ARCHIVE, archive)


@dataclass(frozen=True, kw_only=True)
class _File(Pretrained):
    """A file, or a word that is no tag."""

    tags: tuple[str, ...] = ()

    def missing(self, reason: str = '') -> str:
        known = f'tags are {", ".join(self.tags)}' if self.tags else 'this architecture has no tags; give a file'
        assert self.given is not None
        return (
            f'The weights of {self.what} are missing: {self.setting} is {self.given!r}, which is neither a file nor a '
            f'tag of this architecture ({known}).{nearest(self.given, self.tags)}'
        )


class _Folder(Pretrained):
    """The weights in a folder of a model: a file of a usual name, or the only one that can be weights."""

    def _files(self) -> list[Path]:
        folder = Path(self.given or '')
        files = folder.iterdir() if folder.is_dir() else ()
        return sorted(path for path in files if path.suffix in ('.safetensors', '.bin', '.pt', '.pth'))

    def places(self) -> Iterator[Place]:
        files = self._files()
        usual = [path for name in _USUAL for path in files if path.name == name]
        if usual or len(files) == 1:
            yield Place(NAMED, (usual or files)[0])

    def missing(self, reason: str = '') -> str:
        files = self._files()
        return (
            f'The weights of {self.what} are missing: {self.given} must hold one weights file (for example '
            f'{_NAMES[0]}), but holds {len(files)}: {", ".join(path.name for path in files) or "none"}.'
        )


class _Repository(Pretrained):
    """A repository of the hub that describes its model itself."""

    def remedy(self) -> str:
        return (
            f'copy {self.published} with its open_clip_config.json into a folder, and name that with --model-name '
            'local-dir:FOLDER (model.clip.model_name in a config)'
        )
