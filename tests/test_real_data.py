"""Real photographs through the command line, against a second implementation of the whole protocol.

The photographs are not part of the repository; without them the four tests are skipped.
"""

from pathlib import Path

import cv2
import mmcv
import numpy as np
import open_clip
import pytest
import torch
from mmengine.config import Config
from torch.nn import functional as F

from mmseg_sclip.cli.main import main
from mmseg_sclip.models.text.vocabulary import SHIPPED
from mmseg_sclip.paths import config_path

DATA = Path(__file__).resolve().parents[2] / 'shared' / 'data'
# config: root, images, label suffix, zero is ignored, short side, scale, prob_thd, area_thd, vocabulary
SETS = {
    'voc21': ('voc/VOC2012', 'JPEGImages', 'SegmentationClass/{}.png', False, 336, 65, 0.1, 0.1, 'voc21'),
    'coco_object': (
        'coco_stuff164k',
        'images/val2017',
        'annotations/val2017/{}_instanceTrainIds.png',
        False,
        336,
        50,
        0.1,
        None,
        'coco_object',
    ),
    'coco_stuff164k': (
        'coco_stuff164k',
        'images/val2017',
        'annotations/val2017/{}_labelTrainIds.png',
        False,
        448,
        40,
        None,
        None,
        'coco_stuff',
    ),
    'ade20k': (
        'ade/ADEChallengeData2016',
        'images/validation',
        'annotations/validation/{}.png',
        True,
        336,
        40,
        None,
        None,
        'ade20k',
    ),
}
MAXIMUM = 2  # images of a set


