"""Running prompts through a text tower, no token twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from open_clip.transformer import TextTransformer
from rich.progress import track
from torch import Tensor, nn

_TREE = 256  # tokens in one run: attention is quadratic in them, and fewer would share less
_FULL = 64  # prompts in one run of a tower that reads all positions


def encode_prompts(tower: nn.Module, tokens: Tensor, description: str = 'Encoding') -> Tensor:
    """One vector a prompt, as `tower.encode_text` gives it.

    In a causal tower a token sees only what stands before it, so tokens behind the end of a prompt change
    nothing, and prompts that begin alike have the same tokens there. Such prompts become the branches of
    trees, and each token of a tree is computed once.

    Args:
        tower: An open_clip model with `encode_text`.
        tokens: (prompts, context), token ids on any device.
        description: Of the progress bar.

    Returns:
        (prompts, D), float32, not normalised, on the tower's device.
    """
    device = next(tower.parameters()).device
    ends = _ends(tower, tokens)
    with torch.autocast(device.type, enabled=False):
        if ends is None:
            parts = track(tokens.split(_FULL), description=description, transient=True)
            return torch.cat([tower.encode_text(part.to(device)).float() for part in parts])
        prompts = [row[: end + 1] for row, end in zip(tokens.tolist(), ends.tolist(), strict=True)]
        trees = list(_plant(prompts, _TREE))
        found = [_encode_tree(tower, tree) for tree in track(trees, description=description, transient=True)]
    order = torch.tensor([prompt for tree in trees for prompt in tree.prompts], device=device)
    vectors = torch.cat(found)
    return torch.empty_like(vectors).index_copy_(0, order, vectors)


class _Tree(NamedTuple):
    """Prompts that share their beginnings.

    Attributes:
        tokens: Token ids, parents before children.
        depths: The position of each token in its prompts.
        parents: The index of the token before it; -1 for none.
        prompts: Which prompts end in this tree.
        ends: The index of the last token of each.
    """

    tokens: list[int]
    depths: list[int]
    parents: list[int]
    prompts: list[int]
    ends: list[int]


def _plant(prompts: Sequence[Sequence[int]], size: int) -> Iterator[_Tree]:
    """Trees of about `size` tokens; neighbours in sorted order share the most."""
    tree, path, previous = _Tree([], [], [], [], []), [], []
    for index in sorted(range(len(prompts)), key=prompts.__getitem__):
        prompt = prompts[index]
        if len(tree.tokens) + len(prompt) > size and tree.tokens:
            yield tree
            tree, path, previous = _Tree([], [], [], [], []), [], []
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


def _encode_tree(tower: nn.Module, tree: _Tree) -> Tensor:
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


def _text_part(tower: nn.Module) -> nn.Module:
    """The module that has the text tower's parts: the model itself, or its `text`."""
    return getattr(tower, 'text', tower)


def _ends(tower: nn.Module, tokens: Tensor) -> Tensor | None:
    """(prompts,): the position whose output is the prompt's vector; None where the tower must read all positions."""
    text = _text_part(tower)
    inside = isinstance(text, TextTransformer)
    causal = getattr(text, 'attn_mask', None) is not None and getattr(text, 'cls_emb', None) is None
    if not causal or not (inside or hasattr(text, 'text_pool_type')):
        return None
    pool = text.pool_type if inside else text.text_pool_type
    if pool == 'argmax':  # the end token has the highest id
        return tokens.argmax(dim=1)
    if pool == 'eos':
        return (tokens == (text.eos_id if inside else text.text_eos_id)).int().argmax(dim=1)
    return None
