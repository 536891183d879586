# Trident's: a short side of 336 pixels, if the long one stays below 2048, and sides of whole patches of ViT-B/16. The
# image as it was loaded goes along, for SAM.
test_pipeline = [
    # Ground truth is not turned by EXIF orientation, so images are not either.
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(type='CheckImageFile'),  # refuses damaged files; photographs from outside the dataset are turned upright
    dict(type='KeepOriginal'),
    dict(type='Resize', scale=(2048, 336), keep_ratio=True),
    dict(type='GrowToPatches', patch_size=16, least=336),
    # After Resize: the ground truth keeps its size, and predictions are brought to it.
    dict(type='LoadLabelMap'),
    dict(
        type='PackSegInputs',
        meta_keys=(
            *('img_path', 'seg_map_path', 'ori_shape', 'img_shape', 'pad_shape', 'scale_factor', 'flip'),
            *('flip_direction', 'reduce_zero_label', 'original'),
        ),
    ),
]
