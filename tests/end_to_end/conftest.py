import cv2
import numpy as np
import pytest
import torch
from torch import nn


class Node(nn.Module):
    """A module of which only the names count."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def write_openai_archive(path, state):
    """A TorchScript archive as OpenAI published its CLIPs: half precision, and three numbers beside the weights."""
    root = Node()
    for name, value in state.items():
        *parents, leaf = name.split('.')
        owner = root
        for parent in parents:
            if not hasattr(owner, parent):
                owner.add_module(parent, Node())
            owner = getattr(owner, parent)
        owner.register_parameter(leaf, nn.Parameter(value.half(), requires_grad=False))
    numbers = dict(input_resolution=224, context_length=77, vocab_size=49408)
    for name, value in numbers.items():
        root.register_buffer(name, torch.tensor(value))
    torch.jit.script(root).save(str(path))
    assert set(torch.jit.load(str(path)).state_dict()) == {*state, *numbers}


@pytest.fixture(scope='session')
def openai_archive():
    """`openai_archive(path, state)` writes such a file."""
    return write_openai_archive


@pytest.fixture(scope='session')
def small_voc(tmp_path_factory, recipe):
    """A VOC2012 folder with two images."""
    root = tmp_path_factory.mktemp('VOC2012')
    for folder in ('JPEGImages', 'SegmentationClass', 'ImageSets/Segmentation'):
        (root / folder).mkdir(parents=True)
    rng = np.random.RandomState(3)
    for number, (height, width) in enumerate(((61, 83), (90, 47))):
        cv2.imwrite(str(root / 'JPEGImages' / f'{number}.jpg'), recipe.image(number, height, width))
        labels = rng.randint(0, 21, (height, width)).astype(np.uint8)
        cv2.imwrite(str(root / 'SegmentationClass' / f'{number}.png'), labels)
    (root / 'ImageSets' / 'Segmentation' / 'val.txt').write_text('0\n1\n')
    return root