class Naive:
    """CLIP and SCLIP once more, from the state dict with plain operations, one window at a time."""

    def __init__(self, state):
        self.w = state

    def ln(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.w[f'{name}.weight'], self.w[f'{name}.bias'])

    def block(self, x, name, heads, mask=None, csa=False):
        w = {key.removeprefix(f'{name}.'): value for key, value in self.w.items() if key.startswith(f'{name}.')}
        y = self.ln(x, f'{name}.ln_1') @ w['attn.in_proj_weight'].T + w['attn.in_proj_bias']
        out = []
        for q, k, v in zip(*(part.chunk(heads, -1) for part in y.chunk(3, -1)), strict=True):
            scale = q.shape[-1] ** -0.5
            if csa:
                a = (q @ q.mT * scale).softmax(-1) + (k @ k.mT * scale).softmax(-1)
            else:
                logits = q @ k.mT * scale
                a = (logits if mask is None else logits + mask).softmax(-1)
            out.append(a @ v)
        x = x + torch.cat(out, -1) @ w['attn.out_proj.weight'].T + w['attn.out_proj.bias']
        y = self.ln(x, f'{name}.ln_2') @ w['mlp.c_fc.weight'].T + w['mlp.c_fc.bias']
        return x + (y * torch.sigmoid(1.702 * y)) @ w['mlp.c_proj.weight'].T + w['mlp.c_proj.bias']

    def patches(self, crop):
        x = F.conv2d(crop[None], self.w['visual.conv1.weight'], stride=16)[0]
        h, grid = x.shape[1:], 14
        table = self.w['visual.positional_embedding']
        if h[0] * h[1] != grid * grid:
            square = table[1:].T.view(1, -1, grid, grid)
            factors = tuple((side + 0.1) / grid for side in h)
            table = torch.cat([table[:1], F.interpolate(square, scale_factor=factors, mode='bicubic')[0].flatten(1).T])
        x = torch.cat([self.w['visual.class_embedding'][None], x.flatten(1).T]) + table
        x = self.ln(x, 'visual.ln_pre')
        for i in range(3):
            x = self.block(x, f'visual.transformer.resblocks.{i}', 2, csa=i == 2)
        x = self.ln(x, 'visual.ln_post') @ self.w['visual.proj']
        return (x / x.norm(dim=-1, keepdim=True))[1:], h

    def bank(self, phrases):
        mask = torch.full((77, 77), -torch.inf).triu(1)
        rows = []
        for phrase in phrases:
            tokens = open_clip.tokenize([template(phrase) for template in open_clip.OPENAI_IMAGENET_TEMPLATES])
            x = self.w['token_embedding.weight'][tokens] + self.w['positional_embedding']
            for i in range(2):
                x = self.block(x, f'transformer.resblocks.{i}', 1, mask)
            x = self.ln(x, 'ln_final')[torch.arange(80), tokens.argmax(-1)] @ self.w['text_projection']
            row = (x / x.norm(dim=-1, keepdim=True)).mean(0)
            rows.append(row / row.norm())
        return torch.stack(rows)

    def label(self, image, bank, classes, short, scale, prob_thd, area_thd):
        resized = mmcv.imrescale(image, (2048, short))
        mean, std = (122.771, 116.746, 104.094), (68.501, 66.632, 70.323)
        pixels = torch.from_numpy(((resized[..., ::-1] - mean) / std).astype(np.float32)).permute(2, 0, 1)
        height, width = pixels.shape[1:]
        total, count = torch.zeros(len(bank), height, width), torch.zeros(height, width)
        for top in range(0, max(height - 224, 0) + 112, 112):
            for left in range(0, max(width - 224, 0) + 112, 112):
                bottom, right = min(top + 224, height), min(left + 224, width)
                y, x = max(bottom - 224, 0), max(right - 224, 0)
                features, grid = self.patches(pixels[:, y:bottom, x:right])
                cosines = (features @ bank.T).T.view(1, -1, *grid)
                up = F.interpolate(cosines, size=(bottom - y, right - x), mode='bilinear')[0]
                total[:, y:bottom, x:right] += up
                count[y:bottom, x:right] += 1
        scores = F.interpolate((total / count)[None], size=image.shape[:2], mode='bilinear')[0]
        scores = (scores * scale).softmax(0)
        scores = torch.stack(
            [scores[[i for i, c in enumerate(classes) if c == k]].amax(0) for k in range(max(classes) + 1)]
        )
        if area_thd:
            counts = F.one_hot(scores.argmax(0), len(scores))[..., 1:].sum((0, 1))
            for k, area in enumerate(counts, 1):
                if not area > area_thd * counts.sum():
                    scores[k] = 0
        labels = scores.argmax(0)
        if prob_thd:
            labels[scores.amax(0) < prob_thd] = 0
        return labels.numpy()


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason='the photographs are not here')
@pytest.mark.parametrize('name', SETS)
def test_real_photographs(name, recipe, mini_json, tmp_path, capsys, monkeypatch):
    root, folder, label_name, zero_ignored, short, scale, prob_thd, area_thd, words = SETS[name]
    state = {key: torch.from_numpy(np.array(value)) for key, value in recipe.mini_clip_state_dict(7).items()}
    torch.save(state, tmp_path / 'weights.pt')
    monkeypatch.chdir(tmp_path)
    stems = sorted(path.stem for path in (DATA / root / folder).glob('*.jpg'))
    if name == 'voc21':
        stems = (DATA / root / 'ImageSets/Segmentation/val_native.txt').read_text().split()
    stems = stems[:MAXIMUM]
    (tmp_path / 'split.txt').write_text('\n'.join(stems))
    parent = config_path(f'sclip_{name}')
    suffix = Config.fromfile(parent).test_dataloader.dataset
    assert suffix.data_prefix.img_path == folder
    (tmp_path / 'some.py').write_text(
        f'_base_ = {str(parent)!r}\n'
        f'test_dataloader = dict(num_workers=0, dataset=dict(ann_file={str(tmp_path / "split.txt")!r}))\n'
    )
    flags = ['--model-name', str(mini_json), '--pretrained', str(tmp_path / 'weights.pt'), '--data-root']
    flags += [str(DATA / root), '--out', str(tmp_path / 'out'), '--work-dir', str(tmp_path / 'work'), '--device', 'cpu']
    assert main(['test', str(tmp_path / 'some.py'), *flags]) == 0
    printed = capsys.readouterr()
    line = [line for line in (printed.out + printed.err).splitlines() if 'mIoU:' in line][-1].split()

    naive = Naive(state)
    lines = [line.strip().split(', ') for line in (SHIPPED / f'{words}.txt').read_text().splitlines()]
    classes = [k for k, phrases in enumerate(lines) for _ in phrases]
    with torch.no_grad():
        bank = naive.bank([phrase for phrases in lines for phrase in phrases])
        inter, union, truth_area = np.zeros((3, len(lines)))
        equal = pixels = 0
        for stem in stems:
            image = cv2.imread(
                str(DATA / root / folder / f'{stem}.jpg'), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
            )
            expected = naive.label(image, bank, classes, short, scale, prob_thd, area_thd)
            written = cv2.imread(str(tmp_path / 'out' / f'{stem}.png'), cv2.IMREAD_UNCHANGED) - int(zero_ignored)
            equal += (written == expected).sum()
            pixels += expected.size
            from PIL import Image

            truth = np.array(Image.open(DATA / root / label_name.format(stem))).astype(int)
            if zero_ignored:
                truth = np.where(truth == 0, 255, truth - 1)
            known = truth != 255
            for k in range(len(lines)):
                inter[k] += ((expected == k) & (truth == k) & known).sum()
                union[k] += (((expected == k) | (truth == k)) & known).sum()
                truth_area[k] += ((truth == k) & known).sum()
    assert equal / pixels >= 0.9999
    with np.errstate(invalid='ignore', divide='ignore'):
        miou = 100 * np.nanmean(inter / union)
    assert float(line[line.index('mIoU:') + 1]) == pytest.approx(miou, abs=0.02)
    assert float(line[line.index('aAcc:') + 1]) == pytest.approx(100 * inter.sum() / truth_area.sum(), abs=0.02)
