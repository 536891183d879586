_base_ = ['../_base_/protocols/segclip.py', '../_base_/data/context60.py', '../_base_/pipelines/short_224.py']
model = dict(
    decode_head=dict(
        vocabulary='context60_peers', class_names='PascalContextDataset', background_index=0, bg_thresh=0.25
    )
)
test_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
