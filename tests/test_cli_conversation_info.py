"""The commands about turns, tools, feedback, shares, branches and merges."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage

from memory_plugin import Memory
from memory_plugin.cli import main


def test_the_commands_about_conversations(
    database_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_DATABASE_URL", database_url)
    monkeypatch.setenv("MEMORY_EMBEDDINGS", "none")
    monkeypatch.setenv("COLUMNS", "200")
    call = {"name": "pay", "args": {"order": 7}, "id": "c"}
    with Memory.open(database_url, embeddings=False) as memory:
        failed = ToolMessage("card refused", tool_call_id="c", status="error")
        for thread in ("one", "two"):
            memory.conversations.append(
                thread, ["Pay order 7", AIMessage("", tool_calls=[call]), failed, AIMessage("I could not.")]
            )
        memory.conversations.append("two", ["And a refund?", AIMessage("Done.")])

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["conversations", *arguments])
        printed = capsys.readouterr()
        assert not ended.value.code, printed.err
        return printed.out

    def document(*arguments: str) -> Any:
        with pytest.raises(SystemExit):
            main(["--json", "conversations", *arguments])
        return json.loads(capsys.readouterr().out)

    assert "pay (1 failed)" in run("turns", "--failed", "--thread", "one")
    assert document("turns", "--tool", "pay", "--since", "1d")["turns"][0]["tool_errors"] == 1
    assert "card refused" in run("tools", "--failed", "--tool", "pay")
    assert document("tools")["calls"][0]["arguments"] == {"order": 7}
    assert "Done." in run("worked", "refund")
    assert run("rate", "two", "bad", "--turn", "2", "--by", "alice", "--comment", "no") == "two: bad\n"
    assert document("turns", "--outcome", "bad")["turns"][0]["comment"] == "no"
    assert document("worked", "refund")["turns"] == []
    share = run("share", "two", "--live").strip()
    assert document("unshare", share) == {"ended": True}
    assert run("unshare", share) == "There was no such share.\n"
    branch = run("branch", "two", "--upto", "1").strip()
    assert document("show", branch)["conversation"]["message_count"] == 1
    assert run("merge", "one", "two", "--yes") == "one: 6 messages\n"
