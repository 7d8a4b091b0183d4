"""Label files in any format, read into categories.

Enter at `read_labels` in `read`; the other files hold one group of formats each. Nothing here knows of vectors.
"""

from memory.labels.read import Labels as Labels
from memory.labels.read import read_labels as read_labels
from memory.labels.text import IMAGE_SUFFIXES as IMAGE_SUFFIXES
