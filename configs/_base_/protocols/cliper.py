# What CLIPer's configs have in common: the fifteen templates, which it took over from CLIP as RNN (CVPR 2024). Leaves
# add a short side of 336 pixels. Where there is no background, no pixel is left without a class, and the words of the
# background, which compete in the official code there too, are left out.
_base_ = ['../models/cliper.py', '../default_runtime.py']
model = dict(
    decode_head=dict(
        templates=[
            'a clean origami {}.',
            'a photo of a {}.',
            'This is a photo of a {}',
            'There is a {} in the scene',
            'There is the {} in the scene',
            'a photo of a {} in the scene',
            'a photo of a small {}.',
            'a photo of a medium {}.',
            'a photo of a large {}.',
            'This is a photo of a small {}.',
            'This is a photo of a medium {}.',
            'This is a photo of a large {}.',
            'There is a small {} in the scene.',
            'There is a medium {} in the scene.',
            'There is a large {} in the scene.',
        ]
    )
)
