# CLIPer without diffusion (ICCV 2025): the attention and the values of all blocks, on the whole image.
# decoder=dict(crop_size=224) adds windows.
_base_ = './sclip.py'
model = dict(
    backbone=dict(positions='bilinear', decoder=dict(_delete_=True, type='EarlyLayerFusion', crop_size=None)),
    decode_head=dict(type='EarlyLayerFusionHead', scale=100, attention_thd=0.2, score_thd=0, min_max=False),
    test_cfg=dict(mode='whole', logit_scale=None),
)
