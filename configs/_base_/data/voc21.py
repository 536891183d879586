# Pascal VOC 2012 with its background; a test pipeline is added by ../datasets.
dataset_type = 'PascalVOCDataset'
data_root = 'data/VOCdevkit/VOC2012'
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=False,
    sampler=dict(type='EvaluationSampler'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        ann_file='ImageSets/Segmentation/val.txt',
    ),
)
test_evaluator = dict(type='ExactIoUMetric', iou_metrics=['mIoU'])
test_cfg = dict(type='EvaluationLoop')
