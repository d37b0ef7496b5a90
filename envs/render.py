"""Pictures of a state: one labelled bar for each entry of the observation, drawn with NumPy alone."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envs.dynamics import Field

Image = NDArray[np.uint8]

WIDTH, BAR, GAP, MARGIN = 480, 22, 10, 14
_LABEL, _NUMBER = 150, 70
_PAPER, _TRACK, _INK = (255, 255, 255), (232, 234, 238), (40, 44, 52)
_GOOD, _BAD = (59, 130, 189), (203, 75, 70)

# Glyphs of 3 x 5 dots, row by row, as octal digits: 4 is the left dot, 2 the middle, 1 the right one.
_GLYPHS = {
    "0": "75557", "1": "26227", "2": "71747", "3": "71717", "4": "55711", "5": "74717", "6": "74757", "7": "71122",
    "8": "75757", "9": "75717", ".": "00002", "-": "00700", "_": "00007", "[": "64446", "]": "31113", "/": "11244",
    "a": "25755", "b": "65656", "c": "34443", "d": "65556", "e": "74647", "f": "74644", "g": "34553", "h": "55755",
    "i": "72227", "j": "11152", "k": "55655", "l": "44447", "m": "57755", "n": "65555", "o": "25552", "p": "65644",
    "q": "25573", "r": "65655", "s": "34216", "t": "72222", "u": "55557", "v": "55552", "w": "55775", "x": "55255",
    "y": "55222", "z": "71247", ":": "02020", "+": "02720", "=": "07070", "(": "24442", ")": "21112", ",": "00024",
}  # fmt: skip
_DOT = 2


def picture(fields: Sequence[Field], values: NDArray[np.float32], title: str) -> Image:
    """The observation (k,) as an image (height, width, 3): a bar from the lower to the upper bound of each entry."""
    height = 2 * MARGIN + 20 + len(fields) * (BAR + GAP)
    image: Image = np.full((height, WIDTH, 3), _PAPER, np.uint8)
    write(image, title, MARGIN, MARGIN)
    track = WIDTH - 2 * MARGIN - _LABEL - _NUMBER
    for place, (field, value) in enumerate(zip(fields, values.tolist(), strict=True)):
        top = MARGIN + 20 + place * (BAR + GAP)
        left = MARGIN + _LABEL
        write(image, field.name, MARGIN, top + 6)
        image[top : top + BAR, left : left + track] = _TRACK
        share = _share(field, value)
        image[top : top + BAR, left : left + round(share * track)] = _BAD if _alarming(field, share) else _GOOD
        write(image, f"{value:g}", left + track + 8, top + 6)
    return image


def text(fields: Sequence[Field], values: NDArray[np.float32], title: str) -> str:
    """The observation as lines of text, with bars of characters."""
    width = max(len(field.name) for field in fields)
    lines = [title]
    for field, value in zip(fields, values.tolist(), strict=True):
        filled = round(20 * _share(field, value))
        unit = f" {field.unit}" if field.unit else ""
        lines.append(f"{field.name:<{width}} [{'#' * filled}{'.' * (20 - filled)}] {value:g}{unit}")
    return "\n".join(lines)


def write(image: Image, words: str, left: int, top: int) -> None:
    """Letters of 3 x 5 dots, each dot 2 x 2 pixels; what has no glyph stays blank, what does not fit is cut."""
    for place, letter in enumerate(words.lower()):
        x = left + place * 4 * _DOT
        if x + 3 * _DOT > image.shape[1]:
            return
        for row, dots in enumerate(_GLYPHS.get(letter, "00000")):
            for column in range(3):
                if int(dots) >> (2 - column) & 1:
                    y = top + row * _DOT
                    image[y : y + _DOT, x + column * _DOT : x + (column + 1) * _DOT] = _INK


def _share(field: Field, value: float) -> float:
    low = field.low if np.isfinite(field.low) else 0.0
    high = field.high if np.isfinite(field.high) else max(value, low + 1.0)
    return float(np.clip((value - low) / max(high - low, 1e-12), 0.0, 1.0))


def _alarming(field: Field, share: float) -> bool:
    """A component that has failed, an empty shelf, a unit at its greatest age."""
    name = field.name.split("[")[0]
    return (name in ("levels", "age") and share >= 1.0) or (name in ("stock", "on_hand") and share <= 0.0)
