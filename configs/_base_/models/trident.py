# Trident (ICCV 2025) without SAM's refinement of masks: the windows of ProxyCLIP with DINO ViT-B/16 are spliced on one
# map of the image, which the attention of SAM ViT-B segments. VOC20 takes cos_fac=0, Cityscapes cos_fac=3 and halves.
#
# Files of weights are named by model.companions.dino.pretrained and model.companions.sam.pretrained; larger SAMs by
# model.companions.sam.model='vit_l' or 'vit_h'.
_base_ = './sclip.py'
model = dict(
    companions=dict(
        dino=dict(type='TimmCompanion', model='vit_base_patch16_224.dino', pretrained='timm'),
        sam=dict(type='SamCompanion', model='vit_b', pretrained='released'),
    ),
    backbone=dict(
        decoder=dict(
            _delete_=True,
            type='UnprojectedGrid',
            attention=dict(
                type='ProxyAttention', companion='dino', features='map', beta=1.2, gamma=3.0, mean_over='image'
            ),
        )
    ),
    stitch=dict(type='SpliceThenSegment', companion='sam', cos_fac=1.2, refine_neg_cos=True, halves=False),
    test_cfg=dict(crop_size=(336, 336), stride=(224, 224)),
)
