"""Numbers that check themselves (cards, bank accounts), and how people are reached."""

from __future__ import annotations

import re
from collections.abc import Iterator

_CARD = re.compile(
    r"(?<![\w.,+/=-])(?:\d{14,16}|\d{4}([ -])\d{4}\1\d{4}\1\d{4}|\d{4}([ -])\d{6}\2\d{4,5})(?![\w/=-]|[.,]\d)"
)
_CARD_ISSUERS = re.compile(
    r"(?:4\d{15}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|6(?:011|4[4-9]\d|5\d\d)\d{12}|62\d{14}"
    r"|35(?:2[89]|[3-8]\d)\d{12}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11})\Z"
)

_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])")
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}

_MAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,24}(?![A-Za-z0-9])"
)
_PHONE = re.compile(
    r"(?<![\w.+/-])(?:\+\d{1,3}(?:[ .()-]{0,2}\d){6,13}|\(\d{3}\)[ ]?\d{3}[ .-]\d{4}|\d{3}[.-]\d{3}[.-]\d{4})"
    r"(?![\w/]|[.-]\d)"
)


def account_numbers(text: str) -> Iterator[tuple[str, int, int]]:
    """The kind and place of card numbers and IBANs whose check digits are right."""
    if sum(map(text.count, "0123456789")) < 12:
        return
    for match in _CARD.finditer(text):
        digits = re.sub(r"[ -]", "", match[0])
        if _CARD_ISSUERS.match(digits) and _luhn(digits):
            yield "card number", *match.span()
    for match in _IBAN.finditer(text):
        length = _iban_length(match[0])
        if length:
            yield "IBAN", match.start(), match.start() + length


def contacts(text: str) -> Iterator[tuple[str, int, int]]:
    """The kind and place of e-mail addresses and telephone numbers."""
    if "@" in text:
        for match in _MAIL.finditer(text):
            yield "e-mail address", *match.span()
    if sum(map(text.count, "0123456789")) >= 7:
        for match in _PHONE.finditer(text):
            yield "phone number", *match.span()


def _luhn(digits: str) -> bool:
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(number - 9 if number > 9 else number for number in doubled) % 10 == 0


def _iban_length(found: str) -> int:
    """Characters of the number at the beginning of what was found, spaces among them; 0 where it is none."""
    wanted, length = _IBAN_LENGTHS.get(found[:2], 0), 0
    letters: list[str] = []
    for character in found:
        if len(letters) == wanted:
            break
        length += 1
        if character != " ":
            letters.append(character)
    if not wanted or len(letters) < wanted or found[length : length + 1].isalnum():
        return 0
    moved = "".join(letters[4:] + letters[:4])
    number = "".join(str(int(character, 36)) for character in moved)
    return length if int(number) % 97 == 1 else 0
