# The demo has no photographs: its tiny CLIP and colours stand in for the networks, and its painter paints the
# references. Its materials have no context in common.
_base_ = ['../_base_/models/reco.py', '../_base_/datasets/demo.py', '../_base_/default_runtime.py']
model = dict(
    clip=dict(_delete_=True, model_name='builtin:demo', pretrained=None),
    companions=dict(encoder=dict(_delete_=True, type='PlainColours', patch_size=8)),
    backbone=dict(decoder=dict(residual=True, ffn=True)),
    decode_head=dict(
        **_base_.tiny_clip['decode_head'],
        references=dict(_delete_=True, type='PaintedReferences', number=8, seed=0, size=96),
        context=(),
        image_size=96,
    ),
)
