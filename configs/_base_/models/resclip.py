# ResCLIP (CVPR 2025) on NACLIP, with its values for ADE20k; other datasets have others.
_base_ = './sclip.py'
model = dict(
    backbone=dict(
        decoder=dict(
            attention=dict(
                _delete_=True,
                type='ResidualCrossCorrelation',
                share=0.3,
                gain=2.0,
                blocks=(6, 7, 8, 9),
                base=dict(
                    type='SemanticFeedback',
                    share=0.7,
                    gain=2.1,
                    threshold=0.25,
                    base=dict(type='NeighbourAttention', std=5.0),
                ),
            ),
            residual=False,
            ffn=False,
        )
    )
)
