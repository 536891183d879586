"""Loading of evaluation images that does not accept half a file."""

import io
import re
from typing import NamedTuple

import cv2
import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio
from mmseg.registry import TRANSFORMS
from PIL import Image, UnidentifiedImageError

_JPEG, _PNG = b'\xff\xd8', b'\x89PNG\r\n\x1a\n'
_EOI, _SOS, _DRI = 0xD9, 0xDA, 0xDD
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_ARITHMETIC = {0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}  # such a scan may leave out the zeros at its end
# DHT, DAC, EOI, SOS, DQT, DNL, DRI, APPn and COM; SOI and a second frame there are another file's.
_BEHIND_A_SCAN = {0xC4, 0xCC, _EOI, _SOS, 0xDB, 0xDC, _DRI, *range(0xE0, 0xF0), 0xFE}
# Behind FF in a scan: 00 is a stuffed FF, FF fills, D0 to D7 are restarts; all else ends the scan.
_SCAN_END = re.compile(rb'\xff[^\x00\xff\xd0-\xd7]')
_RESTART = re.compile(rb'\xff([\xd0-\xd7])')
_MARKER = re.compile(rb'\x00*\xff+([^\x00\xff])')
_MORE = bytes(range(1, 255)) * 2  # could stand in any scan
_GREY, _NEAR_GREY = 128, 8


@TRANSFORMS.register_module()
class LoadCheckedImage(LoadImageFromFile):
    """MMSeg's loader with two differences: EXIF orientation is ignored, and damaged files are errors.

    Ground truth is not turned by EXIF, so images may not be either. OpenCV decodes a damaged JPEG into
    a picture that is partly grey or shifted and says nothing; that would be evaluated silently. Takes
    the arguments of `LoadImageFromFile`; with `ignore_empty` a file that is missing or empty gives None.

    Found are files that stop early, even where an end mark was put behind, PNGs whose checksums are wrong,
    and JPEGs with foreign bytes or missing blocks. A JPEG has no checksum, so this is not found: zeroed or
    exchanged bytes that the entropy coding can read (unless blocks are missing at the end in consequence),
    changed tables or colours in its header, and a progressive JPEG that ends between two of its scans.
    """

    def __init__(self, color_type: str = 'color_ignore_orientation', **kwargs) -> None:
        super().__init__(color_type=color_type, **kwargs)

    def transform(self, results: dict) -> dict | None:
        """Load `img_path`; the result is that of `LoadImageFromFile`.

        Raises:
            OSError: The file is missing, damaged or no image; the message names it.
        """
        path = results['img_path']
        try:
            content = self._read(path)
        except Exception:  # what MMCV's loader ignores
            if self.ignore_empty:
                return None
            raise
        if not content and self.ignore_empty:
            return None
        ends = _check_ends(content, path)
        image = mmcv.imfrombytes(content, flag=self.color_type, backend=self.imdecode_backend)
        if image is None:
            raise _damaged(path)
        if ends is not None:
            _check_complete(content, ends, image, path)
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def _read(self, path: str) -> bytes:
        if self.file_client_args is not None:
            return fileio.FileClient.infer_client(self.file_client_args, path).get(path)
        return fileio.get(path, backend_args=self.backend_args)


def decode_strictly(content: bytes, path: str) -> None:
    """Decode a whole image file, JPEG and PNG as OpenCV does not.

    Args:
        content: Of the file.
        path: For the message.

    Raises:
        OSError: It is damaged or no image.
    """
    if not content:
        raise _damaged(path)
    if content.startswith((_JPEG, _PNG)):
        _check_ends(content, path)
        _decode(content.rstrip(b'\x00') if content.startswith(_JPEG) else content, path)
        return
    # Pillow does not know all formats that OpenCV reads.
    if cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED) is None:
        _decode(content, path)


class _Ends(NamedTuple):
    """What says whether a JPEG has all its blocks.

    Attributes:
        data: Where the entropy-coded data of the last scan ends.
        grey: Whether a decoder paints missing blocks grey: there is one scan, and the colours are not CMYK.
        restarts: Number of restart markers in that scan; None where it can have none.
    """

    data: int
    grey: bool
    restarts: int | None


