# Images are resized to a short side of 336 pixels, if the long one stays below 2048.
test_pipeline = [
    # Ground truth is not turned by EXIF orientation, so images are not either.
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(type='CheckImageFile'),  # refuses damaged files; photographs from outside the dataset are turned upright
    dict(type='Resize', scale=(2048, 336), keep_ratio=True),
    # After Resize: the ground truth keeps its size, and predictions are brought to it.
    dict(type='LoadLabelMap'),
    dict(type='PackSegInputs'),
]
tta_pipeline = [
    *test_pipeline[:2],
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=(int(2048 * r), int(336 * r)), keep_ratio=True) for r in (0.75, 1.0, 1.25, 1.5)],
            [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)],
            [dict(type='LoadLabelMap')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
