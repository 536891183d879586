"""Results as files: label maps, overlays, heat maps, and a summary."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..pictures import (
    blend,
    heat_overlay,
    is_own_png,
    picture_error,
    save_label_map,
    save_png,
    with_legend,
    with_scale,
    write_atomically,
)

SUMMARY = 'summary.json'
_OVERHEAD = 20  # the summary is written again when this many times the time that it takes has passed


class ResultWriter:
    """Writes the results of one run into a folder, and `summary.json` with what is there so far.

    Nothing of the user's is written over: where a file of the same run, one that the run reads, or one that did not
    come from an earlier run has the name already, a number is added to the stem.

    Args:
        folder: Is made where it is missing.
        inputs: The pictures of the run; those that are no paths are skipped.

    Attributes:
        entries: One for each finished picture, as `summary.json` lists them.

    Raises:
        OSError: The folder cannot be written to, or holds a `summary.json` of another program.
    """

    def __init__(self, folder: str | Path, inputs: Iterable[Any] = ()) -> None:
        self.folder = Path(folder).expanduser()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise picture_error(self.folder, error) from error
        self._check_summary()
        self.entries: list[dict] = []
        here = self.folder.resolve()
        paths = [Path(name).resolve() for name in inputs if isinstance(name, (str, Path))]
        self._used = {path.name.casefold() for path in paths if path.parent == here}
        self._due = 0.0

    def write(self, result: Mapping, image: np.ndarray, heat: np.ndarray | None = None) -> dict[str, Any]:
        """Write the files of one picture.

        Args:
            result: Of `SCLIPInferencer`.
            image: (H, W, 3), uint8, RGB.
            heat: (Q, H, W), the probability of each phrase, in the order of the classes' phrases; or None.

        Returns:
            Names in the folder: `labels`, `overlay`, and where there is heat `heatmaps`, from phrase to name.
        """
        phrases = [phrase for group in result['phrases'] for phrase in group] if heat is not None else []
        stem = self._free_stem('array' if result['image'] is None else Path(result['image']).stem, len(phrases))
        labels, overlay, *heats = _names(stem, len(phrases))
        names, colours, classes = result['names'], result['colours'], result['labels']
        save_label_map(self.folder / labels, classes, colours)
        present = np.unique(classes).tolist()
        save_png(
            self.folder / overlay, with_legend(blend(image, classes, colours, ignore=None), names, colours, present)
        )
        files = dict(labels=labels, overlay=overlay)
        for name, phrase, values in zip(heats, phrases, () if heat is None else heat, strict=True):
            save_png(self.folder / name, with_scale(heat_overlay(image, values, 0, 1), phrase, 0, 1, 'probability'))
        if phrases:
            files['heatmaps'] = dict(zip(phrases, heats, strict=True))
        self.entries.append(_summarise(result, files))
        if time.monotonic() >= self._due:
            self.write_summary()
        return files

    def write_summary(self) -> None:
        """Write `summary.json`, where there is a result."""
        if not self.entries:
            return
        began = time.monotonic()
        with write_atomically(self.folder / SUMMARY) as unfinished:
            unfinished.write_text(json.dumps(self.entries, indent=2, ensure_ascii=False), encoding='utf-8')
        self._due = time.monotonic() + _OVERHEAD * (time.monotonic() - began)

    def _free_stem(self, wanted: str, phrases: int) -> str:
        stem, number = wanted, 1
        while not all(map(self._is_free, _names(stem, phrases))):
            number += 1
            stem = f'{wanted}-{number}'
        self._used.update(name.casefold() for name in _names(stem, phrases))
        return stem

    def _is_free(self, name: str) -> bool:
        path = self.folder / name
        return name.casefold() not in self._used and (is_own_png(path) or not path.exists())

    def _check_summary(self) -> None:
        """Refuse to write over a file that another program wrote."""
        path = self.folder / SUMMARY
        if not path.exists():
            return
        try:
            ours = all({'image', 'classes'} <= set(entry) for entry in json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):
            ours = False
        if not ours:
            raise FileExistsError(
                f'{path} is there already, and is no summary of segmented pictures. Move it away, or name another '
                'folder.'
            )


def _names(stem: str, phrases: int) -> list[str]:
    return [f'{stem}.png', f'{stem}_overlay.png', *(f'{stem}_heat_{n + 1}.png' for n in range(phrases))]


def _summarise(result: Mapping, files: Mapping[str, Any]) -> dict[str, Any]:
    """What `summary.json` says of one picture."""
    height, width = result['labels'].shape
    columns: Sequence[Sequence] = [result[key] for key in ('names', 'phrases', 'colours', 'coverage')]
    return dict(
        image=result['image'],
        size=[width, height],
        classes=[
            dict(name=name, phrases=list(phrases), colour=list(colour), coverage=coverage)
            for name, phrases, colour, coverage in zip(*columns, strict=True)
        ],
        files=dict(files),
    )
