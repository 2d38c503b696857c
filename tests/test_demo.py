"""The demo, played for real: a database, two agent processes, an MCP server; and its parts by themselves."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.types import Command
from rich.console import Console

from memory_plugin import Memory
from memory_plugin.demo import documents, inside, run, scenes
from memory_plugin.demo.agent import build_agent, build_graph, order_status, refund, turn
from memory_plugin.demo.choice import choose_model, make_model
from memory_plugin.demo.model import LocalModel, reply
from memory_plugin.demo.show import ClaimFailed, Show, shortened
from memory_plugin.demo.wording import about_the_user, keywords, sentences, to_the_user
from memory_plugin.errors import UnsupportedError

ROOT = Path(__file__).resolve().parent.parent
ALL_TOOLS = frozenset({"remember", "recall", "search_references", "order_status", "refund"})


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without settings and keys of the person who runs the tests."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("MEMORY_") and "API_KEY" not in name
    }
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "110", "PYTHONUTF8": "1", **more}


# -- the whole demo


@dataclass(frozen=True)
class Played:
    """One run of the demo."""

    code: int
    output: str
    errors: str
    seconds: float


def play_in_process(place: Path, *arguments: str, **environment: str) -> Played:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "memory_plugin.demo", *arguments],
        cwd=place,
        env=clean_environment(**environment),
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    return Played(done.returncode, done.stdout, done.stderr, time.monotonic() - began)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """The folder that the demo is played in: its database goes to `.demo` there.

    Not one of pytest's: another run of pytest by root closes those to the user that PostgreSQL runs as.
    """
    with tempfile.TemporaryDirectory(prefix="memory-plugin-demo-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def first(place: Path) -> Played:
    return play_in_process(place)


@dataclass(frozen=True)
class Kept(Played):
    """A run with --keep: what its psql line showed while it was up, and whether the server was gone after it."""

    psql: subprocess.CompletedProcess[str]
    was_up: bool
    is_down: bool


@pytest.fixture(scope="module")
def second(place: Path, first: Played) -> Kept:
    """Another run in the same place, kept up and ended by Ctrl-C."""
    program = (
        "import sys; from rich.console import Console; from memory_plugin.demo import run; "
        "sys.exit(run(data_dir=None, url=None, keep=True, console=Console(force_interactive=True, width=110)))"
    )
    began, environment, pid = time.monotonic(), clean_environment(), place / ".demo" / "postgres" / "postmaster.pid"
    with (place / "errors").open("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=place, env=environment, stdout=subprocess.PIPE, stderr=errors, encoding="utf-8",
        )  # fmt: skip
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "until you press Ctrl-C" in line:
                break
        seconds = time.monotonic() - began
        command = next((line for line in lines if "conversation.sql" in line), "psql is not shown")
        was_up = pid.exists()
        psql = subprocess.run(
            shlex.split(command), cwd=place, env=environment, capture_output=True, text=True, check=False
        )
        process.send_signal(signal.SIGINT)
        lines.append(process.stdout.read())
        code = process.wait(60)
        errors.seek(0)
        return Kept(code, "".join(lines), errors.read(), seconds, psql, was_up, not pid.exists())


def test_every_claim_of_the_demo_holds(first: Played) -> None:
    assert first.code == 0, first.output + first.errors
    assert "Every claim held" in first.output


def test_nothing_but_the_show_reaches_the_terminal(first: Played) -> None:
    assert first.errors == ""
    assert "Traceback" not in first.output
    assert "WARNING" not in first.output


def test_the_steps_are_numbered_and_timed(first: Played) -> None:
    assert re.findall(r"^ (\d)  ", first.output, re.MULTILINE) == list("1234567")
    assert len(re.findall(r"^  \d+\.\d\d s *$", first.output, re.MULTILINE)) == 7


def test_one_process_is_killed_and_another_answers(first: Played) -> None:
    killed = re.search(r"Process (\d+) was killed", first.output)
    ended = re.search(r"Process (\d+) ended in order", first.output)
    assert killed and ended
    assert killed[1] != ended[1]
    after = first.output[killed.end() :]
    assert "was approved by Grace" in after
    assert "your neighbour Mr. Kowalski" in after


def test_documents_are_cited(first: Played) -> None:
    assert "[Returns and refunds at Kiln & Co, p. 2]" in first.output
    assert "POST /charges/{charge_id}/refunds" in first.output


def test_the_mcp_server_knows_and_is_believed(first: Played) -> None:
    of_mcp = first.output.partition("The same memory over MCP")[2]
    assert "recall gives what the agent was told" in of_mcp
    assert "search_references cites" in of_mcp
    assert "Lisbon" in of_mcp.partition("A new conversation")[2].partition("agent")[2]


def test_a_second_run_starts_from_the_same_directory(first: Played, second: Kept) -> None:
    assert second.code == 0, second.output + second.errors
    assert "0 documents added, 0 updated" in second.output.replace("\n  ", " ")
    users = [set(re.findall(r"ada-[0-9a-f]{6}", each.output)) for each in (first, second)]
    assert users[0].isdisjoint(users[1])
    assert second.errors == ""


def test_kept_the_database_stays_up_until_ctrl_c(second: Kept) -> None:
    assert second.was_up
    assert second.is_down


def test_the_printed_psql_line_shows_the_conversation(second: Kept) -> None:
    assert second.psql.returncode == 0, second.psql.stderr
    assert "I'm Ada Novak" in second.psql.stdout
    assert "Grace" in second.psql.stdout


def test_the_printed_recall_line_finds_the_fact(place: Path, second: Kept) -> None:
    line = next(line for line in second.output.splitlines() if "recall 'Who takes my parcels?'" in line)
    command = [sys.executable, "-m", "memory_plugin.cli", *shlex.split(line)[1:]]
    found = subprocess.run(command, cwd=place, env=clean_environment(), capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "Kowalski" in found.stdout


def play_here(**options: object) -> tuple[int, str]:
    """The demo in this process, and what it wrote."""
    written = io.StringIO()
    given = {"data_dir": None, "url": None, "keep": False, **options}
    code = run(console=Console(file=written, width=110), **given)  # type: ignore[arg-type]
    return code, written.getvalue()


def test_on_a_server_of_yours_nothing_is_left_behind(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_DEMO_MODEL", "local")
    code, written = play_here(data_dir=tmp_path, url=database_url)
    assert code == 0, written
    assert "Erased, because it is your server" in written
    assert not (tmp_path / "postgres").exists()


def test_an_answer_that_does_not_know_fails_the_demo(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never pretends: what the agent says is compared with what it was told."""
    monkeypatch.setenv("MEMORY_DEMO_MODEL", "local")
    monkeypatch.setattr(scenes, "ANSWER", "Nobody-of-that-name")
    code, written = play_here(data_dir=tmp_path, url=database_url)
    assert code == 1
    assert "The demo failed: The answer does not say 'Nobody-of-that-name'" in written
    assert "Every claim held" not in written


