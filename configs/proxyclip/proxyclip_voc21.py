_base_ = ['../_base_/protocols/proxyclip.py', '../_base_/datasets/voc21.py']
model = dict(
    decode_head=dict(vocabulary='voc21_proxyclip', class_names='PascalVOCDataset', background_index=0),
    test_cfg=dict(prob_thd=0.2),
)
