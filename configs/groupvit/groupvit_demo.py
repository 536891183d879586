# A small network with RANDOM WEIGHTS, to try the commands: nobody has trained GroupViT for painted scenes.
_base_ = ['../_base_/models/groupvit.py', '../_base_/datasets/demo.py', '../_base_/default_runtime.py']
model = dict(
    clip=dict(
        pretrained=None,
        width=64,
        heads=2,
        depths=(1, 1, 1),
        group_tokens=(16, 8, 0),
        output_groups=(16, 8),
        text_width=32,
        text_heads=1,
        text_layers=1,
        hidden=64,
        out_dim=32,
    ),
    decode_head=_base_.tiny_clip.decode_head,
    test_cfg=_base_.tiny_clip.test_cfg,
)
