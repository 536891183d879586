# GroupViT (CVPR 2022), trained on GCC and YFCC: a network that gathers patches in eight groups. It is no CLIP: both
# towers come from its own file. Each pixel has the scores of its group, and bg_thresh makes the background.
_base_ = './sclip.py'
model = dict(
    clip=dict(_delete_=True, type='GroupViTSource', pretrained='released'),
    backbone=dict(positions='size', decoder=dict(_delete_=True, type='GroupDecoder')),
    decode_head=dict(type='GroupPaintingHead', templates='simple', bg_thresh=0.95, top_classes=5),
    test_cfg=dict(logit_scale=None),
)
