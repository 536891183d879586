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
from ..errors import ArgumentParser, BadFileError, MissingFileError, UsageError
from ..files import MARK
from ..models.text import split_phrases, warn_of_line
from ..outputs import OutputFolder, check_outputs
from ..visual.attention_names import METHODS
from .flags import add_bands_flag, add_model_flags

DEMO_CONFIG = 'sclip_demo'
DEMO_SCENE = dict(purpose='evaluation', seed=0, index=28, size=256, max_regions=6)
MOST_LISTED = 10  # classes in a line of the log
TRY_DEMO = 'Or try this command with the tiny CLIP and the painted scene that ship with the package: --demo.'


def build_parser() -> argparse.ArgumentParser:
    """The pictures, the words, and the flags that choose the model."""
    parser = ArgumentParser(
        prog='mmseg-sclip segment',
        description='Segment your own pictures into classes that you name in words. For each picture STEM.* it writes '
        'STEM.png (label map with a palette: the classes in the given order, after the background, 0, where there is '
        'one) and STEM_overlay.png (the picture with the classes over it, and a legend); and one summary.json with '
        'the size (width, height) of each picture and the coverage of each class in percent. Where two pictures '
        'have one stem, a number is added. Photographs are turned upright by their EXIF tag.',
        epilog='example: mmseg-sclip segment photo.jpg --classes cat "remote control" "sofa, couch"',
    )
    parser.add_argument('images', nargs='*', metavar='IMAGE', help='picture, folder of pictures, or glob; several')
    words = parser.add_argument_group('the words, one of')
    words.add_argument(
        '--classes',
        nargs='+',
        metavar='WORD',
        help='the classes; synonyms stand in one word, separated by a comma and a space: "sofa, couch"',
    )
    words.add_argument(
        '--classes-file', metavar='FILE', help='text file with one class a line, synonyms as above; or a shipped one'
    )
    words.add_argument(
        '--config',
        help='config file, or the name of a shipped config such as sclip_ade20k: its model, and its classes unless '
        'words are given',
    )
    words.add_argument(
        '--demo', action='store_true', help='try this command without weights: the tiny CLIP and a painted scene'
    )
    parser.add_argument(
        '--background',
        nargs='+',
        metavar='WORD',
        help="what is none of the classes: auto for SCLIP's 26 words (sky, wall, tree, ...) without those that the "
        'classes name, none, or phrases (default: auto; none with --demo)',
    )
    parser.add_argument(
        '--out-dir', default='segmented', metavar='DIR', help='folder of the results (default: %(default)s)'
    )
    parser.add_argument(
        '--heatmaps',
        action='store_true',
        help='also write STEM_heat_N.png for each phrase, in label order, those of the background too: its '
        'probability (0 to 1) among all phrases',
    )
    parser.add_argument(
        '--attention',
        metavar='NAME',
        help=f'attention of the last block: {", ".join(METHODS)}, or a registered one, with parameters as in '
        "'LocalSelfAttention(window=5)' (default: the config's, which is SCLIP's)",
    )
    parser.add_argument('--pamr', type=int, metavar='STEPS', help='refine the edges with PAMR, e.g. 10 (default: off)')
    add_bands_flag(parser)
    add_model_flags(parser, 'model.test_cfg.area_thd=None, which keeps small things')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Segment the pictures; see `--help`.

    Raises:
        UsageError: The flags do not fit each other or the machine.
        ConfigError: The words or the config are wrong.
        BadFileError: A picture could not be segmented; the others are done.
        MissingFileError: A picture, the weights or the config are missing.
        OutputError: The folder holds a picture, or cannot be written to.
    """
    args = build_parser().parse_intermixed_args(argv)
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
    if args.classes and args.classes_file:
        raise UsageError('--classes and --classes-file both name the classes. Give one of them.')
    if args.demo and args.config:
        raise UsageError('--demo has a config of its own. Leave --demo or --config out.')
    for flag in ('classes', 'background'):
        for word in getattr(args, flag) or ():
            if word.lower().endswith(SUFFIXES) or (os.sep in word and os.path.isdir(word)):
                raise UsageError(f'--{flag} was given {word}, which is a picture or a folder. Put pictures first.')
    classes = [_synonyms('--classes', word) for word in args.classes] if args.classes else args.classes_file
    if classes is None and not (args.config or args.demo):
        raise UsageError(
            'There are no classes. Name them with --classes cat "remote control", in a file with --classes-file, or '
            'by a shipped config with --config sclip_ade20k; or try --demo.'
        )
    if not args.images and not args.demo:
        raise UsageError('There is no picture. Name files, folders or globs; or try --demo.')
    if classes is None:
        if args.background:
            raise UsageError('--background belongs to --classes or --classes-file; a config says itself what is what.')
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
        )
    except FileNotFoundError as error:
        if 'weights' not in str(error):
            raise
        raise MissingFileError(f'{error} {TRY_DEMO}') from error


def _segment(inferencer: SCLIPInferencer, pictures: Sequence[str], args: argparse.Namespace) -> dict[str, str]:
    """Segment all pictures, and return the reasons for those that could not be."""
    failed: dict[str, str] = {}
    done = 0
    console = Console(stderr=True)
    out = console if console.is_terminal and sys.stdout.isatty() else Console()  # above the bar, where both are seen
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
            with closing(results):  # an interrupt must not leave the summary behind
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
