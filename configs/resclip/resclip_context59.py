_base_ = ['../_base_/models/resclip.py', '../_base_/datasets/context59.py', '../_base_/default_runtime.py']
model = dict(
    backbone=dict(decoder=dict(attention=dict(share=0.4, base=dict(share=0.7, gain=1.8, threshold=0.25)))),
    decode_head=dict(vocabulary='context59', class_names='PascalContextDataset59'),
)
