# ADE20K; a test pipeline is added by ../datasets.
dataset_type = 'ADE20KDataset'
data_root = 'data/ade/ADEChallengeData2016'
test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=False,
    sampler=dict(type='EvaluationSampler'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        reduce_zero_label=True,
    ),
)
test_evaluator = dict(type='ExactIoUMetric', iou_metrics=['mIoU'])
test_cfg = dict(type='EvaluationLoop')
