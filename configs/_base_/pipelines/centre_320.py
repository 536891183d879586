# ReCo's, on Cityscapes and COCO-Stuff: the short side is resized to 320 pixels, by taking the nearest ones, and the
# middle square cut out, of the ground truth too, which is scored at this size.
test_pipeline = [
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(type='CheckImageFile'),
    dict(type='LoadLabelMap'),
    dict(type='Resize', scale=(1000000, 320), keep_ratio=True, interpolation='nearest'),
    dict(type='ScoreCentre', crop_size=320),
    dict(type='PackSegInputs'),
]
