"""The documents the demo reads: this project's own, an API description, and a PDF made on the spot."""

from __future__ import annotations

import importlib.util
import textwrap
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent
DATA = _PACKAGE / "demo_data"

POLICY_TITLE = "Returns and refunds at Kiln & Co"
_POLICY = (
    (
        "Returns",
        (
            "Unused goods can be returned within 30 days of delivery; we pay the postage for stoneware that weighs "
            "more than two kilograms."
        ),
        (
            "Goods made to order, with a name or in a glaze of the customer's choice, cannot be returned unless they "
            "are faulty."
        ),
    ),
    (
        "Damage in transit",
        (
            "A customer who reports breakage within 14 days chooses between a replacement and a refund of the broken "
            "pieces. A photograph of the shards is enough; nothing has to be sent back."
        ),
        (
            "The assistant may refund up to 30 EUR on its own. Above that amount a member of staff decides, and the "
            "decision is kept with the conversation."
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the documents, and what the cited passage must be from and say."""

    text: str
    file: Path
    says: str


@dataclass(frozen=True, slots=True)
class Library:
    """The files to add, what cannot be read here and why, and what to ask."""

    files: Sequence[Path]
    left_out: Sequence[str]
    questions: Sequence[Question]


def gather(directory: Path) -> Library:
    """What there is to read; the PDF is written into `directory`."""
    policy = directory / "refund-policy.pdf"
    directory.mkdir(parents=True, exist_ok=True)
    policy.write_bytes(write_pdf(POLICY_TITLE, _POLICY))
    api = DATA / "payments.yaml"
    files, left_out = own_documents(), []
    questions = []
    for path, package, question in (
        (api, "yaml", Question("Which request refunds a charge in part?", api, "/refunds")),
        (policy, "pypdf", Question("How much may the assistant refund on its own after breakage?", policy, "30 EUR")),
    ):
        if importlib.util.find_spec(package) is None:
            left_out.append(f'{path.name}: needs {package}, run pip install "memory-plugin[documents]"')
            continue
        files.append(path)
        questions.append(question)
    return Library(files, left_out, questions)


def checkout() -> Path | None:
    """The root of this project's source tree, None when it was installed as a wheel."""
    root = _PACKAGE.parent
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    except (OSError, ValueError, KeyError):
        return None
    return root if project.get("name") == "memory-plugin" else None


def own_documents() -> list[Path]:
    """The README and the docs of a checkout, the bundled guide in any case."""
    root = checkout()
    if root is None:
        return [DATA / "guide.md"]
    found = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    return [*(path for path in found if path.is_file()), DATA / "guide.md"]


def write_pdf(title: str, pages: Sequence[Sequence[str]]) -> bytes:
    """A plain PDF: each page a heading and paragraphs, in Helvetica, always the same bytes.

    Characters outside of Windows-1252 become question marks.
    """
    count = len(pages)
    kids = " ".join(f"{5 + 2 * number} 0 R" for number in range(count))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {count} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Title " + _pdf_string(title) + b" >>",
    ]
    for number, (heading, *paragraphs) in enumerate(pages):
        content = _pdf_page(heading, paragraphs)
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> "
            + f"/Contents {6 + 2 * number} 0 R >>".encode()
        )
        objects.append(f"<< /Length {len(content)} >>\nstream\n".encode() + content + b"\nendstream")
    written = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(written))
        written += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    start = len(written)
    written += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    written += b"".join(f"{offset:010} 00000 n \n".encode() for offset in offsets)
    written += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R /Info 4 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(written)


def _pdf_page(heading: str, paragraphs: Sequence[str]) -> bytes:
    """The drawing commands of one page; a line has room for about 85 characters."""
    lines = [b"BT /F1 16 Tf 60 770 Td " + _pdf_string(heading) + b" Tj", b"/F1 11 Tf 15 TL 0 -15 Td"]
    for paragraph in paragraphs:
        lines.append(b"T*")
        lines.extend(_pdf_string(line) + b" Tj T*" for line in textwrap.wrap(paragraph, 85))
    return b"\n".join([*lines, b"ET"])


def _pdf_string(text: str) -> bytes:
    escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return b"(" + escaped.encode("cp1252", "replace") + b")"
