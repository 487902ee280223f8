"""Which characters show nothing though their category says letter, mark or symbol.

Special here: Unicode's Default_Ignorable_Code_Point, which Python does not know, without what the categories C tell of
it; browsers know it, and a test holds the two together. Besides, the glyphs that are blank by their drawing.
"""

import re

UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef"
    "\u2800\U0001d159\U00013441\U00013442]"  # of Braille, of music, of hieroglyphs
)
"""One of them."""
