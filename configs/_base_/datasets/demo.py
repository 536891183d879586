dataset_type = 'PaintedScenesDataset'
data_root = None  # painted into the cache folder on first use
test_pipeline = [
    # Ground truth is not turned by EXIF orientation, so images are not either.
    dict(type='LoadCheckedImage'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        seed=0,
        count=400,
        size=128,
        max_regions=5,
        data_prefix=dict(img_path='images', seg_map_path='annotations'),
        pipeline=test_pipeline,
    ),
)
test_evaluator = dict(type='ExactIoUMetric', iou_metrics=['mIoU'])
test_cfg = dict(type='TestLoop')
