"""Draw the folders of clipdex and their imports, from the code, into docs/architecture.md.

python docs/diagram.py            writes the diagram
python docs/diagram.py --check    fails if the page has another one, or if two folders import each other
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

DOCS = Path(__file__).resolve().parent
LIBRARY = DOCS.parent / "include" / "clipdex"
PAGE = DOCS / "architecture.md"
BEGIN, END = "<!-- made by docs/diagram.py -->\n", "<!-- end -->\n"
EVERYWHERE = {"config", "errors", "sanitize", "metrics"}  # every folder imports these; drawn, they hide the rest


def imports() -> dict[str, set[str]]:
    """Return, for each folder or top-level module, what it imports; imports for type checkers are left out."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(LIBRARY.rglob("*.py")):
        unit = _unit(path.relative_to(LIBRARY).with_suffix("").parts)
        if unit:
            found[unit] |= {one for one in _imported(path) if one not in ("", unit)}
    return dict(found)


def mermaid(graph: dict[str, set[str]]) -> str:
    lines = ["```mermaid", "flowchart TD"]
    for unit in TopologicalSorter(graph).static_order():
        lines += [f"  {unit} --> {other}" for other in sorted(graph.get(unit, ())) if other not in EVERYWHERE]
    return "\n".join([*lines, "```"]) + "\n"


def _unit(parts: tuple[str, ...]) -> str:
    return "" if parts[0] == "__init__" else parts[0]


def _imported(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or id(node) in skipped or not node.module:
            continue
        names = [node.module] if node.module != "clipdex" else [f"clipdex.{alias.name}" for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("clipdex."))


def main() -> int:
    graph = imports()
    try:
        drawn = mermaid(graph)
    except CycleError as error:
        print(f"folders import each other: {' -> '.join(error.args[1])}", file=sys.stderr)
        return 1
    page = PAGE.read_text()
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    wanted = head + BEGIN + drawn + END + tail
    if "--check" in sys.argv:
        return int(page != wanted)
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