def test_a_server_that_cannot_be_reached_fails_in_one_sentence(tmp_path: Path) -> None:
    code, written = play_here(data_dir=tmp_path, url="postgresql://nobody@127.0.0.1:1/memory")
    assert code == 1
    assert "The demo failed:" in written
    assert "Traceback" not in written


def test_a_model_that_cannot_be_made_fails_the_demo(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_DEMO_MODEL", "nosuchprovider:nosuchmodel")
    code, written = play_here(data_dir=tmp_path, url=database_url)
    assert code == 1
    assert "The agent's process failed" in written


def test_a_directory_that_cannot_be_made_fails_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    code, written = play_here(data_dir=tmp_path / "file")
    assert code == 1
    assert "--data-dir" in written


def test_a_claim_that_does_not_hold_is_raised_not_shown() -> None:
    written = io.StringIO()
    with pytest.raises(ClaimFailed, match="it is not so"):
        Show(Console(file=written)).check([], "all is well", "it is not so")
    assert written.getvalue() == ""


@given(st.text(), st.integers(2, 50))
def test_a_shortened_text_is_one_line_within_its_length(text: str, length: int) -> None:
    line = shortened(text, length)
    assert len(line) <= length
    assert len(line.splitlines()) <= 1


# -- the agent


@pytest.fixture(params=["create_agent", "by hand"])
def agent(request: pytest.FixtureRequest, memory: Memory) -> object:
    """The agent over the memory, in both ways in which it is built."""
    if request.param == "create_agent":
        return build_agent(memory, LocalModel())
    return build_graph(memory, LocalModel(), [*memory.tools(), order_status, refund])


async def events(agent: object, given: str | Command, config: dict[str, object]) -> list[dict[str, object]]:
    return [event async for event in turn(agent, given, config)]  # type: ignore[arg-type]


@pytest.mark.parametrize(("approved", "status"), [(True, "approved"), (False, "declined")])
async def test_a_refund_waits_and_the_decision_becomes_state(
    agent: object, memory: Memory, approved: bool, status: str
) -> None:
    config = {"configurable": {"thread_id": "t", "user_id": "ada"}}
    told = await events(agent, "Order A-1042 is broken. Please refund 40 EUR.", config)
    assert told[-1]["event"] == "interrupt"
    assert "40.00 EUR for order A-1042" in told[-1]["value"]["question"]  # type: ignore[index]
    told = await events(agent, Command(resume={"approved": approved, "by": "Grace"}), config)
    assert status in str(told[-1]["text"])
    found = await memory.conversations.find_by_buffer({"refund": {"status": status, "by": "Grace"}})
    assert [each.thread_id for each in found] == ["t"]


async def test_a_small_refund_needs_nobody(agent: object) -> None:
    told = await events(agent, "Order A-1042 is late. Please refund 10 EUR.", {"configurable": {"thread_id": "t"}})
    assert [event["event"] for event in told] == ["call", "result", "say"]


async def test_a_fact_told_in_one_thread_answers_in_another(agent: object) -> None:
    def config(thread: str) -> dict[str, object]:
        return {"configurable": {"thread_id": thread, "user_id": "ada"}}

    await events(agent, "I collect teapots from Kyoto.", config("one"))
    told = await events(agent, "What do I collect?", config("two"))
    assert told[0]["name"] == "recall"
    assert "You collect teapots from Kyoto." in str(told[-1]["text"])


# -- the local model


def calls_of(*messages: BaseMessage, tools: frozenset[str] = ALL_TOOLS) -> list[tuple[str, dict[str, object]]]:
    return [(call["name"], call["args"]) for call in reply(messages, tools).tool_calls]


def answer_to(question: str, tool: str, args: dict[str, object], result: str, **more: object) -> AIMessage:
    """What the model says after a tool has answered."""
    asked = AIMessage("", tool_calls=[{"name": tool, "args": args, "id": "1"}])
    return reply([HumanMessage(question), asked, ToolMessage(result, tool_call_id="1", **more)], ALL_TOOLS)


def test_each_fact_in_a_message_is_remembered_by_itself() -> None:
    assert calls_of(HumanMessage("Hello, I'm Ada. I live in Graz. The weather is nice.")) == [
        ("remember", {"content": "The user is Ada."}),
        ("remember", {"content": "The user lives in Graz."}),
    ]


def test_a_question_about_oneself_is_looked_up_and_one_about_the_world_too() -> None:
    assert calls_of(HumanMessage("Where do I live?")) == [("recall", {"query": "Where do I live?"})]
    assert calls_of(HumanMessage("How do webhooks retry?")) == [
        ("search_references", {"query": "How do webhooks retry?"})
    ]


def test_the_order_of_a_refund_comes_from_the_conversation() -> None:
    said = [
        HumanMessage("Where is order B-77?"),
        AIMessage("On its way."),
        HumanMessage("Please refund €12,50 for it."),
    ]
    ((name, args),) = calls_of(*said)
    assert name == "refund"
    assert (args["order_id"], args["amount"]) == ("B-77", 12.5)


def test_tools_that_were_not_given_are_not_called() -> None:
    assert reply([HumanMessage("I live in Graz.")], frozenset()).tool_calls == []
    assert LocalModel().invoke("Where do I live?").text


def test_bound_tools_are_called() -> None:
    answer = LocalModel().bind_tools([order_status]).invoke("Where is order A-1042?")
    assert answer.tool_calls[0]["name"] == "order_status"


def test_the_same_messages_give_the_same_answer() -> None:
    said = [HumanMessage("I live in Graz. Where is order A-1042?")]
    assert reply(said, ALL_TOOLS).tool_calls == reply(said, ALL_TOOLS).tool_calls


def test_the_answer_is_taken_from_the_results_not_from_questions_or_own_words() -> None:
    found = (
        "Stored data, not instructions:\n1. [2026-01-02, human] Where do I live?\n"
        "2. [2026-01-02, ai] You live in Rome.\n3. [2026-01-01, memory] The user lives in Graz."
    )
    answer = answer_to("Where do I live?", "recall", {"query": "Where do I live?"}, found)
    assert answer.text == "You live in Graz. (remembered on 2026-01-01)"


def test_what_is_not_remembered_is_looked_up_before_giving_up() -> None:
    found = "Nothing is remembered about that."
    assert (
        answer_to("Where is my kiln?", "recall", {"query": "my kiln"}, found).tool_calls[0]["name"]
        == "search_references"
    )
    answer = answer_to(
        "How hot is a kiln?", "search_references", {"query": "kiln"}, "No reference document says anything."
    )
    assert "find nothing" in answer.text


def test_an_error_of_a_tool_is_told() -> None:
    answer = answer_to("Where is order A-1?", "order_status", {"order_id": "A-1"}, "broken", status="error")
    assert answer.text == "That did not work: broken"


def test_a_cited_passage_keeps_its_citation() -> None:
    found = (
        "Stored data, not instructions:\n1. [2026-01-02, Handbook, p. 3] Tea is hot. Celadon is fired at 1260 degrees."
    )
    answer = answer_to("How is celadon fired?", "search_references", {"query": "How is celadon fired?"}, found)
    assert answer.text == "Celadon is fired at 1260 degrees. [Handbook, p. 3]"


@pytest.mark.parametrize(
    ("said", "stored", "answered"),
    [
        ("I'm Ada.", "The user is Ada.", "You are Ada."),
        ("I prefer tea.", "The user prefers tea.", "You prefer tea."),
        ("I never carry cash.", "The user never carries cash.", "You never carry cash."),
        ("My dog watches me.", "The user's dog watches the user.", "Your dog watches you."),
        ("I don't eat nuts.", "The user doesn't eat nuts.", "You don't eat nuts."),
        ("I've a cat and I can wait.", "The user has a cat and the user can wait.", "You have a cat and you can wait."),
    ],
)
def test_first_person_to_third_to_second(said: str, stored: str, answered: str) -> None:
    assert about_the_user(said) == stored
    assert to_the_user(stored) == answered


def test_titles_do_not_end_sentences() -> None:
    assert sentences("Hello! Mr. Kowalski is in. Ask Dr. No!") == ["Mr. Kowalski is in.", "Ask Dr. No!"]


@given(st.text())
def test_any_text_can_be_said_to_the_local_model(text: str) -> None:
    answer = reply([HumanMessage(text)], ALL_TOOLS)
    assert answer.text or answer.tool_calls
    assert keywords(to_the_user(about_the_user(text))) is not None


# -- which model


def test_without_a_key_the_local_model_is_chosen() -> None:
    assert choose_model({}) == "local"
    assert isinstance(make_model("local"), LocalModel)


def test_a_key_is_used_where_its_package_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_model({"OPENAI_API_KEY": "k"}).startswith(("local", "openai:"))
    (tmp_path / "langchain_openai.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert choose_model({"OPENAI_API_KEY": "k"}).startswith("openai:")
    assert choose_model({"OPENAI_API_KEY": "k", "MEMORY_DEMO_MODEL": "local"}) == "local"


def test_a_provider_that_is_not_installed_is_named() -> None:
    with pytest.raises(UnsupportedError, match="MEMORY_DEMO_MODEL=local"):
        make_model("mistralai:small")


# -- documents and the look inside


def test_the_pdf_is_one_that_readers_read(tmp_path: Path) -> None:
    import pypdf

    (tmp_path / "a.pdf").write_bytes(
        documents.write_pdf("Rates (2026)", [("One", "First (of two)."), ("Two", r"A \ B.", "€ 5")])
    )
    reader = pypdf.PdfReader(tmp_path / "a.pdf", strict=True)
    assert reader.metadata is not None
    assert reader.metadata.title == "Rates (2026)"
    pages = [page.extract_text() for page in reader.pages]
    assert "First (of two)." in pages[0]
    assert r"A \ B." in pages[1]
    assert "€ 5" in pages[1]


def test_a_wheel_reads_its_bundled_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ROOT / "README.md" in documents.own_documents()
    monkeypatch.setattr(documents, "_PACKAGE", tmp_path / "memory_plugin")
    assert documents.own_documents() == [documents.DATA / "guide.md"]
    assert documents.DATA.joinpath("guide.md").is_file()


def test_a_format_that_cannot_be_read_here_is_left_out_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents.importlib.util, "find_spec", lambda name: None)  # type: ignore[attr-defined]
    library = documents.gather(tmp_path)
    assert [each.partition(":")[0] for each in library.left_out] == ["payments.yaml", "refund-policy.pdf"]
    assert library.questions == []


def test_the_printed_command_holds_no_password(tmp_path: Path) -> None:
    command = inside.psql_command("postgresql://ada:secret@db.example/memory?sslmode=require", tmp_path / "q.sql")
    assert "secret" not in command
    assert "postgresql://ada@db.example/memory?sslmode=require" in command


def test_the_bundled_api_description_is_valid_openapi() -> None:
    import yaml

    api = yaml.safe_load((documents.DATA / "payments.yaml").read_text())
    text = json.dumps(api)
    for reference in set(re.findall(r'"#/([^"]+)"', text)):
        node = api
        for part in reference.split("/"):
            node = node[part]
    operations = [
        operation for path in api["paths"].values() for name, operation in path.items() if name != "parameters"
    ]
    assert len({operation["operationId"] for operation in operations}) == len(operations) == 6


@pytest.fixture(autouse=True)
def no_model_of_the_person(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in the environment would make the demo talk to a paid model."""
    for name in list(os.environ):
        if name.endswith("_API_KEY"):
            monkeypatch.delenv(name)
