"""Fill a text with spaces, on the left."""


def pad(text, width, fill=" "):
    """Return `text`, at least `width` characters long."""
    if not text:
        return text
    missing = width - len(text)
    return fill * missing + text if missing > 0 else text
