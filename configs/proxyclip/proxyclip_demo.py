# A filter bank stands in for DINO: it tells colours and edges apart, as the painted materials need. The tiny CLIP sees
# whole patches only.
_base_ = ['../_base_/models/proxyclip.py', '../_base_/datasets/demo.py', '../_base_/default_runtime.py']
_base_.tiny_clip['test_cfg']['window_multiple'] = 8
model = dict(companions=dict(dino=dict(_delete_=True, type='FilterBank', patch_size=8)), **_base_.tiny_clip)
