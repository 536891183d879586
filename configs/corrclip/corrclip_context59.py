_base_ = ['../_base_/protocols/corrclip.py', '../_base_/datasets/context59.py']
model = dict(
    decode_head=dict(vocabulary='context59_people', class_names='PascalContextDataset59'),
)
