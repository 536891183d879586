"""Results as files: label maps, overlays, heat maps, and a summary."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import OutputError
from ..files import write_atomically
from ..outputs import OutputFolder, check_outputs
from ..visual.figure import Panel, draw, save
from ..visual.pixels import heat
from ..visual.png import save_label_map
from ..visual.prediction_hook import prediction_figure

SUMMARY = 'summary.json'
_MOST_PIXELS = 1600  # of a side of a heat map, which is smooth
_OVERHEAD = 20  # the summary is written again when this many times the time that it takes has passed


class ResultWriter:
    """Writes the results of one run into a folder, and `summary.json` with what is there so far.

    Args:
        folder: Is made where it is missing.
        inputs: The pictures of the run; those that are not paths are skipped.

    Attributes:
        entries: One for each finished picture, as `summary.json` lists them.

    Raises:
        OutputError: The folder cannot be written to, holds one of the pictures, or a `summary.json` of another program.
    """

    def __init__(self, folder: str | Path, inputs: Iterable[Any] = ()) -> None:
        self.folder = OutputFolder(folder, 'out_dir')
        check_outputs([self.folder], [path for path in inputs if isinstance(path, str)])
        self._refuse_foreign_summary()
        self.entries: list[dict] = []
        self._arrays = count()
        self._due = 0.0

    def write(self, result: Mapping, image: np.ndarray) -> dict[str, Any]:
        """Write the files of one picture.

        Args:
            result: Of `SCLIPInferencer`; with `heatmaps` there is a picture of each.
            image: (H, W, 3), uint8, RGB.

        Returns:
            Names in the folder: `labels`, `overlay`, and where there is heat `heatmaps`, from phrase to name; a phrase
            of several classes has the number of its picture after it, such as 'bed (28)'.
        """
        phrases = [phrase for group in result['phrases'] for phrase in group] if 'heatmaps' in result else []
        suffixes = ['.png', '_overlay.png', *(f'_heat_{number}.png' for number in range(1, len(phrases) + 1))]
        path = f'{next(self._arrays)}/array' if result['image'] is None else result['image']
        stem = self.folder.name(path, *suffixes)
        labels, overlay, *heats = (stem + suffix for suffix in suffixes)
        save_label_map(self.folder, labels, result['labels'], result['colours'])
        save(prediction_figure(image, result['labels'], None, result['names'], result['colours']), self.folder, overlay)
        files = dict(labels=labels, overlay=overlay)
        for name, phrase, values in zip(heats, phrases, result.get('heatmaps', ()), strict=True):
            figure = draw([[Panel(heat(image, values, high=1), phrase)]], scale='probability', max_side=_MOST_PIXELS)
            save(figure, self.folder, name)
        if phrases:
            keys = [
                phrase if phrases.count(phrase) == 1 else f'{phrase} ({number})'
                for number, phrase in enumerate(phrases, 1)
            ]
            files['heatmaps'] = dict(zip(keys, heats, strict=True))
        self.entries.append(_summarise(result, files))
        if time.monotonic() >= self._due:
            self.write_summary()
        return files

    def write_summary(self) -> None:
        """Write `summary.json`, where there is a result."""
        if not self.entries:
            return
        began = time.monotonic()
        with write_atomically(self.folder.folder / SUMMARY, 'out_dir', replace=True) as unfinished:
            unfinished.write_text(json.dumps(self.entries, indent=2, ensure_ascii=False), encoding='utf-8')
        self._due = time.monotonic() + _OVERHEAD * (time.monotonic() - began)

    def _refuse_foreign_summary(self) -> None:
        """Our summary is known by its structure, which readers rely on."""
        path = self.folder.folder / SUMMARY
        try:
            ours = not path.exists() or all(
                {'image', 'classes'} <= set(entry) for entry in json.loads(path.read_bytes())
            )
        except (OSError, ValueError, TypeError):
            ours = False
        if not ours:
            raise OutputError(
                f'{path} is there already, and is not a summary of segmented pictures. Move it away, or name another '
                'folder.'
            )


def _summarise(result: Mapping, files: Mapping[str, Any]) -> dict[str, Any]:
    """What `summary.json` says of one picture."""
    height, width = result['labels'].shape
    columns = [result[key] for key in ('names', 'phrases', 'colours', 'coverage')]
    return dict(
        image=result['image'],
        size=[width, height],
        classes=[
            dict(name=name, phrases=list(phrases), colour=list(colour), coverage=coverage)
            for name, phrases, colour, coverage in zip(*columns, strict=True)
        ],
        files=dict(files),
    )
