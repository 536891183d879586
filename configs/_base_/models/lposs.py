# LPOSS (CVPR 2025): MaskCLIP's scores, spread over a graph of all patches of an image that DINO ViT-B/16 finds alike.
# CLIP is that of LAION-2B. Where cosines are 20 times as large after it, logit_scale only changes what thresholds see.
#
# Whole images of any size as in the official code: test_cfg.mode='whole', and the step
# dict(type='Pad', size_divisor=16, pad_val=0) behind Resize in the test pipeline.
_base_ = './sclip.py'
model = dict(
    clip=dict(model_name='ViT-B-16', pretrained='laion2b_s34b_b88k'),
    companions=dict(dino=dict(type='TimmCompanion', model='vit_base_patch16_224.dino', pretrained='timm')),
    backbone=dict(positions='size', decoder=dict(attention=dict(_delete_=True, type='IdentityAttention'))),
    propagation=dict(
        type='PatchPropagation', companion='dino', features='values', neighbours=400, sharpness=3.0, decay=0.01
    ),
    data_preprocessor=dict(type='CLIPDataPreProcessor', exact=True),
)
