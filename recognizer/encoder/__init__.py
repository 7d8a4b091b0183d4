"""Images and texts as vectors in one joint space, with regions of images and their boxes.

Start at `Encoder` (`encoder.py`): it puts two towers (`towers.py`, made by `open_clip/` or `starter/`) and, where there
is one, a grounding decoder (`decoder.py`, the paper's) behind one interface. Nothing here knows categories, memories or
scores, nor how weights are trained.
"""

from recognizer.encoder.encoder import Encoder as Encoder
from recognizer.encoder.errors import EncoderError as EncoderError
from recognizer.encoder.errors import EncoderUnavailable as EncoderUnavailable
from recognizer.encoder.features import Frame as Frame
from recognizer.encoder.features import ImageFeatures as ImageFeatures
from recognizer.encoder.windows import WindowSettings as WindowSettings
