dataset_type = 'PaintedScenesDataset'
data_root = None  # painted into the cache folder on first use
test_pipeline = [
    # Ground truth is not turned by EXIF orientation, so images are not either.
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(type='CheckImageFile'),  # refuses damaged files; photographs from outside the dataset are turned upright
    dict(type='LoadLabelMap'),
    dict(type='PackSegInputs'),
]
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=False,
    sampler=dict(type='EvaluationSampler'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        seed=0,
        count=100,
        size=192,
        max_regions=6,
        data_prefix=dict(img_path='images', seg_map_path='annotations'),
        pipeline=test_pipeline,
    ),
)
# What a method's config takes over for this dataset: the tiny CLIP, the captions that it was trained on, and windows of
# the size of its images. Their steps are a third of their side, so that their edges hardly show.
tiny_clip = dict(
    clip=dict(model_name='builtin:demo', pretrained=None),
    decode_head=dict(
        vocabulary='demo', templates=['a photo of {}.', '{}.', 'an image of {}.', 'a picture with {} in it.']
    ),
    test_cfg=dict(crop_size=(96, 96), stride=(32, 32)),
)
test_evaluator = dict(type='ExactIoUMetric', iou_metrics=['mIoU'])
test_cfg = dict(type='EvaluationLoop')
