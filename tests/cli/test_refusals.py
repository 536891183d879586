"""What a person can get wrong in a command line: exit code 1, and one last line that names the cause and the remedy."""

import shlex

import pytest
from PIL import Image

from mmseg_sclip.cli import main, segment

SEGMENT = 'segment photos --demo '
OPTION = SEGMENT + '--cfg-options '
POINT = 'attention photos/0.jpg --demo --out-dir out --points '
ATTENTION = POINT + '5,5 '
COMPARE = 'compare clip_demo --cfg-options test_dataloader.dataset.count=4 '
WRONG = [
    ('tset', "did you mean 'test'?"),
    ('--colour', '--colour'),
    ('test sclip_voc21 --outt x', '--outt', '--help'),
    ('test sclip_voc21 --launcher pytorch', '--launcher pytorch belongs to processes', 'leave --launcher out'),
    ('test sclip_voc21 --show', '--show needs a screen', '--show-dir'),
    ('test sclip_voc21 --device cuda:99', '--device cuda:99 cannot be used', 'cpu'),
    ('test sclip_voc21 missing.pth', 'no checkpoint missing.pth', 'leave it out'),
    ('test sclip_voc21 --cfg-options load_from=missing.pth', 'no checkpoint missing.pth', 'load_from of the config'),
    ('test sclip_voc21 --cfg-options stride', 'KEY=VALUE', "'stride' is not one"),
    ('test sclip_voc21 --cfg-options "a=[traffic light,cat]"', 'has spaces in its value', 'config file'),
    ('test sclip_voc21 --cfg-options "a=[sky(blue,clear),cat]"', 'brackets that cannot be read', 'config file'),
    ('test sclip_voc21 --data-root nowhere', 'nowhere does not exist', '--data-root'),
    ('test sclip_demo --max-images 0', '--max-images is 0'),
    ('test broken.py', 'my_attenshun', 'custom_imports'),
    ('weights sclop_voc21', 'Did you mean sclip_voc21'),
    ('weights sclip_demo --weights clip', '--weights clip: it takes NAME=FILE'),
    ('test sclip_demo --weights dino=a.pth', '--weights dino=FILE: this config needs no weights', 'Known: clip'),
    ('check sclip_demo --workers -1', '--workers is -1; it must be at least 0.'),
    ('get-flops sclip_voc21 --shape 0', 'one or two positive numbers'),
    ('train sclip_learned_demo --amp', '--amp is not supported'),
    ('train sclip_learned_demo --seed 4294967296', '--seed is 4294967296'),
    ('segment photos/0.jpg', 'There are no classes.', '--demo'),
    ('segment --classes cat', 'There is no picture.', '--demo'),
    ('segment --classes cat photos/0.jpg', 'was given photos/0.jpg', 'Put pictures first'),
    ('segment photos --classes cat --background sky a.PNG', '--background was given a.PNG'),
    ('segment photos --classes cat ./photos', 'Put pictures first'),
    ('segment photos --classes cat,dog', "'cat,dog' has a comma without a space"),
    ('segment photos --classes "cat (a,b), x,"', "x,' has a comma without a space"),
    ('segment photos --classes cat --classes-file a.txt', 'both name the classes'),
    ('segment photos --classes-file a.txt', "no vocabulary 'a.txt'"),
    ('segment photos --demo --config sclip_demo', '--demo has a config'),
    ('segment photos --config sclip_demo --background none', '--background belongs to'),
    ('segment photos --config sclip_dmo', 'Did you mean sclip_demo'),
    ('segment none.jpg --classes cat', 'There is no picture', 'none.jpg'),
    ('segment *.jpg --classes cat', 'holds no picture'),
    ('segment empty --classes cat', 'holds no picture'),
    ('segment photos --classes cat --pretrained none.pt', 'none.pt'),
    (SEGMENT + '--out-dir file', '--out-dir', 'file must be a folder'),
    (SEGMENT + '--out-dir link', 'name another folder'),
    (SEGMENT + '--model-name ViT-B-16-quickglu --pretrained openai', "Did you mean 'ViT-B-16-quickgelu'?"),
    (SEGMENT + '--model-name ViT-B-16-quickgelu --pretrained opnai', "Did you mean 'openai'?"),
    (SEGMENT + '--model-name builtin:dmeo', "'builtin:dmeo'", "'builtin:demo'"),
    (OPTION + 'model.clip.precison=fp32', "'precison'", "Did you mean 'precision'?"),
    (OPTION + 'model.clip.precision=fp8', "'fp8'", 'fp32'),
    (OPTION + 'model.backbone.decoder.residul=True', 'backbone.decoder', "Did you mean 'residual'?"),
    (OPTION + 'model.backbone.decoder.type=LstBlock', 'LstBlock', "Did you mean 'LastBlock'?"),
    (OPTION + 'model.backbone.decoder.attention.type=CorelativeSelfAttention', "mean 'Correlative", 'custom_imports'),
    (OPTION + 'model.decode_head.templates=opneai_imagenet', "Did you mean 'openai_imagenet'?"),
    (OPTION + 'model.decode_head.background_index=12', 'background_index is 12', '0 to 11'),
    (OPTION + 'model.pretrained=x.pt', 'top-level pretrained', 'clip='),
    (SEGMENT + '--attention VanilaSelfAttention', "Did you mean 'VanillaSelfAttention'"),
    (SEGMENT + '--pamr -1', 'PAMR.steps is -1'),
    (SEGMENT + '--pamr many', 'invalid int'),
    ('attention', 'Name an image file, or try the command with --demo'),
    ('attention photos/0.jpg', 'Say which points'),
    ('attention missing.jpg --points 5,5 --demo', 'missing.jpg'),
    ('attention half.png --points 5,5 --demo', 'half.png'),
    (POINT + '10', 'is not a point. A point is X,Y'),
    (POINT + '61,10', 'The point 61,10 lies outside the image, which is 61 x 40 pixels'),
    (ATTENTION + '--layers 6', 'There is no block 6: this image tower has the blocks 1 to 5'),
    (ATTENTION + '--layers last', "invalid int value: 'last'"),
    (ATTENTION + '--heads max', "--heads is 'max'; it is mean, all or a number from 1."),
    (ATTENTION + '--whole --window', 'not allowed with argument'),
    (ATTENTION + '--config sclip_voc21', 'Give one of them'),
    (ATTENTION + '--checkpoint none.pth', 'There is no checkpoint none.pth'),
    (ATTENTION + '--max-side 0', '--max-side is 0'),
    (ATTENTION + '--out-dir photos/../photos', 'name another folder'),
    (COMPARE, 'one of the arguments --images --worst --best is required'),
    (COMPARE + '--worst 1 --images 000000', 'not allowed with argument'),
    (COMPARE + '--worst 0', '--worst is 0; it must be at least 1'),
    (COMPARE + '--worst 1 --opacity 2', '--opacity is 2.0'),
    (COMPARE + '--images 000000 --by last', '--by and --max-images belong to --worst and --best'),
    (COMPARE + '--worst 1 --by gain', 'Give two or more'),
    (COMPARE + '--images 00000O', 'one of the 4 images'),
    (COMPARE + '--images photos/0.jpg --gt', '--gt: photos/0.jpg has no ground truth'),
    (COMPARE + '--images photos/0.jpg --error-map', '--error-map: none of the images has ground truth'),
    (COMPARE + '--images photos/0.jpg --out-dir photos', 'name another folder'),
    ('compare clip_demo --worst 1 --data-root nowhere', 'nowhere'),
    (COMPARE + '--worst 1 clip_demo', 'is given twice'),
    ('compare clip_demo sclip_demo sclip_voc21 --worst 1', 'have different classes (12 from'),
    ('compare-methods demo --methods sclip sclip', 'names one of them twice'),
    ('compare-methods voc21 --methods sclip --seeds 1', '--seeds is for the scenes of the demo, not for voc21'),
    ('compare-methods demo --methods skclip', "called 'skclip_demo'"),
    ('compare-methods demo --methods sclip --max-images -1', '--max-images is -1; it must be at least 1'),
    ('ablate --table 5', 'invalid choice'),
    ('ablate --table 1 --rows skclip', "Did you mean 'sclip'?"),
    ('ablate --table 1 --data-root voc12=/x', 'NAME=DIR'),
    ('ablate --table 1 --demo-count 0', '--demo-count is 0'),
    ('ablate --table 1 --rows clip --out file/out', '--out'),
]


