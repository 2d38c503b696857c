"""Credentials that are known by how they begin, and those that are known by looking like chance.

Every repetition here is bounded and every pattern begins with fixed characters, so that no text, however it
was made, is looked at more than a few hundred times a character.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

_WORD = "[A-Za-z0-9]"
_FREE = "[A-Za-z0-9_-]"

KNOWN: tuple[tuple[str, str], ...] = (
    ("Anthropic key", rf"sk-ant-[a-z0-9]{{2,12}}-{_FREE}{{20,200}}"),
    ("Stripe key", rf"(?:sk|rk)_(?:live|test)_{_WORD}{{16,200}}"),
    ("Stripe webhook secret", rf"whsec_{_WORD}{{24,100}}"),
    ("OpenAI key", rf"sk-(?:proj|svcacct|admin|None)-{_FREE}{{20,200}}"),
    ("API key", rf"sk-(?:or-v1-)?{_WORD}{{32,96}}"),
    ("AWS access key", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}(?![A-Za-z0-9])"),
    ("GitHub token", rf"gh[pousr]_{_WORD}{{30,255}}"),
    ("GitHub token", rf"github_pat_{_WORD}{{20,30}}_{_WORD}{{40,80}}"),
    ("GitLab token", rf"gl(?:pat|ptt|rt|dt|cbt|imt|agent|soat|ft)-{_FREE}{{20,100}}"),
    ("Slack token", rf"xox[abeoprs]-(?:{_WORD}{{1,60}}-){{0,6}}{_WORD}{{10,100}}"),
    ("Slack token", rf"xapp-\d-{_WORD}{{6,20}}-\d{{6,20}}-{_WORD}{{30,100}}"),
    (
        "Slack webhook",
        rf"hooks\.slack\.com/(?:services|workflows)/T{_WORD}{{6,14}}/[A-Z]{_WORD}{{6,14}}/{_WORD}{{16,40}}",
    ),
    ("Google API key", rf"AIza{_FREE}{{35}}(?!{_FREE})"),
    ("Google token", rf"(?:ya29\.{_FREE}{{20,400}}|GOCSPX-{_FREE}{{28}}(?!{_FREE}))"),
    ("Hugging Face token", r"(?:hf|api_org)_[A-Za-z]{30,60}"),
    ("npm token", rf"npm_{_WORD}{{36}}(?!{_WORD})"),
    ("PyPI token", rf"pypi-AgEIcHlwaS5vcmc{_FREE}{{40,400}}"),
    ("Docker token", rf"dckr_(?:pat|oat)_{_FREE}{{20,60}}"),
    ("SendGrid key", rf"SG\.{_FREE}{{16,32}}\.{_FREE}{{30,64}}"),
    ("Twilio key", r"SK[0-9a-f]{32}(?![A-Za-z0-9])"),
    ("Mailgun key", r"key-[0-9a-f]{32}(?![A-Za-z0-9])"),
    ("Telegram bot token", rf"\d{{8,10}}:AA{_FREE}{{33}}(?!{_FREE})"),
    ("Discord bot token", rf"[MNO]{_FREE}{{23,27}}\.{_FREE}{{6}}\.{_FREE}{{27,45}}"),
    ("DigitalOcean token", r"do[opr]_v1_[0-9a-f]{64}"),
    ("Shopify token", r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"),
    ("Square token", rf"sq0(?:atp|csp)-{_FREE}{{22,60}}"),
    ("Databricks token", r"dapi[0-9a-f]{32}(?![0-9a-f])"),
    ("LangSmith key", r"ls(?:v2_(?:pt|sk)|__)_[0-9a-f]{32}(?:_[0-9a-f]{6,20})?"),
    ("Groq key", rf"gsk_{_WORD}{{40,80}}"),
    ("xAI key", rf"xai-{_WORD}{{40,120}}"),
    ("Replicate token", rf"r8_{_WORD}{{30,60}}"),
    ("Tavily key", rf"tvly-(?:dev-|prod-)?{_FREE}{{20,80}}"),
    ("Linear key", rf"lin_(?:api|oauth)_{_WORD}{{32,80}}"),
    ("Notion token", rf"ntn_{_WORD}{{40,60}}"),
    ("Atlassian token", rf"AT(?:ATT3|CTT3|BB){_FREE}{{24,250}}"),
    ("Airtable token", rf"pat{_WORD}{{14}}\.[0-9a-f]{{64}}"),
    ("Figma token", rf"fig[dou]_{_FREE}{{30,80}}"),
    ("Sentry token", rf"sntry[su]_{_WORD}{{40,300}}"),
    ("Postman key", r"PMAK-[0-9a-f]{24}-[0-9a-f]{34}"),
    ("New Relic key", r"NRAK-[A-Z0-9]{27}"),
    ("Pulumi token", r"pul-[0-9a-f]{40}"),
    ("Supabase token", r"sbp_[0-9a-f]{40}"),
    ("Vault token", rf"hv[sbr]\.{_FREE}{{24,300}}"),
    ("Doppler token", rf"dp\.(?:pt|st|ct|sa)\.{_FREE}{{40,80}}"),
    ("Terraform token", rf"{_WORD}{{14}}\.atlasv1\.{_FREE}{{40,100}}"),
    ("Azure storage key", r"AccountKey=[A-Za-z0-9+/]{86}=="),
    ("age key", r"AGE-SECRET-KEY-1[A-Z0-9]{58}"),
    ("JWT", rf"eyJ{_FREE}{{10,2000}}\.eyJ{_FREE}{{5,4000}}\.{_FREE}{{10,2000}}"),
)
"""What a credential is called, and its pattern; the first one that fits names it."""

_RUN = re.compile(r"\S{16,}+")
"""No credential of these is shorter, and few words are as long: nothing else is looked at closely."""

_KNOWN = re.compile(
    r"(?<![A-Za-z0-9])(?:" + "|".join(f"(?P<k{place}>{pattern})" for place, (_, pattern) in enumerate(KNOWN)) + ")"
)
_NAMES = {f"k{place}": kind for place, (kind, _) in enumerate(KNOWN)}

_CHANCE = re.compile(r"(?<![A-Za-z0-9+/=_.:@%#?&$-])[A-Za-z0-9+/_-]{32,512}={0,2}(?![A-Za-z0-9+/=_.:@%#?&$-])")
_DIGESTS = ("sha1-", "sha256-", "sha384-", "sha512-")
_HEX_OR_UUID = re.compile(r"[0-9a-fA-F-]+\Z")

RANDOM = "random token"
"""What a credential is called that only looks like chance."""

SWITCHES = 0.45
"""Neighbouring characters of different classes (small, capital, digit, other) a character: chance has 0.6, names
of programs, which join words, have a third of that."""

ENTROPY = 3.9
"""Bits a character; 32 characters by chance have 4.4, words that are joined 3.6."""


def known_tokens(text: str) -> Iterator[tuple[str, int, int]]:
    """The kind and place of each credential that its form gives away, in order."""
    for run in _RUN.finditer(text):
        start, end = run.span()
        found = False
        for match in _KNOWN.finditer(text, start, end):
            kind = _NAMES[match.lastgroup or ""]
            if kind == "JWT" and not _is_jwt(match[0]):
                continue
            found = True
            yield kind, match.start(), match.end()
        if not found and end - start >= 32 and "://" not in text[start:end]:
            for match in _CHANCE.finditer(text, start, end):
                if not match[0].startswith(_DIGESTS) and looks_random(match[0]):
                    yield RANDOM, match.start(), match.end()


def looks_random(text: str) -> bool:
    """Whether a text without spaces was more likely drawn by chance than written."""
    core = text.rstrip("=")
    if _HEX_OR_UUID.match(core):  # a digest, a commit or an id: it names something, and opens nothing
        return False
    classes = [_class_of(character) for character in core]
    if len(set(classes) & {0, 1, 2}) < 3:
        return False
    switches = sum(one != other for one, other in pairwise(classes))
    return switches >= SWITCHES * len(core) and entropy(core) >= ENTROPY


def entropy(text: str) -> float:
    """Shannon's entropy of its characters, in bits a character."""
    total = len(text)
    return -sum(count / total * math.log2(count / total) for count in Counter(text).values())


def _class_of(character: str) -> int:
    if character.islower():
        return 0
    if character.isupper():
        return 1
    return 2 if character.isdigit() else 3


def _is_jwt(text: str) -> bool:
    header = text.split(".", 1)[0]
    try:
        decoded = base64.urlsafe_b64decode(header + "=" * (-len(header) % 4))
    except (binascii.Error, ValueError):
        return False
    return decoded.startswith(b"{") and b'"alg"' in decoded
