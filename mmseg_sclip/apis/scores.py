"""Scores that a segmentor gives only for as long as they are wanted."""

from collections.abc import Iterator
from contextlib import contextmanager

from mmseg.models import EncoderDecoder


@contextmanager
def keeping_scores(model: EncoderDecoder, keep: bool) -> Iterator[None]:
    """Attach class scores (C, H, W) to the samples, which takes much memory, or do not."""
    before = model.test_cfg.keep_scores
    model.test_cfg.keep_scores = keep
    try:
        yield
    finally:
        model.test_cfg.keep_scores = before


@contextmanager
def each_phrase_a_class(model: EncoderDecoder) -> Iterator[None]:
    """Make each phrase a class of its own: its score is then its probability among all phrases.

    Without thresholds, which would set scores to 0.
    """
    head = model.decode_head
    vocabulary, names, background, bank = head.vocabulary, head.dataset_meta, head.background_index, head.text_bank
    settings = model.test_cfg.copy()
    model.test_cfg.update(prob_thd=None, area_thd=None)
    try:
        model.set_vocabulary([[phrase] for phrase in vocabulary.queries])
        head.text_bank = bank  # the same phrases in the same order need no encoding
        yield
    finally:
        model.test_cfg.update(settings)
        model.set_vocabulary(vocabulary, names['classes'], background)
        model.dataset_meta = head.dataset_meta = names
        head.text_bank = bank
