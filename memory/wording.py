"""Words of messages."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: "1 category", "2 categories".

    Args:
        number: of things.
        noun: in the singular.
        plural: None where the ending tells: -y after a consonant becomes -ies, s, x, ch and sh take -es, others -s.
    """
    if number == 1:
        return f"1 {noun}"
    if plural is None:
        if noun.endswith("y") and noun[-2:-1] not in "aeiou":
            plural = f"{noun[:-1]}ies"
        else:
            plural = noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")
    return f"{number} {plural}"
