# PEARL (CVPR 2026): aligned keys in the last block, without residual and feed-forward part, and propagation of labels
# over the image. Cityscapes takes alpha=0.3 and grid=224, ADE20K alpha=0.3.
_base_ = './sclip.py'
model = dict(
    backbone=dict(
        decoder=dict(
            attention=dict(_delete_=True, type='ProcrustesAttention', alpha=0.08, solver='newton_schulz'),
            residual=False,
            ffn=False,
        )
    ),
    test_cfg=dict(whole_resize='input', refine=[dict(type='TextLabelPropagation', grid=80)]),
)
