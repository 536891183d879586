_base_ = ['_base_/models/sclip.py', '_base_/datasets/demo.py', '_base_/default_runtime.py']
model = dict(
    clip=dict(model_name='builtin:demo', pretrained=None),
    decode_head=dict(
        vocabulary='demo',
        # The captions that the tiny CLIP was trained on.
        templates=['a photo of {}.', '{}.', 'an image of {}.', 'a picture with {} in it.'],
    ),
    test_cfg=dict(crop_size=(64, 64), stride=(32, 32)),
)
