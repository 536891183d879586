_base_ = [
    '../_base_/models/trident.py',
    '../_base_/data/voc21.py',
    '../_base_/pipelines/trident_448.py',
    '../_base_/default_runtime.py',
]
model = dict(
    decode_head=dict(vocabulary='voc21_proxyclip', class_names='PascalVOCDataset', background_index=0),
    test_cfg=dict(prob_thd=0.2),
)
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
