"""Make the demo's tiny CLIP from nothing: contrastive training on painted scenes and captions; masks are never seen."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import mmseg_sclip  # isort: skip  # noqa: F401  before anything that imports mmseg, which mmcv-lite needs
import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file
from tiny_clip.captions import CaptionedScenes, contrastive_loss
from tiny_clip.tower import Recipe, encode_image, prepare
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Subset

from mmseg_sclip.demo import ARCHITECTURE, WEIGHTS
from mmseg_sclip.errors import ArgumentParser, ConfigError, UsageError, run
from mmseg_sclip.files import MARK, refuse_taken, write_atomically

_WARM_UP, _LEARNING_RATE, _WEIGHT_DECAY = 100, 1e-3, 0.05
_WHOLE_FROM = 0.85  # the share of the steps after which pictures keep all of their patches
_LOG_EVERY = 25


def _learning_rate(step: int, steps: int) -> float:
    return _LEARNING_RATE * min(1.0, (step + 1) / _WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))


def train(
    steps: int, batch_size: int, seed: int, out: Path, log: Callable[[str], None], resume_every: int = 100
) -> None:
    """Train from nothing, or on from the `.resume` file beside `out`, and write float16 safetensors.

    Args:
        steps: Optimizer steps; the cosine schedule ends with them.
        batch_size: Pairs in a step.
        seed: Of the weights, the scenes, and what is left out at random.
        out: The safetensors file; it is written when training ends.
        log: Receives one line of progress now and then.
        resume_every: Steps between two writings of the resume file.

    Raises:
        ConfigError: The resume file belongs to other settings.
        OutputError: A file that is not ours has one of the names.
    """
    resume, first = out.with_suffix('.resume'), 0
    for path in (out, resume):
        refuse_taken(path, '--out')
    torch.manual_seed(seed)
    model = open_clip.CLIP(**json.loads(ARCHITECTURE.read_text()))
    prepare(model, seed)
    tokenizer = SimpleTokenizer(context_length=model.context_length)
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(3, 1, 1)
    std = torch.tensor(open_clip.OPENAI_DATASET_STD).view(3, 1, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY, betas=(0.9, 0.98))
    settings = dict(steps=steps, batch_size=batch_size, seed=seed)
    if resume.exists():
        state = torch.load(resume, weights_only=True)
        if state['settings'] != settings:
            raise ConfigError(
                f'{resume} belongs to a run with {state["settings"]}, not {settings}. '
                'Give the same settings to continue it, or delete the file to start again.'
            )
        model.load_state_dict(state['model'])
        optimizer.load_state_dict(state['optimizer'])
        first = state['step']
        log(f'goes on after step {first} of {steps}, from {resume}')
    scenes = CaptionedScenes(seed, steps * batch_size, model.visual.image_size[0])
    batches = DataLoader(
        Subset(scenes, range(first * batch_size, steps * batch_size)), batch_size, num_workers=1, prefetch_factor=4
    )
    losses = []
    for step, (pixels, captions, named) in enumerate(batches, first):
        for group in optimizer.param_groups:
            group['lr'] = _learning_rate(step, steps)
        recipe = Recipe() if step < _WHOLE_FROM * steps else replace(Recipe(), patches=0.0)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)  # so that a resumed run draws the same
        distinct = sorted(set(captions))
        which = torch.tensor([distinct.index(caption) for caption in captions])
        # The fused attention's backward pass takes half of the whole time on a CPU; the plain one is faster.
        with sdpa_kernel(SDPBackend.MATH), torch.autocast('cpu', torch.bfloat16):
            images = encode_image(model, (pixels / 255 - mean) / std, recipe, generator)
            texts = model.encode_text(tokenizer(distinct))[which]
        images, texts = F.normalize(images.float(), dim=-1), F.normalize(texts.float(), dim=-1)
        loss = contrastive_loss(images, texts, named, model.logit_scale.exp())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % _LOG_EVERY == 0 or step == steps - 1:
            log(f'step {step + 1} of {steps}: mean loss {sum(losses) / len(losses):.3f}')
            losses.clear()
        if (step + 1) % resume_every == 0:
            state = dict(software=MARK, settings=settings, step=step + 1)
            state |= dict(model=model.state_dict(), optimizer=optimizer.state_dict())
            with write_atomically(resume, '--out') as unfinished:
                torch.save(state, unfinished)
    with write_atomically(out, '--out') as unfinished:
        state = {name: value.half().contiguous() for name, value in model.state_dict().items()}
        save_file(state, unfinished, metadata=dict(software=MARK))
    resume.unlink(missing_ok=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Train by number of steps; see `--help`."""
    parser = ArgumentParser(
        prog='tools/train_demo_clip.py',
        description='Train the tiny CLIP of the demo on painted scenes and captions, never on masks. An interrupted '
        'training goes on where it stopped when the same command is given again.',
    )
    parser.add_argument('--steps', type=int, default=700, help='optimizer steps (default: those of the shipped file)')
    parser.add_argument('--batch-size', type=int, default=128, help='pairs in a step')
    parser.add_argument('--seed', type=int, default=0, help='of the weights, the scenes and what is left out at random')
    parser.add_argument(
        '--threads', type=int, default=1, help="torch's threads; the result is reproducible for one number"
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('tiny_clip.safetensors'),
        metavar='FILE',
        help=f'weights file to write; the shipped one is {WEIGHTS}',
    )
    args = parser.parse_args(argv)
    for name in ('steps', 'batch_size', 'threads'):
        if getattr(args, name) < 1:
            raise UsageError(f'--{name.replace("_", "-")} is {getattr(args, name)}; it must be at least 1.')
    torch.set_num_threads(args.threads)
    start = time.monotonic()
    train(
        args.steps,
        args.batch_size,
        args.seed,
        args.out,
        lambda line: print(f'{time.monotonic() - start:7.0f} s  {line}', flush=True),
    )
    print(f'The weights are in {args.out.resolve()}')
    return 0


if __name__ == '__main__':
    sys.exit(run(main))
