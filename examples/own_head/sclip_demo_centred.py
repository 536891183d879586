_base_ = '../../configs/sclip_demo.py'
custom_imports = dict(imports=['mmseg_sclip', 'centred_head'], allow_failed_imports=False)
model = dict(decode_head=dict(type='MyCentredHead', share=1.0))
