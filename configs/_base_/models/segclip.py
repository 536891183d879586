# SegCLIP (ICML 2023): a CLIP that gathers patches in eight groups. Each pixel has the scores of its group, and the
# threshold bg_thresh makes the background.
_base_ = './sclip.py'
model = dict(
    clip=dict(
        _delete_=True,
        type='SegclipSource',
        pretrained='released',
        clip=dict(model_name='ViT-B-16-quickgelu', pretrained='openai'),
    ),
    backbone=dict(positions='size', decoder=dict(_delete_=True, type='GroupDecoder')),
    decode_head=dict(type='GroupPaintingHead', templates='simple', bg_thresh=0.8, top_classes=5),
    test_cfg=dict(logit_scale=None),
)
