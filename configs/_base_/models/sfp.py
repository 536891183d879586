# SFP (ICCV 2025) with the values for the twelve blocks of ViT-B/16. Its other detectors are NormOutliers and
# DensityOutliers.
_base_ = './sclip.py'
model = dict(
    backbone=dict(
        decoder=dict(
            _delete_=True,
            type='SelfCalibratedDecoder',
            attention=dict(
                type='PurifiedAttention',
                detector=dict(type='AttentionOutliers', count=10, gain=1.5),
                affinity_block=9,
                threshold=0.4,
            ),
            threshold=0.4,
            smoothing_block=4,
            levels=(4, 10),
            cls_weight=0.3,
        )
    )
)
