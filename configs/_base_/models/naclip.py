# NACLIP (WACV 2025): keys attend to keys, neighbours are preferred, and the last block is reduced to its attention.
_base_ = './sclip.py'
model = dict(
    backbone=dict(
        decoder=dict(attention=dict(_delete_=True, type='NeighbourAttention', std=5.0), residual=False, ffn=False)
    )
)
