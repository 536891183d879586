"""`tools/segment.py` and `mmseg-sclip segment`: own pictures, own words."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.progress import Progress

from .. import errors
from ..apis import SCLIPInferencer, list_pictures
from ..apis.inputs import SUFFIXES
from ..apis.words import AUTO, NONE
from ..config import load_config
from ..datasets.scenes import scene
from ..errors import BadFileError, MissingFileError, UsageError
from ..files import MARK
from ..models.text import split_phrases, warn_of_line
from ..outputs import OutputFolder, check_outputs
from .arguments.segment import parse

DEMO_CONFIG = 'sclip_demo'
DEMO_SCENE = dict(purpose='evaluation', seed=0, index=0, size=256, max_regions=6)
MOST_LISTED = 10  # classes in a line of the log
TRY_DEMO = 'Or try this command with the tiny CLIP and the painted scene that ship with the package: --demo.'


def main(argv: Sequence[str]) -> int:
    """Segment the pictures; see `--help`.

    Raises:
        UsageError: The flags do not fit each other or the machine.
        ConfigError: The words or the config are wrong.
        BadFileError: A picture could not be segmented; the others are done.
        MissingFileError: A picture, the weights or the config are missing.
        OutputError: The folder holds a picture, or cannot be written to.
    """
    args = parse(argv)
    classes, background = _read_words(args)
    pictures = list_pictures(args.images) if args.images else []
    check_outputs([OutputFolder(args.out_dir, '--out-dir')], pictures)  # before weights are loaded
    inferencer = _build(args, classes, background)
    failed = _segment(inferencer, pictures or [_paint_demo(args.out_dir)], args)
    if failed:
        raise BadFileError(
            f'{len(failed)} of {_count(len(pictures))} could not be segmented: '
            f'{" ".join(list(failed.values())[:3])}{" ..." if len(failed) > 3 else ""}'
        )
    return 0


def _read_words(args: argparse.Namespace) -> tuple[list | str | None, list | str | None]:
    """The classes, None for those of the config; and the background as `SCLIPInferencer` takes it."""
    for flag in ('classes', 'background'):
        for word in getattr(args, flag) or ():
            if word.lower().endswith(SUFFIXES) or (os.sep in word and os.path.isdir(word)):
                raise UsageError(f'--{flag} was given {word}, which is a picture or a folder. Put pictures first.')
    classes = [_synonyms('--classes', word) for word in args.classes] if args.classes else args.classes_file
    if not args.images and not args.demo:
        raise UsageError('There is no picture. Name files, folders or globs; or try --demo.')
    if classes is None:
        return None, AUTO
    background = args.background or [NONE if args.demo else AUTO]
    if len(background) == 1 and background[0].lower() in (AUTO, NONE):
        return classes, background[0]
    return classes, [phrase for word in background for phrase in _synonyms('--background', word)]


def _synonyms(flag: str, word: str) -> tuple[str, ...]:
    phrases = split_phrases(word)
    if not all(phrases):
        raise UsageError(f'{word!r} holds an empty phrase. Synonyms are separated by a comma and a space.')
    if len(split_phrases(word.replace(',', ', '))) > len(phrases):
        raise UsageError(f'{word!r} has a comma without a space after it, which separates nothing. Write a space.')
    warn_of_line(f'{flag} {word!r}', phrases)
    return phrases


def _paint_demo(out_dir: str) -> str:
    """The demo's picture, in a folder of its own, since results are never written beside pictures."""
    folder = OutputFolder(Path(out_dir) / 'input', '--out-dir')
    name = folder.name('painted_scene.jpg', '.jpg') + '.jpg'
    with folder.write(name) as unfinished:
        Image.fromarray(scene(**DEMO_SCENE).image).save(unfinished, quality=95, comment=MARK)
    return str(folder.folder / name)


def _build(args: argparse.Namespace, classes: list | str | None, background: list | str | None) -> SCLIPInferencer:
    if args.config:
        load_config(args.config, own_modules=True)  # imports its modules, which may lie in the user's folder
    try:
        return SCLIPInferencer(
            classes,
            background,
            model_name=args.model_name,
            pretrained=args.pretrained,
            attention=args.attention,
            pamr=args.pamr,
            device=args.device,
            config=DEMO_CONFIG if args.demo else args.config,
            cfg_options=args.cfg_options,
            bands=args.bands,
            weights=args.weights,
        )
    except FileNotFoundError as error:
        if 'weights' not in str(error):
            raise
        raise MissingFileError(f'{error} {TRY_DEMO}') from error


def _segment(inferencer: SCLIPInferencer, pictures: Sequence[str], args: argparse.Namespace) -> dict[str, str]:
    """Segment all pictures, and return why some of them could not be segmented."""
    failed: dict[str, str] = {}
    done = 0
    console = Console(stderr=True)
    out = (
        console if console.is_terminal and sys.stdout.isatty() else Console()
    )  # above the progress bar where both go to a terminal
    say = partial(out.print, markup=False, highlight=False, soft_wrap=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal, redirect_stdout=False) as progress:
        task = progress.add_task('Segmenting', total=len(pictures) if len(pictures) > 1 else None)  # None: it moves

        def show(line: str) -> None:
            progress.advance(task)
            say(line)

        def fail(picture: str, error: Exception) -> None:
            reason = errors.describe(error)
            failed[picture] = reason if picture in reason else f'{picture}: {reason}'
            show(f'FAILED: {failed[picture]}')

        results = inferencer.stream(pictures, args.out_dir, heatmaps=args.heatmaps, on_error=fail)
        try:
            with closing(results):  # after an interrupt, too, the summary is complete
                for result in results:
                    done += 1
                    show(_line(result))
        finally:
            if done:
                say(f'The results of {_count(done)} are in {Path(args.out_dir).expanduser().resolve()}')
    return failed


def _line(result: Mapping) -> str:
    """What a picture holds, the largest first."""
    shares = sorted(zip(result['coverage'], result['names'], strict=True), key=lambda share: -share[0])
    found = [f'{name} {share:.1f} %' for share, name in shares if share]
    more = f', and {len(found) - MOST_LISTED} more' if len(found) > MOST_LISTED else ''
    return f'{result["image"]}: {", ".join(found[:MOST_LISTED])}{more}'


def _count(number: int) -> str:
    return '1 picture' if number == 1 else f'{number} pictures'
