"""Images and texts into one space: `Encoder.load`, and what it returns."""

from recognizer.encoder.encoder import Encoder as Encoder
from recognizer.encoder.errors import EncoderError as EncoderError
from recognizer.encoder.errors import EncoderUnavailable as EncoderUnavailable
from recognizer.encoder.features import Frame as Frame
from recognizer.encoder.features import ImageFeatures as ImageFeatures
from recognizer.encoder.starter.starter import StarterSettings as StarterSettings
from recognizer.encoder.windows import WindowSettings as WindowSettings
