# GEM (CVPR 2024): a path beside CLIP's own through the last six blocks, with iterated self-self attention.
_base_ = './sclip.py'
model = dict(
    backbone=dict(
        positions='size_antialias',
        decoder=dict(
            _delete_=True,
            type='ParallelPath',
            blocks=6,
            attention=dict(type='SelfSelfAttention', projections=('q', 'k', 'v'), iterations=1),
        ),
    ),
    decode_head=dict(templates='simple'),
)
