# SC-CLIP (arXiv 2411.15869) with the values for the twelve blocks of ViT-B/16.
_base_ = './sclip.py'
model = dict(
    backbone=dict(
        decoder=dict(
            _delete_=True,
            type='SelfCalibratedDecoder',
            attention=dict(type='SelfCalibratedAttention', affinity_block=9),
            threshold=0.4,
            smoothing_block=4,
            levels=(4, 10),
            cls_weight=0.3,
        )
    )
)
