"""LocalModel: a chat model made of rules, so that the demo and the examples need no key and no network.

It behaves as a model does: it reads the messages, calls the tools it was given, and writes its
answer from what they returned. What it cannot do is understand; it knows a few kinds of sentences.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from memory_plugin.demo.wording import about_the_user, keywords, sentences, to_the_user

_ORDER = re.compile(r"\b[A-Z]{1,3}-\d{2,}\b")
_AMOUNT = re.compile(r"(\d+(?:[.,]\d{1,2})?)\s*(?:EUR\b|€|euros?\b)|(?:EUR|€)\s*(\d+(?:[.,]\d{1,2})?)", re.IGNORECASE)
_ASKS = re.compile(
    r"\?\s*$|^(?:tell|show) me\b|^(?:who|what|which|where|when|why|how|do|does|did|is|are|can|could)\b[^.!]*$",
    re.IGNORECASE,
)
_REFUND = re.compile(r"\brefund\b|\bmoney back\b", re.IGNORECASE)
_ORDER_TALK = re.compile(r"\b(?:order|parcel|package|delivery|delivered|shipped)\b", re.IGNORECASE)
_FIRST_PERSON = re.compile(r"\b(?:I|I'm|I've|I'll|my|mine|me|we|our)\b", re.IGNORECASE)
_WISH = re.compile(r"\b(?:I (?:want|need|would like|wonder|ask)|I'd like|please|can you|could you)\b", re.IGNORECASE)
_FOUND = re.compile(r"^\d+\. \[([^\],]+), (.+?)\] (.+)$", re.MULTILINE)
_NOTHING_FOUND = "I find nothing about that in what I remember."


class Found(NamedTuple):
    """One line of what `recall` or `search_references` returned."""

    date: str
    source: str
    text: str


class LocalModel(BaseChatModel):
    """A deterministic chat model: the same messages and tools give the same answer.

    Of the tools it is given it uses those it knows by name: remember, recall, search_references,
    order_status and refund.
    """

    @property
    def _llm_type(self) -> str:
        return "memory-plugin-local"

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,  # noqa: ARG002 - the rules choose
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model with these tools to call."""
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,  # noqa: ARG002 - the signature is LangChain's
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> ChatResult:
        names = frozenset(tool["function"]["name"] for tool in kwargs.get("tools", ()))
        return ChatResult(generations=[ChatGeneration(message=reply(messages, names))])


def reply(messages: Sequence[BaseMessage], tools: frozenset[str]) -> AIMessage:
    """The next message: calls of tools for what the person said last, or the answer from their results."""
    last = max((place for place, each in enumerate(messages) if isinstance(each, HumanMessage)), default=None)
    if last is None:
        return AIMessage("How can I help you?")
    said = messages[last].text
    results = [each for each in messages[last + 1 :] if isinstance(each, ToolMessage)]
    if not results:
        calls = _calls_for(said, messages[:last], tools)
        if calls:
            return AIMessage("", tool_calls=_numbered(calls, len(messages)))
        return AIMessage(_small_talk(said, tools))
    asked = [call for each in messages[last + 1 :] if isinstance(each, AIMessage) for call in each.tool_calls]
    answered = {result.tool_call_id: result for result in results}
    parts: list[str] = []
    for call in asked:
        result = answered.get(str(call["id"]))
        if result is None or (call["name"] == "remember" and result.status != "error"):
            continue  # what was remembered is said in one sentence
        part = _answer(call, result, said)
        if part is None and call["name"] == "recall" and _may_look_up(asked, tools):
            query = call["args"]["query"]
            again = [ToolCall(name="search_references", args={"query": query}, id=None)]
            return AIMessage("", tool_calls=_numbered(again, len(messages)))
        parts.append(part if part is not None else _NOTHING_FOUND)
    noted = _noted(asked, answered)
    return AIMessage(" ".join(dict.fromkeys([noted, *parts] if noted else parts)))


# -- which tools to call


def _calls_for(said: str, before: Sequence[BaseMessage], tools: frozenset[str]) -> list[ToolCall]:
    calls: list[ToolCall] = []
    for sentence in sentences(said):
        call = _call_for(sentence, said, before, tools)
        if call is not None and call not in calls:
            calls.append(call)
    return calls


