_base_ = ['../_base_/protocols/corrclip.py', '../_base_/datasets/voc20.py']
model = dict(
    decode_head=dict(vocabulary='voc20_corrclip', class_names='PascalVOC20Dataset'),
)
