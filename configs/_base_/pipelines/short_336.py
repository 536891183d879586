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
