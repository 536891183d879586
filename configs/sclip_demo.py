_base_ = ['_base_/models/sclip.py', '_base_/datasets/demo.py', '_base_/default_runtime.py']
model = _base_.tiny_clip
default_hooks = dict(
    references=dict(
        type='ReferencesHook',
        scenes=dict(purpose='evaluation', seed=0, count=100, size=192, max_regions=6),
        # Measured on these scenes; a test compares them, and those of the documents.
        miou=dict(clip_demo=50.91, maskclip_demo=76.38),
        command='mmseg-sclip compare clip_demo maskclip_demo sclip_demo --images 000000 000001 000002 000003',
    )
)
