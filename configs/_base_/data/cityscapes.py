# Cityscapes; a test pipeline is added by ../datasets.
dataset_type = 'CityscapesDataset'
data_root = 'data/cityscapes'
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=False,
    sampler=dict(type='EvaluationSampler'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
    ),
)
test_evaluator = dict(type='ExactIoUMetric', iou_metrics=['mIoU'])
test_cfg = dict(type='EvaluationLoop')
