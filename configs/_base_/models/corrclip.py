# CorrCLIP v1 (ICCV 2025) with its values for ViT-B/16 and DINO ViT-B/8; for ViT-L/14 levels=(-14, -3). Its CLIP is
# MetaCLIP, other than that of most methods. Regions come from files that a mask generator has written, one for each
# image of all datasets: data/regions/2007_000033.png for 2007_000033.jpg. SAM 2 makes them here with
# regions=dict(_delete_=True, type='Sam2Regions', cache_folder='data/regions'), which keeps what it has made.
_base_ = './sclip.py'
model = dict(
    clip=dict(model_name='ViT-B-16-quickgelu', pretrained='metaclip_fullcc'),
    companions=dict(
        dino=dict(type='TimmCompanion', model='vit_base_patch8_224.dino', pretrained='timm'),
        regions=dict(type='RegionFiles', folder='data/regions'),
    ),
    backbone=dict(
        decoder=dict(
            _delete_=True,
            type='CorrCLIPDecoder',
            attention=dict(
                type='RegionScopedAttention', companion='dino', regions='regions', temperature=0.25, eps=0.2
            ),
            levels=(-7, -3),
            spatial_weight=1.0,
            semantic_weight=0.5,
        )
    ),
    test_cfg=dict(window_multiple=56, refine=[dict(type='RegionMajority', regions='regions')]),
)
