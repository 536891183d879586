"""What a look at all files of a dataset has found, by kind."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console

from ..notes import Note, listed
from .inspection import Facts, only_one_class
from .label_maps import VOID

_SHOWN = 5  # files named per kind
_ADVICE = {
    'images that are missing': 'Complete the dataset, or take them out of the list.',
    'label maps that are missing': 'Complete the dataset, or take their images out of the list.',
    'images that cannot be read': 'Fetch or save them again, or take them out of the dataset.',
    'label maps that cannot be used': 'Write class numbers into PNG files of 8 or 16 bits.',
    'label maps of another size than their image': 'Make them anew at the size of their image.',
    'images turned by EXIF': "Set color_type='color_ignore_orientation' in LoadImageFromFile.",
    'label maps with labels outside the classes': 'Convert the labels, set reduce_zero_label, or set ignore_index of '
    'test_evaluator to the number that stands for no class.',
    'label maps of which every pixel is ignored': 'Look at what their numbers mean; such images do not count.',
}


class Report:
    """What all samples of a dataset tell.

    Args:
        samples: As `get_data_info` of the dataset gives them.
        facts: Of each sample.
        classes: Names of the dataset's classes.
        ignored: Labels that are not counted.
    """

    def __init__(
        self, samples: Sequence[Mapping], facts: Sequence[Facts], classes: Sequence[str], ignored: Sequence[int]
    ) -> None:
        self._facts, self._classes, self._ignored = facts, classes, ignored
        self._notes: dict[str, list[str]] = defaultdict(list)
        self._wrong: set[str] = set()
        self._pixels = Counter()
        for found in facts:
            self._pixels.update(found.pixels)
            for note in (*found.wrong, *self._labels(found)):
                self.add(note, wrong=True)
            for note in found.noted:
                self.add(note, wrong=False)
        if sentence := only_one_class([s for s in samples if s.get('seg_map_path')], ignored, classes):
            self.add(Note('masks in place of label maps', sentence), wrong=True)

    @property
    def wrong(self) -> list[str]:
        """The kinds of faults that would make a test wrong, with their numbers."""
        return [f'{kind} ({len(texts)})' for kind, texts in self._notes.items() if kind in self._wrong]

    def add(self, note: Note, wrong: bool) -> None:
        """Add a note."""
        self._notes[note.kind].append(note.text)
        if wrong:
            self._wrong.add(note.kind)

    def _labels(self, found: Facts) -> Iterable[Note]:
        """Add what the labels of one map say, now that the classes are known."""
        if not found.pixels:
            return
        counted = {label: count for label, count in found.pixels.items() if not self._is_ignored(label)}
        strange = {label: count for label, count in counted.items() if not 0 <= label < len(self._classes)}
        if strange and self._classes:
            found_there = listed([f'{label} ({count} pixels)' for label, count in strange.items()], _SHOWN)
            kind = 'label maps with labels outside the classes'
            yield Note(kind, f'{found.label} has {found_there}, but there are classes 0 to {len(self._classes) - 1}.')
        if not counted:
            yield Note('label maps of which every pixel is ignored', f'{found.label} has no pixel that counts.')

    def _is_ignored(self, label: int) -> bool:
        return label == VOID or label in self._ignored

    def print(self, name: str) -> None:
        """Print everything, the worst first."""
        say = Console(highlight=False, soft_wrap=True, markup=False).print
        say(f'{name}: {len(self._facts)} images, {sum(found.label is not None for found in self._facts)} label maps.')
        for what in ('image', 'label map'):
            depths = Counter(found.depths[what] for found in self._facts if what in found.depths)
            if depths:
                say(f'What {what}s hold: {", ".join(f"{kind} ({n} files)" for kind, n in depths.most_common())}.')
        total = sum(self._pixels.values())
        if total:
            gone = sum(count for label, count in self._pixels.items() if self._is_ignored(label))
            say(f'Pixels that are not counted: {100 * gone / total:.2f} % of {total}.')
            unseen = [
                f'{label} {name}'
                for label, name in enumerate(self._classes)
                if not self._pixels[label] and label not in self._ignored
            ]
            if unseen:
                say(f'No label map holds these classes: {listed(unseen, 2 * _SHOWN)}.')
        for kind, texts in sorted(self._notes.items(), key=lambda item: item[0] not in self._wrong):
            rank = 'WRONG' if kind in self._wrong else 'Note'
            say(f'\n{rank}: {kind} ({len(texts)}). {_ADVICE.get(kind, "")}'.rstrip())
            for text in texts[:_SHOWN]:
                say(f'  {text}')
            if len(texts) > _SHOWN:
                say(f'  ... and {len(texts) - _SHOWN} more')
        if not self._wrong:
            say('\nNothing is wrong.')
