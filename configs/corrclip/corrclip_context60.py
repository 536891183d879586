_base_ = ['../_base_/protocols/corrclip.py', '../_base_/datasets/context60.py']
model = dict(
    decode_head=dict(vocabulary='context60_people', class_names='PascalContextDataset', background_index=0),
    test_cfg=dict(prob_thd=0.15),
)
