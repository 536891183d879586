# TCL (CVPR 2023): masks of a decoder that was trained on a frozen CLIP, refined with PAMR. Without PAMR its code has
# decode_head=dict(pamr_steps=0, background=0.5).
_base_ = './sclip.py'
model = dict(
    clip=dict(
        _delete_=True,
        type='TclSource',
        pretrained='released',
        clip=dict(model_name='ViT-B-16-quickgelu', pretrained='openai'),
    ),
    backbone=dict(positions='size', decoder=dict(_delete_=True, type='MaskDecoder')),
    decode_head=dict(
        type='MaskHead',
        # Seven of CLIP's, and two plurals; their vectors are averaged as they are.
        templates=[
            'itap of a {}.',
            'a bad photo of a {}.',
            'a origami {}.',
            'a photo of the large {}.',
            'a {} in a video game.',
            'art of the {}.',
            'a photo of the small {}.',
            'a photo of many {}.',
            'a photo of {}s.',
        ],
        background=0.4,
        pamr_steps=10,
        dilations=(1, 2, 4, 8, 12, 24),
        frozen_share=0.3,
    ),
    test_cfg=dict(window_multiple=16, logit_scale=None),
)
