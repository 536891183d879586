# A filter bank stands in for DINO and for SAM: it tells colours and edges apart, as the painted materials need.
# Chosen on 8 scenes of seed 1000: mIoU 82.2 with cells of 8 pixels in both, 77.4 with cells of 4.
_base_ = ['../_base_/models/trident.py', '../_base_/datasets/demo.py', '../_base_/default_runtime.py']
bank = dict(_delete_=True, type='FilterBank', patch_size=8)
model = dict(**_base_.tiny_clip, companions=dict(dino=bank, sam=bank))
