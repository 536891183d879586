# ProxyCLIP (ECCV 2024) with DINO ViT-B/8: the values of CLIP's last block attend where DINO finds patches alike. Its
# windows are padded to multiples of 56 pixels, of patches of 8 and of 14.
#
# Other second networks, as `--cfg-options model.companions.dino.model=...` or in a config of your own:
#   DINO ViT-B/16               model.companions.dino.model='vit_base_patch16_224.dino'
#   DINOv2 ViT-B/14, registers  model.companions.dino.model='vit_base_patch14_reg4_dinov2.lvd142m'
#   MAE ViT-B/16                model.companions.dino.model='vit_base_patch16_224.mae'
#   SAM ViT-B                   model.companions.dino=dict(_delete_=True, type='SamCompanion')
# A file of weights is named by model.companions.dino.pretrained.
_base_ = './sclip.py'
model = dict(
    companions=dict(dino=dict(type='TimmCompanion', model='vit_base_patch8_224.dino', pretrained='timm')),
    backbone=dict(
        decoder=dict(
            _delete_=True,
            type='CompanionGrid',
            attention=dict(type='ProxyAttention', companion='dino', features='map', beta=1.2, gamma=3.0),
        )
    ),
    test_cfg=dict(window_multiple=56),
)
