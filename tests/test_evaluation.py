"""Evaluation: files in both formats are read, rankings are scored, and recall is measured through the public functions."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from memory_plugin.core import MemoryCore
from memory_plugin.errors import InvalidInputError
from memory_plugin.evaluation import evaluate, load, markdown, score

LOCOMO: list[dict[str, Any]] = [
    {
        "sample_id": "talk",
        "conversation": {
            "speaker_a": "Ann",
            "speaker_b": "Ben",
            "session_1_date_time": "1:56 pm on 8 May, 2023",
            "session_1": [
                {"speaker": "Ann", "dia_id": "D1:1", "text": "Hey Ben! I adopted a walrus yesterday."},
                {"speaker": "Ben", "dia_id": "D1:2", "text": "Great!", "blip_caption": "a photo of a beach"},
            ],
            "session_2_date_time": "9:00 am on 1 June, 2023",
            "session_2": [{"speaker": "Ben", "dia_id": "D2:1", "text": "I moved to Lisbon for work."}],
        },
        "qa": [
            {"question": "What animal did Ann adopt?", "category": 4, "evidence": ["D1:1"]},
            {"question": "Where do they live?", "category": 1, "evidence": ["D1:2; D2:01", "D9:9"]},
            {"question": "Did Ben adopt one?", "category": 5, "evidence": ["D1:1"]},
            {"question": "Who knows?", "category": 3, "evidence": []},
        ],
    }
]
BEAM: list[dict[str, Any]] = [
    {
        "id": "chat",
        "messages": [
            {"id": 0, "role": "user", "time_anchor": "March-15-2024", "content": "My budget is 4,000 euros."},
            {"id": 1, "role": "assistant", "time_anchor": None, "content": "Noted: a budget of 4,000 euros."},
        ],
        "questions": [
            {"question": "What is my budget?", "category": "information_extraction", "source_ids": [0]},
            {"question": "What colour is my car?", "category": "abstention", "source_ids": []},
        ],
    }
]


def test_conversations_in_the_format_of_locomo(tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    file.write_text(json.dumps(LOCOMO), "utf-8")
    (dialogue,) = load(file)
    assert [(turn.id, turn.name, turn.role, turn.session) for turn in dialogue.turns] == [
        ("D1:1", "Ann", "user", 0),
        ("D1:2", "Ben", "assistant", 0),
        ("D2:1", "Ben", "assistant", 1),
    ]
    assert dialogue.turns[1].text == "Great! [photo: a photo of a beach]"
    assert dialogue.turns[0].at.isoformat() == "2023-05-08T13:56:00+00:00"
    assert [(set(each.gold), each.headline) for each in dialogue.questions] == [
        ({"D1:1"}, True),
        ({"D1:2", "D2:1"}, True),  # two ids in one text, one of them with a zero too many; one that does not exist
        ({"D1:1"}, False),
    ]


def test_chats_in_the_format_of_beam_compressed(tmp_path: Path) -> None:
    file = tmp_path / "chat.json.gz"
    file.write_bytes(gzip.compress(json.dumps(BEAM).encode()))
    (dialogue,) = load(file)
    assert [(turn.id, turn.role) for turn in dialogue.turns] == [("0", "user"), ("1", "assistant")]
    assert [each.text for each in dialogue.questions] == ["What is my budget?"]


@pytest.mark.parametrize("content", [b"{", b"[1]", b'[{"messages": [{}], "questions": []}]'])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file.json").write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"file\.json"):
        load(tmp_path / "file.json")


def test_scores_of_a_ranking() -> None:
    found = score(["x", "a", "x", "y", "z", "w", "v", "b"], {"a", "b", "c", "d"})
    assert (found.recall_5, found.recall_10, found.hit_10, found.all_10) == (0.25, 0.5, 1.0, 0.0)
    assert found.reciprocal_rank == 0.5
    assert score([], {"a"}).reciprocal_rank == 0


@pytest.mark.parametrize("threads", ["conversation", "session"])
async def test_recall_is_measured_beside_other_rankings(core: MemoryCore, tmp_path: Path, threads: Any) -> None:
    for name, content in (("talk.json", LOCOMO), ("chat.json", BEAM)):
        (tmp_path / name).write_text(json.dumps(content), "utf-8")
    dialogues = [*load(tmp_path / "talk.json"), *load(tmp_path / "chat.json")]
    talk, chat = await evaluate(core, dialogues, threads=threads, explain=True)
    own = talk.systems[0]
    assert own.overall.questions == 2
    assert own.categories["single-hop"].recall_5 == 1
    assert own.categories["adversarial"].questions == 1
    assert "PostgreSQL ts_rank_cd" in {system.name for system in talk.systems}
    assert chat.systems[0].overall.recall_5 == 1
    assert talk.explained[0]["hits"][0]["right"]
    assert "| memory-plugin recall |" in markdown([talk, chat])