def _call_for(sentence: str, said: str, before: Sequence[BaseMessage], tools: frozenset[str]) -> ToolCall | None:
    order = _order_of(said, before)
    asks = bool(_ASKS.search(sentence))
    amount = _AMOUNT.search(sentence)
    if _REFUND.search(sentence) and amount and order and "refund" in tools:
        number = float((amount[1] or amount[2]).replace(",", "."))
        reason = next((each for each in sentences(said) if each != sentence), sentence)
        return _call("refund", order_id=order, amount=number, reason=reason)
    if asks and order and "order_status" in tools and (_ORDER.search(sentence) or _ORDER_TALK.search(sentence)):
        return _call("order_status", order_id=order)
    if asks:
        ways = ("recall", "search_references") if _FIRST_PERSON.search(sentence) else ("search_references", "recall")
        name = next((each for each in ways if each in tools), None)
        return _call(name, query=sentence) if name and keywords(sentence) else None
    if "remember" in tools and _FIRST_PERSON.search(sentence) and not _WISH.search(sentence):
        return _call("remember", content=about_the_user(sentence))
    return None


def _order_of(said: str, before: Sequence[BaseMessage]) -> str | None:
    """The order that is spoken of: named now, or the last one named before."""
    for text in (said, *(message.text for message in reversed(before))):
        found = _ORDER.findall(text)
        if found:
            return str(found[-1])
    return None


def _call(name: str, **args: Any) -> ToolCall:
    return ToolCall(name=name, args=args, id=None)


def _numbered(calls: Sequence[ToolCall], place: int) -> list[ToolCall]:
    """The calls with ids that are unique in the conversation and the same each time."""
    return [
        ToolCall(name=call["name"], args=call["args"], id=f"call_{place}_{number}") for number, call in enumerate(calls)
    ]


def _may_look_up(asked: Sequence[ToolCall], tools: frozenset[str]) -> bool:
    return "search_references" in tools and all(call["name"] != "search_references" for call in asked)


# -- what to answer


def _answer(call: ToolCall, result: ToolMessage, said: str) -> str | None:
    """What one result says; None when it holds no answer."""
    text = result.text
    if result.status == "error":
        return f"That did not work: {text}"
    match call["name"]:
        case "recall":
            found = best(text, call["args"]["query"], said)
            return None if found is None else f"{to_the_user(about_the_user(found.text))} ({_where(found)})"
        case "search_references":
            found = best(text, call["args"]["query"], said)
            return None if found is None else f"{found.text} [{found.source}]"
        case "order_status":
            return _of_json(text, _order_sentence)
        case "refund":
            return _of_json(text, _refund_sentence)
    return text


def best(results: str, query: str, said: str) -> Found | None:
    """Of all sentences a search returned the one that shares most words with the query, facts before talk.

    Questions answer nothing, nor does what was only just said, nor what the model itself once said.
    """
    wanted = keywords(query)
    lines = [Found(*line) for line in _FOUND.findall(results)]
    found = [
        line._replace(text=sentence)
        for line in lines
        if line.source != "ai"
        for sentence in sentences(line.text)
        if not sentence.endswith("?") and sentence not in said
    ]
    ranked = sorted(found, key=lambda line: (-len(wanted & keywords(line.text)), line.source != "memory"))
    return ranked[0] if ranked and wanted & keywords(ranked[0].text) else None


def _noted(asked: Sequence[ToolCall], answered: dict[str, ToolMessage]) -> str:
    """What was remembered, said back to the person."""
    facts = [
        to_the_user(call["args"]["content"])
        for call in asked
        if call["name"] == "remember" and str(call["id"]) in answered and answered[str(call["id"])].status != "error"
    ]
    return f"Noted: {'; '.join(_lower(fact).rstrip('.') for fact in facts)}." if facts else ""


def _where(found: Found) -> str:
    return f"remembered on {found.date}" if found.source == "memory" else f"said on {found.date}"


def _of_json(text: str, sentence: Callable[[dict[str, Any]], str]) -> str:
    """A sentence about a JSON object; the text itself where it is none."""
    try:
        return sentence(json.loads(text))
    except (ValueError, KeyError, TypeError):
        return text


def _order_sentence(order: dict[str, Any]) -> str:
    return f"Order {order['order_id']} ({order['items']}, {order['total']}): {order['status']}."


def _refund_sentence(refund: dict[str, Any]) -> str:
    what = f"The refund of {refund['amount']:.2f} {refund['currency']} for order {refund['order_id']}"
    if refund["status"] == "approved":
        return f"{what} was approved by {refund['by']} and is on its way."
    return f"{what} was declined by {refund['by']}."


def _small_talk(said: str, tools: frozenset[str]) -> str:
    if _REFUND.search(said) and "refund" in tools:
        return "Which order is it, and how much should be refunded?"
    return "I understand. What can I do for you?"


def _lower(text: str) -> str:
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]
