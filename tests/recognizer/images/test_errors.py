from recognizer.images import ImageError


def test_reasons_are_one_clean_line():
    error = ImageError("E_DECODE", "<_io.BytesIO object at 0x7f80aa> /home/me/x.jpg \x1b[2J\n" + "y" * 999)
    assert error.reason.startswith("<_io.BytesIO object> (path) \\x1b[2J\\n")
    assert error.reason.isprintable()
    assert len(error.reason) <= 300
