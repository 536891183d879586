# CLIP Surgery (arXiv 2304.05653): a path of v-v attention beside CLIP's own through the last six blocks, and scores
# from which what all classes have in common is taken out.
_base_ = './sclip.py'
model = dict(
    backbone=dict(
        positions='bilinear',
        decoder=dict(
            _delete_=True,
            type='ParallelPath',
            blocks=6,
            attention=dict(type='CorrelativeSelfAttention', projections='v'),
            original_cls=True,
        ),
    ),
    decode_head=dict(type='FeatureSurgeryHead', templates='maskclip', factor=2.0, redundant=None),
)
