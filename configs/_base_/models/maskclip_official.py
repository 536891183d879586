# MaskCLIP in its own protocol (ECCV 2022) where that differs from SCLIP's. Its two refinements are options:
# decode_head=dict(pd_thresh=0.5) and decode_head=dict(ks_thresh=1.0). The class words stay SCLIP's.
_base_ = './sclip.py'
model = dict(
    # The official image tower runs OpenAI's weights with plain GELU and eps 1e-6; its text vectors are CLIP's own.
    clip=dict(activation=dict(image='gelu'), norm_eps=dict(image=1e-6)),
    backbone=dict(positions='size', decoder=dict(attention=dict(_delete_=True, type='IdentityAttention'))),
    decode_head=dict(type='MaskCLIPHead', templates='maskclip', pd_thresh=None, ks_thresh=None),
    # ImageNet's mean and std, as the official code.
    data_preprocessor=dict(type='CLIPDataPreProcessor', mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
    test_cfg=dict(mode='whole', whole_resize='input'),
)
