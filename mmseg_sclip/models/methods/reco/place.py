"""The folder or the file that references of classes are read from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ....files import file_stamp
from ...pretrained import NAMED, Place, Pretrained

KINDS = (
    'a folder with a subfolder of images for each class (FOLDER/cat/*.jpg), a JSON file {"cat": ["paths", ...]}, or a '
    'file of ready vectors {class: vector} (.safetensors, or the .pkl that ReCo has released)'
)


class ReferencePlace(Pretrained):
    """The folder or the file that `decode_head.references` names."""

    def places(self) -> Iterator[Place]:
        """The one place that is named."""
        assert self.given is not None
        yield Place(NAMED, Path(self.given).expanduser())

    def locate(self) -> Place | None:
        """See `Pretrained`."""
        return next((place for place in self.places() if place.path.exists()), None)

    def missing(self, reason: str = '') -> str:
        """See `Pretrained`."""
        return f'The references of ReCo are missing: {self.remedy()}.'

    def remedy(self) -> str:
        """See `Pretrained`."""
        return (
            f'{self.setting} names {self.given!r}, which is not there. Name {KINDS}, with {self.flag} '
            f'({self.setting} in a config)'
        )

    def identity(self) -> dict[str, Any]:
        """As in `Pretrained`; a folder is known by the sizes and times of its files."""
        path = self.fetch()
        if path.is_file():
            return super().identity()
        stamps = {str(file.relative_to(path)): file_stamp(file) for file in sorted(path.rglob('*')) if file.is_file()}
        return dict(name=self.what, sha256=hashlib.sha256(json.dumps(stamps).encode()).hexdigest())


def place_of(spec: str | Path) -> ReferencePlace:
    """The folder or the file that a path names, which need not be there."""
    return ReferencePlace(
        what="ReCo's references", setting='model.decode_head.references', name='references', given=str(spec)
    )
