# A small network with RANDOM WEIGHTS, to try the commands: nobody has trained OVSegmentor for painted scenes.
_base_ = ['../_base_/models/ovsegmentor.py', '../_base_/datasets/demo.py', '../_base_/default_runtime.py']
model = dict(
    clip=dict(
        pretrained=None,
        tokenizer=None,
        width=64,
        heads=2,
        depths=(1, 1),
        group_tokens=(16, 0),
        output_groups=(8,),
        bert=dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=1, intermediate_size=64),
        hidden=64,
        out_dim=32,
    ),
    decode_head=_base_.tiny_clip.decode_head,
    test_cfg=_base_.tiny_clip.test_cfg,
)
