# SC-CLIP with the values that its author gives for the 24 blocks of ViT-L/14.
_base_ = './sc_clip.py'
model = dict(
    clip=dict(model_name='ViT-L-14-quickgelu'),
    backbone=dict(
        decoder=dict(attention=dict(affinity_block=17), smoothing_block=7, levels=(9, 19), cls_weight=0.1),
    ),
)
