"""Weights that nobody trained: what several processes, and a run that goes on, must agree on."""

import pytest
import torch
from helpers import peer_demos

from mmseg_sclip.models.methods.reco import DistilledDeiT
from mmseg_sclip.models.towers import build_source

KINDS = {
    'GroupViTSource': lambda: build_source(peer_demos()['GroupViTSource'].model.clip, 'A test').network('image'),
    'SegclipSource': lambda: build_source(peer_demos()['SegclipSource'].model.clip, 'A test').network,
    'DistilledDeiT': lambda: _loaded(DistilledDeiT(None, width=16, depth=1, heads=1)),
}


def _loaded(companion):
    companion.load()
    return companion.network


@pytest.mark.parametrize('kind', KINDS)
def test_random_weights_are_the_same_whatever_was_drawn_before(kind):
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(KINDS[kind]().state_dict())
        after = torch.rand(2)
        torch.manual_seed(seed)
        assert torch.equal(after, torch.rand(2))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
