_base_ = [
    '../_base_/models/lposs.py',
    '../_base_/data/voc21.py',
    '../_base_/pipelines/short_448.py',
    '../_base_/default_runtime.py',
]
model = dict(
    decode_head=dict(vocabulary='voc21_lposs', class_names='PascalVOCDataset', background_index=0),
    test_cfg=dict(refine=[dict(type='SynonymMaximum')]),
)
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
