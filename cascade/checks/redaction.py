"""Personal data in texts, found and blanked out."""

from __future__ import annotations

import re

_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})*\.[^\W\d_]{2,24}\b")
# What cards and telephones have in common; looked for first, since most texts have none.
LONG_NUMBER = re.compile(r"\d[\d ./()-]{6,}\d")
_CARD = re.compile(
    r"(?<![\w.+-])(?:[2-6]\d{12,18}|[2-6]\d{3}([ -])\d{4}\1\d{4}\1\d{1,7}|3\d{3}([ -])\d{6}\2\d{5})(?![\w-])"
)
_PHONE = re.compile(
    r"(?<![\w.+-])(?:"
    r"\+\d{1,3}(?:[ ./()-]{0,2}\d){7,12}"
    r"|(?:1[-. ])?(?:\(\d{3}\) ?|\d{3}([-. ]))\d{3}(?(1)\1|[-. ])\d{4}"
    r"|\(?0[1-9]\d{1,3}\)?[ /-]\d{3,4}[ -]?\d{3,5}"
    r")(?![\w-])"
)


def has_email(text: str) -> bool:
    return _EMAIL.search(text) is not None


def has_card(text: str) -> bool:
    return any(_passes_luhn(re.sub(r"\D", "", found[0])) for found in _CARD.finditer(text))


def has_phone(text: str) -> bool:
    return _PHONE.search(text) is not None


def _passes_luhn(digits: str) -> bool:
    """Whether the last digit checks the others (ISO/IEC 7812-1, annex B)."""
    doubled = [sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(int(digit) for digit in digits[-1::-2])) % 10 == 0


def blanked(text: str) -> str:
    for pattern in (_EMAIL, _CARD, _PHONE):
        text = pattern.sub("***", text)
    return text
