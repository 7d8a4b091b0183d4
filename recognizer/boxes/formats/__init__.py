"""Files of boxes, whatever wrote them: one reader per format, one form inside."""

from recognizer.boxes.formats.read import FORMATS, read_annotated, read_boxes, read_detected

__all__ = ["FORMATS", "read_annotated", "read_boxes", "read_detected"]
