"""A class token for each region, beside CLIP's own stream (CorrCLIP's semantic branch, section 3.4)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ...record import Record
from .merging import Regions


def region_class_tokens(record: Record, regions: Regions) -> Tensor:
    """What the class token becomes where it sees the patches of one region only: (B, regions, width), after all blocks.

    Each copy of the class token sees the tokens in front of the patches and the patches of its region, and neither
    itself nor another copy. No other token sees the copies, so CLIP's stream is the recorded one, and only the copies
    are computed.

    Args:
        record: With the embedding and the outputs of all blocks but the last.
        regions: On CLIP's grid. A region that a window does not have gets a token of no meaning.
    """
    tower = record.tower
    sees = F.pad(regions.one_hot(), (tower.prefix, 0), value=True)  # (B, regions, N)
    copies = record[0][:, :1].expand(-1, regions.most, -1)
    for number in range(1, tower.depth + 1):
        own, x = tower.norm(number, copies), tower.norm(number, record[number - 1])
        seen = tower.attend_beside(number, own, x, sees)
        copies = copies + tower.attention_branch(number, seen)
        copies = copies + tower.feed_forward_branch(number, copies)
    return copies
