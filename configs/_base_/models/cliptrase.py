# CLIPtrase (ECCV 2024): queries, keys and values correlate in the last block, and the pixels of a segment vote on their
# class. It looks at whole images. eps and min_points are those for 336 x 336 pixels; for 224 x 224 they are 0.7 and 3.
# On VOC20 the head is a ClassTokenHead.
_base_ = './sclip.py'
model = dict(
    backbone=dict(decoder=dict(attention=dict(projections=('q', 'k', 'v')))),
    test_cfg=dict(
        mode='whole',
        logit_scale=100,
        refine=[
            dict(type='SegmentVoting', affinity=dict(type='TokenSimilarity', block=-2), eps=1.1, min_points=7),
        ],
    ),
)
