# CLIPtrase's: the short side is resized to 336 pixels and the middle square cut out, of the ground truth too, which
# is scored at this size. There are no other scales, since the segments depend on the number of patches.
test_pipeline = [
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(type='CheckImageFile'),
    dict(type='LoadLabelMap'),
    dict(type='Resize', scale=(1000000, 336), keep_ratio=True, interpolation='bicubic', backend='pillow'),
    dict(type='ScoreCentre', crop_size=336),
    dict(type='PackSegInputs'),
]
