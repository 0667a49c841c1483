#!/usr/bin/env python3
"""What the documents name exists. Run by ci/docs.sh.

- A relative link in a page leads to a file, and its `#part` to a heading there.
- A path `docs/….md` in a source file is a file.
- A source file that ARCHITECTURE.md or docs/ name, with or without its folder, exists.
- The conformance list names each numbered test, and no other.
- The glossary's words of the code are in the code.
- docs/decisions/README.md lists each record.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SKIPPED = {"target", ".git"}
# A numbered test: of the conformance list (c001_, s047_, t177_, r251_), or a stress program (s1_, s24a_).
NUMBERED = re.compile(r"fn ([crst]\d{3}[a-z]?_\w+|s\d{1,2}[a-z]*_\w+)\(")

def walk(folder):
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink() and path.name not in SKIPPED:
            yield from walk(path)
        elif path.is_file():
            yield path


errors = []
files = list(walk(ROOT))
pages = {path: path.read_text() for path in files if path.suffix == ".md"}
sources = {path: path.read_text() for path in files if path.suffix in (".rs", ".sh", ".py", ".toml")}


def complain(path, what):
    errors.append(f"{path.relative_to(ROOT)}: {what}")


def anchors(text):
    """The `#part`s of a page, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def links(path, text):
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    for target in re.findall(r"\]\(([^()\s]+)\)", text):
        # An address elsewhere, or an item of a crate, which rustdoc checks.
        if re.match(r"[a-z]+:", target) or not re.search(r"[./#]", target):
            continue
        name, _, part = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists():
            complain(path, f"no such file: {target}")
        elif part and file in pages and part not in anchors(pages[file]):
            complain(path, f"no such heading: {target}")


def citations(path, text):
    for cited in re.findall(r"(?:[\w.-]+/)*\bdocs/[\w./-]+\.md\b", text):
        if not any((base / cited).exists() for base in (ROOT, path.parent)):
            complain(path, f"no such page: {cited}")


def named_sources(path, text):
    for name in set(re.findall(r"`([\w./-]+\.(?:rs|sh|py))`", text)):
        if not any(f"/{file.relative_to(ROOT)}".endswith(f"/{name}") for file in sources):
            complain(path, f"no such source: {name}")


def conformance(path):
    there = {name for file, text in sources.items() if file.suffix == ".rs" for name in NUMBERED.findall(text)}
    listed = set(re.findall(r"`([crst]\d+[a-z]*_\w+)`", pages[path]))
    for name in sorted(listed - there):
        complain(path, f"no such test: {name}")
    for name in sorted(there - listed):
        complain(path, f"a test that is not listed: {name}")


def glossary(path):
    code = "\n".join(text for file, text in sources.items() if file.suffix == ".rs")
    for row in re.findall(r"^\| .*$", pages[path], re.M):
        for word in re.findall(r"`(\w+)`", row.split("|")[3]):
            if not re.search(rf"\b{word}\b", code):
                complain(path, f"not in the code: {word}")


def main():
    for path, text in pages.items():
        links(path, text)
        if path.parts[-1] == "ARCHITECTURE.md" or ROOT / "docs" in path.parents:
            named_sources(path, text)
    for path, text in sources.items():
        citations(path, text)
    conformance(ROOT / "docs/conformance.md")
    glossary(ROOT / "docs/glossary.md")
    index = ROOT / "docs/decisions/README.md"
    for record in sorted(index.parent.glob("[0-9]*.md")):
        if f"({record.name})" not in pages[index]:
            complain(index, f"does not list {record.name}")
    if errors:
        sys.exit("\n".join(errors))
    print(f"{len(pages)} pages: links, sources, tests and words exist")


if __name__ == "__main__":
    main()
