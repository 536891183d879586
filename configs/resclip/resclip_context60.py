_base_ = ['../_base_/models/resclip.py', '../_base_/datasets/context60.py', '../_base_/default_runtime.py']
model = dict(
    backbone=dict(decoder=dict(attention=dict(share=0.3, base=dict(share=0.7, gain=1.8, threshold=0.3)))),
    decode_head=dict(vocabulary='context60', class_names='PascalContextDataset', background_index=0),
    test_cfg=dict(prob_thd=0.1),
)
