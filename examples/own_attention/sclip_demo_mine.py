# A path: relative to this file as here, or absolute. `mmseg-sclip configs` prints where the shipped configs lie.
_base_ = '../../configs/sclip_demo.py'
# A list given here replaces the base's, so mmseg_sclip is named again, and first.
custom_imports = dict(imports=['mmseg_sclip', 'my_attention'], allow_failed_imports=False)
# _delete_: the base's attention has an argument `projections`, which this one does not know.
model = dict(backbone=dict(decoder=dict(attention=dict(_delete_=True, type='MyCosineAttention', sharpness=10.0))))
