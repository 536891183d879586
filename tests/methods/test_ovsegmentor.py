"""OVSegmentor beside the official code, from a file in the structure of the released one."""

import numpy as np
import pytest
import torch
from conftest import tensors
from methods import painting
from torch.nn import functional as F

from mmseg_sclip.errors import BadFileError, ConfigError, MissingFileError
from mmseg_sclip.models.methods.ovsegmentor import OVSegmentorSource
from mmseg_sclip.models.methods.ovsegmentor.text import SPECIAL, project_words

BERT = dict(vocab_size=1000, hidden_size=64, num_hidden_layers=2, num_attention_heads=1, intermediate_size=256)
SIZES = dict(width=192, heads=2, depths=(2, 2), group_tokens=(16, 0), output_groups=(8,), out_dim=64)
SIZES |= dict(bert=dict(**BERT, max_position_embeddings=64))
TRAINING = ('img_encoder_momentum.norm.weight', 'multimodal_groupingblock.x', 'align_proj_img.weight')
TRAINING += ('bridge_projector.linear_out.weight', 'logit_scale_mask')


@pytest.fixture(scope='module')
def vocabulary(tmp_path_factory):
    """A `vocab.txt` with few words."""
    words = [*SPECIAL, 'a', 'photo', 'of', '.', 'cat', 'dog', 'tv', '##mon', '##itor']
    path = tmp_path_factory.mktemp('words') / 'vocab.txt'
    path.write_text('\n'.join(words) + '\n')
    return path


@pytest.fixture(scope='module')
def file(recipe_peers, tmp_path_factory):
    """A file as the official one, with what only its training needs."""
    path = tmp_path_factory.mktemp('ovsegmentor') / 'best.pth'
    more = {name: torch.ones(2) for name in TRAINING}
    more['text_encoder.transformer.embeddings.position_ids'] = torch.arange(64)[None]
    torch.save({'model': tensors(recipe_peers.ovsegmentor_state_dict(0)) | more, 'config': {'depths': [2, 2]}}, path)
    return path


@pytest.fixture(scope='module')
def source(file, vocabulary):
    return OVSegmentorSource(str(file), str(vocabulary), **SIZES)


@torch.no_grad()
def test_texts(source, recipe_peers, peers):
    """From the goldens' numbers of words, and from words."""
    network = source.network('text')
    ids, mask = map(torch.from_numpy, recipe_peers.ovsegmentor_tokens(0))
    np.testing.assert_allclose(
        F.normalize(project_words(network, ids, mask), dim=-1), peers['ovsegmentor/text'], atol=5e-6
    )
    found = source.text_encoder().encode(['cat', 'TVMonitor'], ['a photo of a {}.'], torch.device('cpu'))
    rows = [[2, 5, 6, 7, 5, 9, 8, 3, 0, 0], [2, 5, 6, 7, 5, 11, 12, 13, 8, 3]]
    numbers = torch.tensor(rows)
    expected = F.normalize(project_words(network, numbers, (numbers != 0).long()), dim=-1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    with pytest.raises(ConfigError, match='has 75 tokens, but OVSegmentor reads 64'):
        source.text_encoder().embed(network, ['cat ' * 73])


@pytest.mark.parametrize('size', [(224, 224), (160, 224), (336, 448)], ids=str)
def test_windows(source, recipe, peers, size):
    model = painting.build('ovsegmentor', source, peers['text'])
    tokens = painting.check_stages(model, recipe, peers, 'ovsegmentor', size)
    painting.check_painting(model, peers, 'ovsegmentor', size, (0.9, 0.35), tokens)


@pytest.mark.slow
def test_images(source, recipe, peers):
    model = painting.build('ovsegmentor', source, peers['text'], 0.35, crop_size=(448, 448), stride=(224, 224))
    found = painting.predicted(model, recipe, (375, 500), 448)
    painting.check_prediction(found, peers, 'ovsegmentor/e2e_bg/375x500')


def test_words_are_looked_for(file, vocabulary, tmp_path, fresh_cache, monkeypatch):
    monkeypatch.setenv('HF_HUB_OFFLINE', '1')
    device = torch.device('cpu')
    with pytest.raises(ConfigError, match='tokenizer is None, but the weights'):
        OVSegmentorSource(str(file), None)
    for tokenizer, message in (str(tmp_path / 'nowhere'), 'nowhere'), ('distilbert-base-uncased', 'copy vocab.txt'):
        source = OVSegmentorSource(str(file), tokenizer, **SIZES)
        with pytest.raises(MissingFileError, match=f'words of the tokenizer .*{message}.*--weights'):
            source.text_encoder().encode(['cat'], ['{}'], device)
    wrong = tmp_path / 'vocab.txt'
    wrong.write_text('cat\ndog\n')
    with pytest.raises(BadFileError, match=r'vocab.txt is no vocabulary of BERT: it has no line \[PAD\]'):
        OVSegmentorSource(str(file), str(wrong), **SIZES).text_encoder().encode(['cat'], ['{}'], device)
    wrong.write_text(vocabulary.read_text() + '\n'.join(f'word{i}' for i in range(1000)))
    with pytest.raises(ConfigError, match='knows 1014 words, but the text network 1000'):
        OVSegmentorSource(str(file), str(wrong), **SIZES).text_encoder().encode(['word999'], ['{}'], device)


def test_words_are_part_of_the_identity(file, vocabulary, tmp_path, fresh_cache):
    other = tmp_path / 'vocab.txt'
    other.write_text(vocabulary.read_text() + 'bird\n')
    each = [OVSegmentorSource(str(file), str(path), **SIZES) for path in (vocabulary, other, other.parent)]
    first, second, folder = (source.text_encoder().identity() for source in each)
    assert first != second == folder
    assert each[1].all_pretrained['tokenizer'].find() == other
