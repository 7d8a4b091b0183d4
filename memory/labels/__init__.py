"""Label files in any format to categories: `read_labels` in `read` is the way in; nothing here knows of vectors."""

from memory.labels.read import read_labels as read_labels
