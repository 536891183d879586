# FreeCP's redundancy purification (ICCV 2025, first stage) on SCLIP's attention, in the tower of its code: the last
# block keeps its feed-forward part, but not its residual.
_base_ = './sclip.py'
model = dict(
    backbone=dict(
        decoder=dict(_delete_=True, type='LastBlock', attention=dict(type='CorrelativeSelfAttention'), residual=False)
    ),
    decode_head=dict(type='RedundancyPurificationHead', redundancy_thd=0.1, affinity=dict(type='MeanAttention')),
    test_cfg=dict(logit_scale=None),
)
