r"""Whether a text reads like an instruction to an assistant rather than like something to remember.

Stored text comes back to a model later, and whoever can write a document, a web page or a message can
try to speak to that model. What is stored is never changed or refused for that: it is flagged when it
is indexed, before any search can find it, and shown as flagged.

The patterns are few and exact on purpose. They know how such texts are written (commands to ignore
instructions, another identity, the markup of prompts, text addressed to assistants, calls of the
memory's own tools, secrecy towards the user, giving secrets away, hidden characters), not what they
mean: a careful attacker gets past them, and a document about such attacks is flagged. A flag is a
hint, not a border; the border is that stored text is shown as data.

The database function `reads_like_instruction` has the same patterns, for the index: they keep to what both
kinds of regular expression have in common, and a change needs a migration. Most texts have none of the `TRIGGERS`
and cost no more than looking for those.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Final, Literal

Sign = Literal["override", "identity", "address", "tools", "secrecy", "disclosure", "markup", "hidden"]

_RULES: Final = (
    "(instructions?|prompts?|rules?|guidelines?|directives?|commands?|constraints?|restrictions?|polic(y|ies)"
    "|programming|training) "
)
_DROP: Final = " (ignore|disregard|override|bypass|discard|forget|(do not|don t|dont|stop) follow(ing)?) "
_AI: Final = "(ais?|llms?|assistants?|chatbots?|(large )?language models?|ai (models?|agents?|systems?)) "


def _any_of(*patterns: str) -> str:
    return "|".join(patterns)


_IN_WORDS: Final[dict[Sign, str]] = {
    "override": _any_of(
        f"{_DROP}((all|any|every|the|your|my|these|those|of|its) ){{0,4}}"
        "(previous|prior|preceding|earlier|above|existing|former|original|initial|system|safety|developer) "
        f"([a-z]{{1,12}} ){{0,2}}{_RULES}",
        f"{_DROP}(all )?(of )?your ([a-z]{{1,12}} )?{_RULES}",
        f"{_DROP}(everything|all|anything) ([a-z]{{1,8}} ){{0,2}}(above|before this|you (were|have been) told) ",
        " ignorier(e|en sie|t) (alle )?(die |deine |ihre )?(vorherigen|bisherigen|obigen|vorigen) "
        "(anweisung|instruktion|regel|befehl)",
        " ignor(a|e|ez|er|ar) (tod[ao]s |toutes )?(las |les |as |tes |tus |vos )?"
        "(instrucciones|instructions|instruções) (anteriores|previas|précédentes|antérieures|ci dessus) ",
        "(忽略|无视|無視|無视).{0,8}(指令|指示|说明|說明|提示|規則|规则)",
    ),
    "identity": _any_of(
        " you are (now|no longer) (an? )?([a-z]{1,15} ){0,3}"
        "(ai|assistant|chatbot|language model|dan|jailbroken|unrestricted|bound by) ",
        " (act|behave|respond|pretend) (as|to be|like) (if )?(you (are|were|have) )?"
        "(an? |the |no )?([a-z]{1,15} )?(unrestricted|uncensored|unfiltered|jailbroken|restrictions|dan) ",
        " (developer|dan|jailbreak|god) mode (is )?(now )?(enabled|activated|on) ",
        " from (now|this point|here) (on|onwards?|forward) you (are|ignore|obey|(will|must) (act|obey|ignore)) ",
    ),
    "address": _any_of(
        f" (attention|note|message|notice|memo) (to|for) ((the|any|all|every|other) )?([a-z]{{1,10}} )?{_AI}",
        f" {_AI}(reading|processing|parsing|summari[sz]ing|(that|who|which) reads?) (this|it) ",
        f" if you are (an? )?([a-z]{{1,10}} )?{_AI}",
        " when you read this (you must|call|send|reply|ignore|do|run|execute) ",
        f" {_AI}(must|shall|has to|have to) ((always|never|now|immediately|first) )?"
        "(obey|ignore|disclose|not (tell|mention|reveal)|forward|delete|comply) ",
    ),
    "tools": (
        " (call|invoke|use|run|execute|trigger) ((the|your|a|its) )?((tool|function|mcp) )?"
        "((update working memory|search references|read item|list conversations|read conversation|add reference) "
        "|(forget|remember|recall) (tool|function|with|on) )"
    ),
    "secrecy": (
        " (do not|don t|dont|never|without) (ever )?"
        "(tell|telling|inform|informing|notify|notifying|alert|alerting|mention|mentioning|reveal|revealing) "
        "([a-z]{1,12} ){0,4}(the|your) (user|human) "
    ),
    "disclosure": _any_of(
        " (send|forward|post|upload|e ?mail|transmit|leak|exfiltrate) ([a-z]{1,12} ){0,6}"
        "(passwords?|api keys?|secrets?|credentials|tokens?|system prompt|(chat|conversation) history"
        "|private keys?|memories) to ([a-z]{1,10} ){0,2}(https? |[a-z0-9 ]{1,40} (com|net|org|io|example|ru|cn) )",
        " (reveal|print|output|repeat|leak|disclose|show) ([a-z]{1,10} ){0,3}"
        "((system|hidden|initial) prompt|your ([a-z]{1,10} )?(instructions|prompt)) ",
    ),
}

_IN_TEXT: Final[dict[Sign, str]] = {
    "markup": _any_of(
        r"<\|(im_start|im_end|system|user|assistant|endoftext|start_header_id|eot_id)",
        r"\[/?(inst|system)\]",
        "<</?sys>>",
        "</?(system|important|system[-_ ]?(prompt|message|reminder|instructions?)|memory-data)>",
        r"(^|\n)[^a-z0-9\n]{0,6}(system|developer)[^a-z0-9\n]"
        r"(prompt|message|instructions?|override|notice)[^a-z0-9\n]{0,3}:",
        r"(^|\n)[^a-z0-9\n]{0,6}(new|updated|additional|important|real|actual)[^a-z0-9\n]instructions?"
        r"[^a-z0-9\n]{0,3}:",
    ),
}

PATTERNS: Final[dict[Sign, str]] = {**_IN_WORDS, **_IN_TEXT}
"""What each sign that can be read looks like, `markup` in the text itself and the others in its words."""

TRIGGERS: Final[tuple[str, ...]] = (
    *("ignor", "disregard", "override", "bypass", "discard", "forget", "not follow", "t follow", "stop follow"),
    *("忽略", "无视", "無視", "無视", "no longer", "are now", "restrict", "censored", "unfiltered", "jailbr", " mode"),
    *(" dan", "from now", "this point", "from here", "assistant", "language model", "chatbot", "llm", " ai ", "ais "),
    *("read this", "tool", "function", "working_memory", "references", "read_item", "_conversation", "_reference"),
    *("remember with", "recall with", "remember on", "recall on", "the user", "your user", "human"),
    *("prompt", "password", "api key", "secret", "credential", "token", "history", "private key", "memories"),
    *("instruction", "inst]", "system", "sys>", "important>", "<|", "memory-data"),
)
"""Parts of words of which each text with a sign has at least one."""

HIDDEN: Final = r"[\u202d\u202e\U000e0020-\U000e007f]"
"""Characters that nobody sees and a model reads: overridden direction, and tags outside of a flag."""

FLAG: Final = r"\U0001f3f4[\U000e0020-\U000e007f]+"
"""The flag of a region, the one honest use of tags."""

UNSEEN: Final = r"[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\U000e0000-\U000e007f]"
"""Characters of no width, which would split a word for a pattern but not for a reader."""

BETWEEN: Final = r"[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u00bf\u2000-\u206f\u3000-\u303f]+"
"""What stands between two words."""

_ASCII_LOWER: Final = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


@cache
def _compiled() -> tuple[dict[Sign, re.Pattern[str]], dict[Sign, re.Pattern[str]]]:
    def compiled(patterns: dict[Sign, str]) -> dict[Sign, re.Pattern[str]]:
        return {sign: re.compile(pattern, re.DOTALL) for sign, pattern in patterns.items()}

    return compiled(_IN_WORDS), compiled(_IN_TEXT)


def signs(text: str) -> tuple[Sign, ...]:
    """What about the text reads like an instruction to an assistant; nothing for ordinary text."""
    found: list[Sign] = []
    seen = text.translate(_ASCII_LOWER)
    if not text.isascii():
        seen = unicodedata.normalize("NFKC", re.sub(UNSEEN, "", text)).translate(_ASCII_LOWER)
    if any(trigger in seen for trigger in TRIGGERS):
        in_words, in_text = _compiled()
        words = f" {re.sub(BETWEEN, ' ', seen)} "
        found += [sign for sign, pattern in in_words.items() if pattern.search(words)]
        found += [sign for sign, pattern in in_text.items() if pattern.search(seen)]
    if not text.isascii() and re.search(HIDDEN, re.sub(FLAG, "", text)):
        found.append("hidden")
    return tuple(found)


def reads_like_instruction(text: str) -> bool:
    """Whether there is any sign."""
    return bool(signs(text))
