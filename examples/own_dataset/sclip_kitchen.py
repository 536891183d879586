_base_ = ['../../configs/_base_/models/sclip.py', '../../configs/_base_/default_runtime.py']
classes = ('background', 'cup', 'plate', 'spoon')  # label value 0, 1, 2, 3
model = dict(
    decode_head=dict(vocabulary='{{ fileDirname }}/words.txt', class_names=classes, background_index=0),
    test_cfg=dict(logit_scale=50, prob_thd=0.1),
)
test_pipeline = [
    # Ground truth is not turned by EXIF orientation, so images are not either.
    dict(type='LoadImageFromFile', color_type='color_ignore_orientation'),
    dict(type='CheckImageFile'),  # refuses damaged files; photographs from outside the dataset are turned upright
    dict(type='Resize', scale=(2048, 336), keep_ratio=True),
    dict(type='LoadLabelMap'),  # after Resize: label maps keep their size
    dict(type='PackSegInputs'),
]
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ImageFolderDataset',
        metainfo=dict(classes=classes),
        data_root='data/kitchen',
        data_prefix=dict(img_path='images', seg_map_path='labels'),  # images/cup.jpg, labels/cup.png, ...
        pipeline=test_pipeline,
    ),
)
# ignore_index: the label value of pixels that belong to no class (void). They are not counted.
test_evaluator = dict(type='ExactIoUMetric', iou_metrics=['mIoU'], ignore_index=255)
test_cfg = dict(type='TestLoop')
