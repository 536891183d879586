# COCO-Stuff164k; a test pipeline is added by ../datasets.
dataset_type = 'COCOStuffDataset'
data_root = 'data/coco_stuff164k'
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=False,
    sampler=dict(type='EvaluationSampler'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='images/val2017', seg_map_path='annotations/val2017'),
    ),
)
test_evaluator = dict(type='ExactIoUMetric', iou_metrics=['mIoU'])
test_cfg = dict(type='EvaluationLoop')
