"""Running prompts through a text tower, and no token twice."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ...compat import open_clip

_TREE = 256  # tokens in one run: attention is quadratic in them, and fewer would share less
_FULL = 64  # prompts in one run of a tower that reads all positions


def encode_prompts(tower: Any, tokens: Tensor, description: str = 'Encoding') -> Tensor:
    """One vector per prompt, as `tower.encode_text` gives it.

    In a causal tower a token sees only what stands before it, so tokens after the end of a prompt change
    nothing, and prompts that begin alike have the same tokens there. Such prompts become the branches of
    trees, and each token of a tree is computed once. Where it takes longer than a few seconds a bar says how far
    it is.

    Args:
        tower: An open_clip model with `encode_text`.
        tokens: (prompts, context), token ids on any device.
        description: Of the progress bar.

    Returns:
        (prompts, D), float32, not normalised, on the tower's device.
    """
    device = next(tower.parameters()).device
    ends = _ends(tower, tokens)
    columns, rows = shutil.get_terminal_size()
    # On a terminal only, and gone in the end.
    progress = dict(desc=description, delay=3, leave=False, disable=None, ncols=columns, nrows=rows)
    with torch.autocast(device.type, enabled=False):
        if ends is None:
            parts = tqdm(tokens.split(_FULL), **progress)
            return torch.cat([tower.encode_text(part.to(device)).float() for part in parts])
        prompts = [row[: end + 1] for row, end in zip(tokens.tolist(), ends.tolist(), strict=True)]
        trees = list(_plant(prompts, _TREE))
        vectors = torch.cat([_encode_tree(tower, tree) for tree in tqdm(trees, **progress)])
    order = torch.tensor([prompt for tree in trees for prompt in tree.prompts], device=device)
    return torch.empty_like(vectors).index_copy_(0, order, vectors)


@dataclass
class _Tree:
    """Prompts that share their beginnings.

    Attributes:
        tokens: Token ids, parents before children.
        depths: The position of each token in its prompts.
        parents: The index of the token before it; -1 for none.
        prompts: Which prompts end in this tree.
        ends: The index of the last token of each.
    """

    tokens: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    prompts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)


def _plant(prompts: Sequence[list[int]], size: int) -> Iterator[_Tree]:
    """Trees of about `size` tokens; neighbours in sorted order share the most."""
    tree = _Tree()
    path: list[int] = []  # the indices in the tree of the tokens of the prompt before
    previous: list[int] = []  # its token ids
    for index, prompt in sorted(enumerate(prompts), key=itemgetter(1)):
        if len(tree.tokens) + len(prompt) > size and tree.tokens:
            yield tree
            tree, path, previous = _Tree(), [], []
        shared = 0
        while shared < min(len(prompt), len(previous)) and prompt[shared] == previous[shared]:
            shared += 1
        path = path[:shared]
        for depth in range(shared, len(prompt)):
            tree.parents.append(path[-1] if path else -1)
            path.append(len(tree.tokens))
            tree.tokens.append(prompt[depth])
            tree.depths.append(depth)
        tree.prompts.append(index)
        tree.ends.append(path[-1])
        previous = prompt
    if tree.tokens:
        yield tree


def _encode_tree(tower: Any, tree: _Tree) -> Tensor:
    """(prompts of the tree, D), by the tower's own parts; each token attends to its own branch."""
    text = _text_part(tower)
    device, dtype = text.positional_embedding.device, text.transformer.get_cast_dtype()
    sees = torch.eye(len(tree.tokens), dtype=torch.bool)
    for token, parent in enumerate(tree.parents):
        if parent >= 0:
            sees[token] |= sees[parent]
    mask = torch.zeros(sees.shape).masked_fill_(~sees, float('-inf')).to(device, dtype)
    x = text.token_embedding(torch.tensor(tree.tokens, device=device)).to(dtype)
    x = x + text.positional_embedding[tree.depths].to(dtype)
    x = text.transformer(x[None], attn_mask=mask)[0]  # (tokens, width)
    x = text.ln_final(x[tree.ends])
    projection = text.text_projection
    if projection is not None:
        x = projection(x) if isinstance(projection, nn.Linear) else x @ projection
    return x.float()


def _text_part(tower: Any) -> Any:
    """The module that has the text tower's parts: the model itself, or its `text`."""
    return getattr(tower, 'text', tower)


def _ends(tower: Any, tokens: Tensor) -> Tensor | None:
    """(prompts,): the position whose output is the prompt's vector; None where the tower must read all positions."""
    text = _text_part(tower)
    inside = isinstance(text, open_clip.transformer.TextTransformer)
    causal = getattr(text, 'attn_mask', None) is not None and getattr(text, 'cls_emb', None) is None
    if not causal or not (inside or hasattr(text, 'text_pool_type')):
        return None
    pool = text.pool_type if inside else text.text_pool_type
    if pool == 'argmax':  # the end token has the highest id
        return tokens.argmax(dim=1)
    if pool == 'eos':
        return tokens.eq(text.eos_id if inside else text.text_eos_id).int().argmax(dim=1)
    return None