@pytest.mark.parametrize(
    'line, words', [(line, words) for line, *words in WRONG], ids=[line[:60] for line, *_ in WRONG]
)
def test_refused(run, photos, tmp_path, monkeypatch, line, words):
    for name in ('DISPLAY', 'WAYLAND_DISPLAY'):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / 'file').touch()
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'link').symlink_to(photos)
    Image.open(photos / '0.jpg').save(tmp_path / 'half.png')
    (tmp_path / 'half.png').write_bytes((tmp_path / 'half.png').read_bytes()[:-300])
    (tmp_path / 'broken.py').write_text("custom_imports = dict(imports=['my_attenshun'], allow_failed_imports=False)")
    before = [path for suffix in ('png', 'jpg') for path in tmp_path.rglob(f'*.{suffix}')]
    result = run(*shlex.split(line))
    assert result.code == 1 and result.last.startswith('Error: ') and 'Traceback' not in result.out + result.err
    assert all(word in result.last for word in words), result.last
    assert before == [path for suffix in ('png', 'jpg') for path in tmp_path.rglob(f'*.{suffix}')]


def test_every_command_is_among_them():
    assert {line.split()[0] for line, *_ in WRONG} >= set(main.COMMANDS) - {'configs', 'doctor'}


def test_without_weights_it_says_how_to_get_some(run, photos, monkeypatch):
    def build(*args, **kwargs):
        raise FileNotFoundError(
            "The weights 'openai' could not be downloaded. Give --pretrained FILE or set HF_ENDPOINT."
        )

    monkeypatch.setattr(segment, 'SCLIPInferencer', build)
    last = run('segment', photos, '--classes', 'cat').last
    assert all(word in last for word in ('--pretrained FILE', 'HF_ENDPOINT', '--demo'))