def _check_ends(content: bytes, path: str) -> _Ends | None:
    """Check a file's structure, which takes much less time than decoding it; None where there is no more to check."""
    if not content:
        raise _damaged(path)
    if content.startswith(_JPEG):
        walked = _walk(content)
        if isinstance(walked, str):
            raise _damaged(path, walked)
        if walked is None:  # odd, but perhaps readable; Pillow takes zeros for data
            _decode(content.rstrip(b'\x00'), path)
        elif walked.data:
            return walked
    elif content.startswith(_PNG) and b'IEND' not in content[-12:]:
        _decode(content, path)
    return None


def _walk(content: bytes) -> _Ends | str | None:
    """Go along the segments of a JPEG.

    Returns:
        The ends, with 0 for `data` where `_check_complete` cannot be asked; what is wrong; or None for a file without
        an end mark, and for a header that only a decoder can judge.
    """
    at, scans, data, interval, arithmetic = 2, 0, 0, 0, False
    restarts: list[int] = []
    cmyk = False
    while True:
        marker = _MARKER.match(content, at)
        if marker is None:
            return 'bytes between two of its segments' if scans and content[at:].strip(b'\x00') else None
        code, at = marker[1][0], marker.end()
        if scans and code not in _BEHIND_A_SCAN:
            return f'the marker FF{code:02X} in its data'
        if code == _EOI:
            ends = _Ends(0 if arithmetic else data, scans == 1 and not cmyk, len(restarts) if interval else None)
            return ends if scans else None
        length = int.from_bytes(content[at : at + 2], 'big')
        if length < 2 or at + length > len(content):
            return 'a segment that is longer than the file' if scans else None
        if code == _DRI:
            interval = int.from_bytes(content[at + 2 : at + 4], 'big')
        if code in _FRAMES:
            arithmetic, cmyk = code in _ARITHMETIC, content[at + 7 : at + 8] == b'\x04'
        at += length
        if code != _SOS:
            continue
        end = _SCAN_END.search(content, at)
        data = len(content) if end is None else end.start()
        restarts = [mark[0] & 7 for mark in _RESTART.findall(content, at, data)]
        if restarts and (not interval or restarts != [i % 8 for i in range(len(restarts))]):
            return 'restart markers out of order'
        if end is None:
            return None
        at, scans = data, scans + 1


def _check_complete(content: bytes, ends: _Ends, image: np.ndarray, path: str) -> None:
    """Refuse a JPEG that ends well but lacks blocks.

    A decoder paints missing blocks grey, or, where several scans refine each other, leaves them coarse. They
    are missing where more data would have been read, which shows as another picture when data is added. That
    takes two more decodings, so where missing blocks are grey only pictures are tried whose last pixel is.
    """
    if ends.grey and np.abs(image[-1, -1].astype(float) - _GREY).max() > _NEAR_GREY:
        return
    more = _MORE
    if ends.restarts is not None:  # behind a few blocks a decoder waits for the next restart
        more = b''.join(_MORE + bytes([0xFF, 0xD0 + (ends.restarts + i) % 8]) for i in range(32))
    longer = content[: ends.data].rstrip(b'\xff') + more + content[ends.data :]
    change = _decode(content, path) != _decode(longer, path)
    change[-16:, -16:] = False  # some encoders stop within the last block
    if change.any():
        raise _damaged(path, 'blocks at its end are missing')


def _decode(content: bytes, path: str) -> np.ndarray:
    try:
        return np.asarray(Image.open(io.BytesIO(content)))
    except (OSError, SyntaxError, ValueError) as error:
        # That one shows a memory address.
        raise _damaged(path, '' if isinstance(error, UnidentifiedImageError) else str(error)) from error


def _damaged(path: str, reason: str = '') -> OSError:
    return OSError(
        f'{path} is damaged or no image{reason and f" ({reason})"}. Fetch it again, or take it out of the dataset.'
    )
