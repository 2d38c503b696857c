"""A chat backend that knows its users: FastAPI, the memory of each user, and a history for each chat.

    memory-plugin tokens create --user ada           # prints a token
    python examples/fastapi_chat.py                  # listens on http://127.0.0.1:8080, pages at /docs

    curl -X PUT http://127.0.0.1:8080/memory -H "Authorization: Bearer $TOKEN" --json '{"content": "Ada is a potter."}'
    curl http://127.0.0.1:8080/chats/first/messages -H "Authorization: Bearer $TOKEN" --json '{"text": "Hello!"}'

The token says who the user is; nothing in a request can name another one. What is kept about the user
goes before the model as a system message, and never into the history.

Without CHAT_MODEL the answers come from a script, which says what it was shown; CHAT_MODEL names a
model as LangChain's `init_chat_model` takes it, such as "anthropic:claude-haiku-4-5". The database is
the embedded PostgreSQL unless MEMORY_DATABASE_URL names another. Ctrl-C or SIGTERM ends it in order.

    pip install "memory-plugin[embedded,langchain]" fastapi
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, cast

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Path, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from langchain_core.language_models import BaseChatModel, SimpleChatModel
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage
from pydantic import BaseModel, Field

from memory_plugin import Memory
from memory_plugin.errors import DatabaseError, InvalidInputError

PROMPT = "You are a friendly assistant."
NEWEST = 40  # messages of the chat that the model sees


# -- the model


class ScriptedModel(SimpleChatModel):
    """Answers with what it was shown, so that the program can be tried without a key."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _call(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> str:  # noqa: ARG002 - LangChain's
        known = re.search(r"User Memory: (.*?)\s*</", messages[0].text, re.DOTALL)
        said = sum(isinstance(message, HumanMessage) for message in messages)
        about = f"I know this about you: {known[1]}" if known else "I know nothing about you yet."
        return f"{about} You have said {said} thing(s) in this chat."


def make_model() -> BaseChatModel:
    """The model that CHAT_MODEL names; the script where it names none."""
    if not (name := os.environ.get("CHAT_MODEL")):
        return ScriptedModel()
    from langchain.chat_models import init_chat_model

    return init_chat_model(name)


# -- what requests and answers look like


class Summary(BaseModel):
    """All that is kept about a user, in one text."""

    content: Annotated[str, Field(min_length=1, max_length=8_000)]


class Question(BaseModel):
    """What the user says."""

    text: Annotated[str, Field(min_length=1, max_length=32_000)]


class Line(BaseModel):
    """One message of a chat."""

    role: str
    text: str


# -- the application


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One open store for the life of the application."""
    async with Memory.open() as memory:
        app.state.memory, app.state.model = memory, make_model()
        yield


app = FastAPI(title="A chat that knows its users", lifespan=lifespan)


def store(request: Request) -> Memory:
    """The open store."""
    return cast("Memory", request.app.state.memory)


Store = Annotated[Memory, Depends(store)]
Credentials = Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]
# a slash cannot be in it, so no two users with their chats make the same thread
ChatId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


def user_who_may(scope: str) -> Callable[..., Awaitable[str]]:
    """A dependency that gives the user of the request's token, where the token has the scope."""

    async def user(memory: Store, credentials: Credentials) -> str:
        token = await memory.tokens.verify(credentials.credentials)
        if token is None or token.tenant != memory.tenant:
            raise HTTPException(401, "The token is unknown or over.", {"WWW-Authenticate": "Bearer"})
        if token.user_id is None or scope not in token.scopes:
            raise HTTPException(403, f"This needs a token of a user, with the scope {scope}.")
        return token.user_id

    return user


Reader = Annotated[str, Depends(user_who_may("read"))]
Writer = Annotated[str, Depends(user_who_may("write"))]


@app.get("/memory")
async def read_memory(memory: Store, user: Reader) -> Summary | None:
    """What is kept about the user."""
    found = await memory.user_memory.get(user)
    return None if found is None else Summary.model_construct(content=found.content)


@app.put("/memory")
async def replace_memory(memory: Store, user: Writer, summary: Summary) -> Summary:
    """Replace what is kept about the user; earlier versions stay in the store."""
    return Summary.model_construct(content=(await memory.user_memory.save(user, summary.content)).content)


@app.get("/chats/{chat_id}/messages")
async def read_chat(memory: Store, user: Reader, chat_id: ChatId) -> list[Line]:
    """The messages of one of the user's chats, oldest first; none where there is no such chat."""
    found = await memory.history(f"{user}/{chat_id}").aget_messages()
    return [Line(role=message.type, text=message.text) for message in found]


@app.post("/chats/{chat_id}/messages")
async def say(request: Request, memory: Store, user: Writer, chat_id: ChatId, question: Question) -> Line:
    """Answer the user; question and answer are kept together, or neither where the model fails."""
    history = memory.history(f"{user}/{chat_id}", limit=NEWEST, user_id=user)
    asked = HumanMessage(question.text)
    messages = [SystemMessage(PROMPT), *await history.aget_messages(), asked]
    context = memory.context(working_memory=None, recall=0)  # of all that it can load, the summary alone
    shown = await context.aprepare(messages, {"configurable": {"user_id": user}})
    answer = await request.app.state.model.ainvoke(shown)
    await history.aadd_messages([asked, answer])
    return Line(role=answer.type, text=answer.text)


@app.exception_handler(InvalidInputError)
async def refused(request: Request, error: InvalidInputError) -> JSONResponse:  # noqa: ARG001 - FastAPI's signature
    """What the store cannot take is the request's fault; its sentence says what to do."""
    return JSONResponse({"detail": str(error)}, 422)


@app.exception_handler(DatabaseError)
async def unavailable(request: Request, error: DatabaseError) -> JSONResponse:  # noqa: ARG001 - FastAPI's signature
    """A database that is away is no news for users; the log of the store has the reason."""
    return JSONResponse({"detail": "The memory is away for a moment: try again."}, 503)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8080)
