"""Plain English for the local model: sentences, and from "I" to "the user" to "you" and back.

Rules for everyday sentences in the present tense; what they do not know is left as it was said.
"""

from __future__ import annotations

import re

_SENTENCE_END = re.compile(r"(?<!\bMr\.)(?<!\bMs\.)(?<!\bMrs\.)(?<!\bDr\.)(?<!\bNo\.)(?<!\bSt\.)(?<=[.!?])\s+")
_GREETING = re.compile(
    r"^(?:hello|hi|hey|good (?:morning|afternoon|evening)|thanks|thank you)\b[^,.!?]{0,20}[,.!]?\s*", re.IGNORECASE
)
_WORD = re.compile(r"[^\W_]+")

_MODAL = frozenset({"can", "could", "will", "would", "should", "must", "may", "might", "cannot", "can't", "won't"})
_ADVERB = frozenset(
    {"always", "also", "never", "usually", "often", "really", "sometimes", "only", "now", "just", "still"}
)
_IRREGULAR = {
    "am": "is",
    "have": "has",
    "do": "does",
    "don't": "doesn't",
    "haven't": "hasn't",
    "was": "was",
    "go": "goes",
}
_TO_YOU = {
    "is": "are",
    "has": "have",
    "does": "do",
    "doesn't": "don't",
    "hasn't": "haven't",
    "was": "were",
    "goes": "go",
}
_PAST = frozenset(
    {"had", "did", "went", "told", "said", "bought", "made", "got", "took", "came", "saw", "left", "sent"}
)

_I = re.compile(r"\bI(?:'(m|ve|ll|d)\b)?((?:\s+[a-z]+ly\b|\s+(?:" + "|".join(_ADVERB) + r")\b)*)(?:\s+([a-z']+))?")
_SHORT = {"m": "is", "ve": "has", "ll": "will", "d": "would"}
_ME = re.compile(r"\b(my|mine|me|myself)\b", re.IGNORECASE)
_USER = re.compile(
    r"\bthe user(?!')((?:\s+[a-z]+ly\b|\s+(?:" + "|".join(_ADVERB) + r")\b)*)(?:\s+([a-z']+))?", re.IGNORECASE
)
_USERS = re.compile(r"\bthe user's\b", re.IGNORECASE)

_COMMON = """
a about am an and any are as at be by can could did do does for from had has have how i i'm if in is it its
me my of on or our she so tell that the their them there they this to was we were what when where which
who whom whose why will with would you your user users know remember
"""
_STOP_WORDS = frozenset(_COMMON.split())


def sentences(text: str) -> list[str]:
    """The sentences of a text, without greetings and thanks before them."""
    said = (_GREETING.sub("", part.strip()) for part in _SENTENCE_END.split(text))
    return [part for part in said if part]


def about_the_user(sentence: str) -> str:
    """What a person says of themselves, as a sentence that stands alone: "I like tea." -> "The user likes tea."."""
    third = _I.sub(_third_person, sentence)
    third = _ME.sub(lambda found: {"me": "the user", "myself": "themself"}.get(found[1].lower(), "the user's"), third)
    return _capital(third)


def to_the_user(sentence: str) -> str:
    """The way back, said to the person: "The user likes tea." -> "You like tea."."""
    second = _USERS.sub("your", sentence)
    second = _USER.sub(_second_person, second)
    return _capital(second.replace("themself", "yourself"))


def keywords(text: str) -> set[str]:
    """The words that carry the meaning, cut down to a crude stem."""
    return {_stem(word) for word in _WORD.findall(text.lower().replace("'s", "")) if word not in _STOP_WORDS}


def _third_person(found: re.Match[str]) -> str:
    short, adverbs, verb = found[1], found[2], found[3]
    rest = f"{adverbs} {verb}" if verb else adverbs
    if short:
        return f"the user {_SHORT[short]}{rest}"
    return f"the user{adverbs} {_with_s(verb)}" if verb else f"the user{adverbs}"


def _with_s(verb: str) -> str:
    if verb in _IRREGULAR:
        return _IRREGULAR[verb]
    if verb in _MODAL or verb in _PAST or verb.endswith("ed"):
        return verb
    if verb.endswith("y") and verb[-2:-1] not in "aeiou":
        return f"{verb[:-1]}ies"
    return f"{verb}es" if verb.endswith(("s", "x", "z", "ch", "sh", "o")) else f"{verb}s"


def _second_person(found: re.Match[str]) -> str:
    adverbs, verb = found[1], found[2]
    return f"you{adverbs} {_without_s(verb)}" if verb else f"you{adverbs}"


def _without_s(verb: str) -> str:
    if verb in _TO_YOU:
        return _TO_YOU[verb]
    if verb in _MODAL or not verb.endswith("s") or verb.endswith("ss"):
        return verb
    if verb.endswith("ies"):
        return f"{verb[:-3]}y"
    return verb[:-2] if verb.endswith(("sses", "xes", "zes", "ches", "shes", "oes")) else verb[:-1]


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
