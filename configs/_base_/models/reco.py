# ReCo (NeurIPS 2022): DeiT-S/16-SIN compares pixels with reference vectors of the classes, and CLIP RN50x16 (DenseCLIP)
# with their words. Images are whole, and both networks take ImageNet's mean and std.
_base_ = './sclip.py'
model = dict(
    clip=dict(
        type='ClipResNetSource',
        model_name='RN50x16-quickgelu',
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
    ),
    companions=dict(encoder=dict(type='DistilledDeiT', pretrained='released')),
    backbone=dict(decoder=dict(attention=dict(_delete_=True, type='IdentityAttention'), residual=False, ffn=False)),
    decode_head=dict(
        type='RecoHead',
        templates='maskclip',
        # A folder with some 50 images of each class: FOLDER/cat/*.jpg. There are other forms.
        references='data/reco_references',
        context=('tree', 'sky', 'building', 'road', 'person'),
        images_per_class=50,
    ),
    test_cfg=dict(mode='whole', logit_scale=None),
)
