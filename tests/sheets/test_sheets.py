"""Figures of several pictures: where pixels, words and colours stand."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mmseg_sclip.sheets import Panel, lay_out
from mmseg_sclip.sheets.layout import fit


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def noise(rng, height, width):
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def texts(sheet):
    return [text.text for text in sheet.texts]


def cut(drawn, placed):
    height, width = placed.picture.shape[:2]
    return drawn[placed.y : placed.y + height, placed.x : placed.x + width]


def test_pictures_keep_their_pixels_in_rows_and_columns(rng):
    pictures = [[noise(rng, 230, 300), noise(rng, 240, 260)], [noise(rng, 250, 270), None]]
    rows = [[None if picture is None else Panel(picture) for picture in row] for row in pictures]
    sheet = lay_out(rows, ['one', 'two'], ['left', 'right'], title='title', notes=['note'])
    drawn = np.asarray(sheet.draw())
    assert drawn.shape == (*sheet.size[::-1], 3)
    for row, column in ((0, 0), (0, 1), (1, 0)):
        assert np.array_equal(cut(drawn, sheet.at(row, column)), pictures[row][column])
    assert sheet.at(0, 0).x == sheet.at(1, 0).x < sheet.at(0, 1).x
    assert sheet.at(0, 0).y == sheet.at(0, 1).y < sheet.at(1, 0).y
    assert len(sheet.pictures) == 3
    place = {text.text: text for text in sheet.texts}
    assert place['left'].x == sheet.at(0, 0).x
    assert place['right'].x == sheet.at(0, 1).x
    assert place['title'].y < place['left'].y < sheet.at(0, 0).y < place['one'].y < sheet.at(1, 0).y < place['two'].y
    assert place['note'].y > sheet.at(1, 0).y + 250


def test_nothing_overlaps(rng):
    rows = [[Panel(noise(rng, 230, 240), 'a caption that is much longer than its picture is wide ' * 2)] * 2] * 2
    sheet = lay_out(rows, ['a long label of a row that needs several lines'] * 2, ['a heading ' * 9] * 2, 'title ' * 50)
    drawn = np.asarray(sheet.draw())
    for placed in sheet.pictures:
        assert np.array_equal(cut(drawn, placed), placed.picture)  # no text over it
    blank = np.array(sheet.draw())
    for placed in sheet.pictures:
        cut(blank, placed)[...] = 255
    assert (blank[:, :5] == 255).all() and (blank[:, -5:] == 255).all()  # no text is cut off
    lines = [(text.x, text.y) for text in sheet.texts]
    assert len(set(lines)) == len(lines)


def test_small_pictures_are_enlarged_by_a_whole_number(rng):
    small = noise(rng, 100, 120)
    sheet = lay_out([[Panel(small)]], [''], [''])
    assert sheet.factor == 2
    assert np.array_equal(sheet.at(0, 0).picture, np.kron(small, np.ones((2, 2, 1), np.uint8)))


def test_narrow_pictures_leave_room_for_words(rng):
    sheet = lay_out([[Panel(noise(rng, 300, 20), 'max 0.25')] * 2], [''], ['point 1,2', 'point 3,4'])
    assert sheet.factor == 1
    assert {'max 0.25', 'point 1,2', 'point 3,4'} <= set(texts(sheet))


def test_a_column_may_be_empty(rng):
    sheet = lay_out([[None, Panel(noise(rng, 230, 230))]], [''], ['nothing here', 'picture'])
    place = {text.text: text.x for text in sheet.texts}
    assert place['nothing here'] < place['picture'] == sheet.at(0, 1).x


def test_captions_stand_below_their_pictures(rng):
    sheet = lay_out([[Panel(noise(rng, 230, 230), 'first'), Panel(noise(rng, 300, 230), 'second')]], [''], ['', ''])
    place = {text.text: text for text in sheet.texts}
    for column, caption in enumerate(('first', 'second')):
        assert place[caption].x == sheet.at(0, column).x
        assert place[caption].y == sheet.at(0, 0).y + 300


def test_the_legend_names_its_colours(rng):
    palette = [(255, 0, 0), (0, 128, 0)]
    sheet = lay_out([[Panel(noise(rng, 230, 230))]], [''], [''], names=['cat', '猫'], palette=palette)
    x, y, legend = sheet.legend
    assert [entry.name for entry in legend.entries] == ['cat', '猫']
    drawn = np.asarray(sheet.draw())
    for entry, colour in zip(legend.entries, palette, strict=True):
        left, top, right, bottom = entry.swatch
        inside = drawn[y + top + 2 : y + bottom - 2, x + left + 2 : x + right - 2]
        assert inside.size and (inside == colour).all()
        left, top, right, bottom = entry.text
        assert (drawn[y + top : y + bottom, x + left : x + right] < 128).any()  # something is written there
    assert x >= sheet.at(0, 0).x + 230


def test_too_large_figures_are_refused():
    row = [Panel(np.zeros((3000, 4000, 3), np.uint8))] * 40
    with pytest.raises(ValueError, match='--max-side'):
        lay_out([row], [''], [''] * 40)


@pytest.mark.parametrize('text', ['', 'word', 'several words in a row', 'oneverylongwordwithoutanyspacesinit'])
def test_fit_loses_no_letter(text):
    from mmseg_sclip.pictures import text_size

    lines = fit(text, 14, 90)
    assert ''.join(lines).replace(' ', '') == text.replace(' ', '')
    assert all(text_size(line, 14)[0] <= 90 for line in lines)


def images_of_pdf(content):
    """The RGB images of a PDF: their data is what stands in a PNG."""
    for match in re.finditer(rb'<<[^>]*?/Subtype /Image.*?stream\r?\n', content, re.DOTALL):
        header = match[0]
        assert b'/DeviceRGB' in header and b'/Predictor 10' in header
        width, height = (int(re.search(rb'/' + key + rb' (\d+)', header)[1]) for key in (b'Width', b'Height'))
        data = content[match.end() : content.index(b'endstream', match.end())]

        def chunk(kind, body):
            return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))

        png = b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
        png += chunk(b'IDAT', data) + chunk(b'IEND', b'')
        yield np.asarray(Image.open(io.BytesIO(png)))


def test_the_pdf_holds_the_same_pixels_and_text(rng, tmp_path):
    picture = noise(rng, 230, 240)
    sheet = lay_out([[Panel(picture, 'caption')]], ['row'], ['Heading'], names=['cat'], palette=[(255, 0, 0)])
    content = sheet.save(tmp_path / 'figure.pdf').read_bytes()
    assert content.startswith(b'%PDF')
    assert re.search(rb'/MediaBox \[ ?0 0 %d %d ?\]' % sheet.size, content)  # a pixel is a point
    (found,) = images_of_pdf(content)
    assert np.array_equal(found, picture)
    page = b''.join(
        zlib.decompress(body)
        for body in re.findall(rb'FlateDecode >>\nstream\r?\n(.*?)\nendstream', content, re.DOTALL)
    )
    assert b'1 0 0 rg' in page  # the legend's field
    written = re.sub(rb'\)[^()\]]*\(', b'', page)  # letters with their kerning
    for word in (b'caption', b'row', b'Heading', b'cat'):
        assert word in written
    first = content
    assert sheet.save(tmp_path / 'again.pdf').read_bytes() == first


def test_an_interrupted_save_leaves_the_file_before(rng, tmp_path, monkeypatch):
    sheet = lay_out([[Panel(noise(rng, 230, 240))]], [''], [''])
    path = sheet.save(tmp_path / 'figure.png')
    before = path.read_bytes()
    assert np.array_equal(np.asarray(Image.open(path)), np.asarray(sheet.draw()))
    monkeypatch.setattr(Image.Image, 'save', lambda self, file, **_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        sheet.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ['figure.png']
