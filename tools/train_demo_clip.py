"""Make the demo's tiny CLIP from nothing: contrastive training on painted scenes and captions; masks are never seen."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import mmseg_sclip  # isort: skip  # noqa: F401  before anything that imports mmseg, which mmcv-lite needs
import numpy as np
import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset, Subset

from mmseg_sclip.datasets.scenes import MATERIALS, PURPOSES, paint_scene
from mmseg_sclip.demo import ARCHITECTURE, WEIGHTS
from mmseg_sclip.errors import ArgumentParser, ConfigError, UsageError, run
from mmseg_sclip.files import MARK, refuse_taken, write_atomically

TEMPLATES = ('a photo of {}.', '{}.', 'an image of {}.', 'a picture with {} in it.')

_SIZE, _MAX_REGIONS = 64, 4
_VISIBLE = 0.04  # a smaller share of the picture is not named
_LEFT_OUT = 0.3  # how often a caption leaves out one of its materials
_WARM_UP, _LEARNING_RATE, _WEIGHT_DECAY = 100, 1e-3, 0.05


def write_caption(rng: np.random.Generator, label: np.ndarray) -> tuple[str, frozenset[int]]:
    """A caption for `label` (H, W) and the set of materials that it names, in a random order."""
    share = np.bincount(label.ravel(), minlength=len(MATERIALS)) / label.size
    named = [int(i) for i in rng.permutation(np.flatnonzero(share > _VISIBLE))]
    if len(named) > 1 and rng.random() < _LEFT_OUT:
        named.pop()
    template = TEMPLATES[rng.integers(len(TEMPLATES))]
    return template.format(' and '.join(MATERIALS[i] for i in named)), frozenset(named)


class CaptionedScenes(Dataset):
    """Endless pairs (image (3, H, W) uint8 RGB, caption, bit set of the named materials)."""

    def __init__(self, seed: int, count: int) -> None:
        self.seed, self.count = seed, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, str, int]:
        rng = np.random.default_rng(np.random.SeedSequence([PURPOSES['training'], self.seed, index]))
        painted = paint_scene(rng, _SIZE, _MAX_REGIONS)
        caption, named = write_caption(rng, painted.label)
        return torch.from_numpy(painted.image).permute(2, 0, 1), caption, sum(1 << i for i in named)


def contrastive_loss(images: Tensor, texts: Tensor, named: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric loss, in which pairs whose captions name the same set are all positives.

    Args:
        images: (B, D) unit features.
        texts: (B, D) unit features.
        named: (B,) bit sets.
        scale: The learned temperature, a scalar.
    """
    positive = (named[:, None] == named[None]).float()
    target = positive / positive.sum(1, keepdim=True)
    logits = scale.clamp(max=100) * images @ texts.T
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def _learning_rate(step: int, steps: int) -> float:
    return _LEARNING_RATE * min(1.0, (step + 1) / _WARM_UP) * 0.5 * (1 + math.cos(math.pi * step / steps))


def train(
    steps: int, batch_size: int, seed: int, out: Path, log: Callable[[str], None], resume_every: int = 100
) -> None:
    """Train from nothing, or on from the `.resume` file beside `out`, and write float16 safetensors.

    Args:
        steps: Optimizer steps; the cosine schedule ends with them.
        batch_size: Pairs in a step.
        seed: Of the weights and the scenes.
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
    scenes = Subset(CaptionedScenes(seed, steps * batch_size), range(first * batch_size, steps * batch_size))
    for step, (pixels, captions, named) in enumerate(
        DataLoader(scenes, batch_size, num_workers=1, prefetch_factor=4), first
    ):
        for group in optimizer.param_groups:
            group['lr'] = _learning_rate(step, steps)
        distinct = sorted(set(captions))
        which = torch.tensor([distinct.index(caption) for caption in captions])
        # The fused attention's backward pass takes half of the whole time on a CPU; the plain one is faster.
        with sdpa_kernel(SDPBackend.MATH), torch.autocast('cpu', torch.bfloat16):
            images = model.encode_image((pixels / 255 - mean) / std)
            texts = model.encode_text(tokenizer(distinct))[which]
        images, texts = F.normalize(images.float(), dim=-1), F.normalize(texts.float(), dim=-1)
        loss = contrastive_loss(images, texts, named, model.logit_scale.exp())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 25 == 0 or step == steps - 1:
            log(f'step {step} of {steps}: loss {loss.item():.3f}')
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
    parser.add_argument('--steps', type=int, default=3600, help='optimizer steps (default: those of the shipped file)')
    parser.add_argument('--batch-size', type=int, default=256, help='pairs in a step')
    parser.add_argument('--seed', type=int, default=0, help='of the weights and of the scenes')
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
