"""Letters that matplotlib's own font lacks, such as those of Chinese, Japanese and Korean names."""

import warnings
from typing import TYPE_CHECKING

from ifam.errors import IfamWarning

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BOXES = "Last Resort High-Efficiency"
"""comes with matplotlib and has a box for every letter"""


def use_fonts_for(figure: "Figure") -> None:
    """Give the texts of a figure the installed fonts that their letters need; a warning where none has some."""
    from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
    from matplotlib.text import Text

    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    missing = {ord(letter) for text in texts for letter in text.get_text() if letter.isprintable()}
    missing -= get_font(findfont(FontProperties())).get_charmap().keys()
    if not missing:
        return
    families = FontProperties().get_family()
    installed: dict[str, set[int]] = {}
    for font in fontManager.ttflist:
        installed.setdefault(font.name, set()).update(get_font(font.fname).get_charmap())
    boxes = [BOXES] if installed.pop(BOXES, None) else []
    while missing and installed:
        best = max(installed, key=lambda name: len(missing & installed[name]))
        if not missing & installed[best]:
            break
        families, missing = [*families, best], missing - installed.pop(best)
    if missing:
        letters = " ".join(map(chr, sorted(missing)[:5]))
        line = f"no installed font has {letters}; install one that does, such as Noto Sans CJK"
        warnings.warn(line, IfamWarning, stacklevel=2)
    for text in texts:
        text.set_fontfamily([*families, *boxes])
