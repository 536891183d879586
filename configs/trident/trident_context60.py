_base_ = [
    '../_base_/models/trident.py',
    '../_base_/data/context60.py',
    '../_base_/pipelines/trident_576.py',
    '../_base_/default_runtime.py',
]
model = dict(
    decode_head=dict(vocabulary='context60', class_names='PascalContextDataset', background_index=0),
    test_cfg=dict(prob_thd=0.15),
)
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
