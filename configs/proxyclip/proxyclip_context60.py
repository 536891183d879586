_base_ = ['../_base_/protocols/proxyclip.py', '../_base_/datasets/context60.py']
model = dict(
    decode_head=dict(vocabulary='context60', class_names='PascalContextDataset', background_index=0),
    test_cfg=dict(prob_thd=0.15),
)
