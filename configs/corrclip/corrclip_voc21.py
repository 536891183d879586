_base_ = ['../_base_/protocols/corrclip.py', '../_base_/datasets/voc21.py']
model = dict(
    decode_head=dict(vocabulary='voc21_corrclip', class_names='PascalVOCDataset', background_index=0),
    test_cfg=dict(prob_thd=0.2),
)
