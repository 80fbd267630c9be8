"""Figures of the code's structure: sizes, imports, names. `python -m tests.architecture` prints them with their limits.

    python -m tests.architecture [--repo CHECKOUT] [--list FIGURE]

Everything is read from the text of the modules; no product module is imported.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "shelfwise"
PACKAGES = ("retrieval", "rerank", "indexer", "service", "benchmarks")
SERVICE_LAYERS = (
    ("settings", "worker_group"),
    ("events",),
    ("curation",),
    ("answers", "engine", "experiments", "sponsored"),
    ("reports", "training", "demo"),
    ("http",),
    ("instantsearch", "web"),
    ("app", "mcp"),
    ("supervisor",),
    ("cli",),
)
"""Parts of `service` from low to high: a part imports only from its own layer and lower ones."""
_PARTICIPLE = re.compile(
    r"[A-Z]?[a-z]{2,}[^e]ed|Told|Taken|Hurt|Kept|Left|Held|Made|Seen|Known|Shown|Found|Taught|Forgotten|Chosen|Meant|Said"
    r"|Come|Gone|Written|Given|Drawn|Sent|Built|Laid|Lost|Shrunk|Spent|Begun|Broken|Hidden"
)
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass
class Module:
    """One product module: its name, path, text and syntax tree."""

    name: str
    path: Path
    text: str
    tree: ast.Module
    imports: set[str] = field(default_factory=set)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """All nodes of the tree, cached, since the walk takes longer than each analysis of it."""
        return list(ast.walk(self.tree))

    @property
    def lines(self) -> int:
        return self.text.count("\n")

    @cached_property
    def code_lines(self) -> int:
        """Number of lines that are neither blank, nor comments, nor parts of docstrings."""
        docstrings = {
            line
            for node in self.nodes
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
            for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
        }
        texts = enumerate(self.text.splitlines(), 1)
        return sum(bool(text.strip()) and text.strip()[0] != "#" and n not in docstrings for n, text in texts)

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"


@dataclass(frozen=True)
class Figure:
    """One figure: its value, its upper limit, and the places that it counts."""

    name: str
    value: float
    limit: float
    places: Sequence[str] = ()


class Structure:
    """The product modules of a checkout, with the imports between them."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        self.modules: dict[str, Module] = {}
        for path in (each for package in PACKAGES for each in sorted((root / PACKAGE / package).rglob("*.py"))):
            parts = path.relative_to(root / PACKAGE).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            text = path.read_text("utf-8")
            self.modules[name] = Module(name, path, text, ast.parse(text))
        for module in self.modules.values():
            module.imports = set(self._imported(module)) - {module.name}
        self.files = [module for module in self.modules.values() if not module.is_package]

    def _imported(self, module: Module) -> Iterator[str]:
        """The product modules that a module imports, including function-level imports."""
        for node in module.nodes:
            if isinstance(node, ast.Import):
                names = (alias.name.removeprefix(f"{PACKAGE}.") for alias in node.names)
                yield from (name for name in names if name in self.modules)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                module_name = node.module.removeprefix(f"{PACKAGE}.")
                for alias in node.names:
                    inner = alias.name if module_name == PACKAGE else f"{module_name}.{alias.name}"
                    name = inner if inner in self.modules else module_name
                    if name in self.modules:
                        yield name

    @cached_property
    def importers(self) -> dict[str, set[str]]:
        """The modules that import each module."""
        found: dict[str, set[str]] = defaultdict(set)
        for module in self.modules.values():
            for name in module.imports:
                found[name].add(module.name)
        return found

    def cycles(self) -> list[str]:
        """The strongly connected components of more than one module (Tarjan 1972), including function-level imports."""
        index: dict[str, int] = {}
        low: dict[str, int] = {}
        stack: list[str] = []
        found: list[str] = []

        def visit(name: str) -> None:
            index[name] = low[name] = len(index)
            stack.append(name)
            for other in sorted(self.modules[name].imports):
                if other not in index:
                    visit(other)
                    low[name] = min(low[name], low[other])
                elif other in stack:
                    low[name] = min(low[name], index[other])
            if low[name] == index[name]:
                members = stack[stack.index(name) :]
                del stack[stack.index(name) :]
                if len(members) > 1:
                    found.append(" - ".join(sorted(members)))

        for name in self.modules:
            if name not in index:
                visit(name)
        return found

    def upward_imports(self) -> list[str]:
        """Imports from a lower part of `service` to a higher one."""
        rank = {part: layer for layer, parts in enumerate(SERVICE_LAYERS) for part in parts}
        found = []
        for module in self.modules.values():
            for name in module.imports:
                one, other = module.name.split("."), name.split(".")
                if one[0] == other[0] == "service" and len(one) > 1 and len(other) > 1:
                    low, high = rank.get(one[1]), rank.get(other[1])
                    if low is None or high is None or low < high:
                        found.append(f"{module.name} -> {name}")
        return sorted(found)

    def definitions(self) -> Iterator[tuple[Module, ast.AST, str]]:
        """All defined names: modules, classes, functions, parameters, assigned variables and attributes."""
        for module in self.modules.values():
            yield module, module.tree, module.name.rsplit(".", 1)[-1]
            for node in module.nodes:
                if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    yield module, node, node.name
                elif isinstance(node, ast.arg):
                    yield module, node, node.arg
                elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield module, node, node.id
                elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                    yield module, node, node.attr

    def banned(self, words: frozenset[str]) -> list[str]:
        """Identifiers that contain a banned word."""
        return sorted(
            {
                f"{module.path.relative_to(self.root)}:{getattr(node, 'lineno', 1)} {name}"
                for module, node, name in self.definitions()
                if words & {word.lower() for word in _WORDS.findall(name)}
            }
        )

    def classes(self) -> Iterator[tuple[Module, ast.ClassDef]]:
        for module in self.modules.values():
            for node in module.nodes:
                if isinstance(node, ast.ClassDef):
                    yield module, node

    def functions(self) -> Iterator[tuple[Module, ast.FunctionDef | ast.AsyncFunctionDef]]:
        for module in self.modules.values():
            for node in module.nodes:
                if isinstance(node, _FUNCTIONS):
                    yield module, node


def banned_words(root: Path = ROOT) -> frozenset[str]:
    """The words that the glossary bans from identifiers."""
    text = (root / "docs/glossary.md").read_text("utf-8")
    section = text.partition("## Banned in identifiers")[2].partition("\n## ")[0]
    return frozenset(
        word for row in re.findall(r"^\| ([a-z, ]+) \|", section, re.MULTILINE) for word in row.split(", ")
    )


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return sum(each.arg not in ("self", "cls") for each in arguments)


def figures(root: Path = ROOT) -> list[Figure]:
    """All figures of a checkout, in printing order. Limits are the values of today, and only ever lowered."""
    structure = Structure(root)
    files = structure.files
    where = {module.name: module.path.relative_to(root).as_posix() for module in structure.modules.values()}
    basenames = Counter(f"{module.name.split('.')[0]}: {module.path.name}" for module in files)
    shared = sorted(name for name, count in basenames.items() if count > 1)
    statements = sum(isinstance(node, ast.stmt) for module in structure.modules.values() for node in module.nodes)
    short = [f"{where[each.name]} ({each.lines})" for each in files if each.lines < 60]
    single = [
        f"{where[each.name]} <- {next(iter(structure.importers[each.name]))}"
        for each in files
        if len(structure.importers[each.name]) == 1
    ]
    questions = [
        where[module.name]
        for module in structure.modules.values()
        if re.match(r"(What|Which|How)\b", ast.get_docstring(module.tree) or "")
    ]
    names: dict[str, set[str]] = defaultdict(set)
    participles = []
    for module, node in structure.classes():
        names[node.name.lstrip("_")].add(where[module.name])
        last = _WORDS.findall(node.name)[-1]
        if _PARTICIPLE.fullmatch(last):
            participles.append(f"{where[module.name]}:{node.lineno} {node.name}")
    repeated = [f"{name}: {', '.join(sorted(places))}" for name, places in sorted(names.items()) if len(places) > 2]
    many = [
        (_parameters(node), f"{where[module.name]}:{node.lineno} {node.name} ({_parameters(node)})")
        for module, node in structure.functions()
        if (module.name, node.name) != ("shelfwise.service.engine.engine", "search")
    ]
    spans = [
        (node.end_lineno - node.lineno + 1, f"{where[module.name]}:{node.lineno} {node.name}")
        for module, node in structure.functions()
        if node.end_lineno
    ]
    banned = structure.banned(banned_words())
    cycles, upward = structure.cycles(), structure.upward_imports()
    tests = sum(path.read_text("utf-8").count("\n") for path in (root / "tests").rglob("*.py"))
    largest = sorted(((module.lines, where[module.name]) for module in files), reverse=True)
    return [
        Figure("modules", len(files), 297),
        Figure("lines", sum(module.lines for module in structure.modules.values()), 85_950, _by_folder(structure)),
        Figure("lines of code", sum(module.code_lines for module in structure.modules.values()), 59_700),
        Figure("statements", statements, 56_150),
        Figure("basenames of several modules of a part", len(shared), 0, shared),
        Figure("modules under 60 lines", len(short), 6, short),
        Figure("modules with one importer", len(single), 53, single),
        Figure("largest module", largest[0][0], 640, [f"{n} {name}" for n, name in largest[:12]]),
        Figure("import cycles", len(cycles), 0, cycles),
        Figure("upward imports in service", len(upward), 0, upward),
        Figure("identifiers with a banned word", len(banned), 0, banned),
        Figure("module docstrings that begin with What, Which or How", len(questions), 0, questions),
        Figure("classes named by a participle", len(participles), 0, participles),
        Figure("class names in more than two modules", len(repeated), 0, repeated),
        Figure(
            "parameters of a function", max(many)[0], 10, [text for n, text in sorted(many, reverse=True) if n > 10]
        ),
        Figure("functions above 60 lines", sum(n > 60 for n, _ in spans), 3, [text for n, text in spans if n > 60]),
        Figure("lines of tests", tests, 53_500),
    ]


def _by_folder(structure: Structure) -> list[str]:
    lines: Counter[str] = Counter()
    code: Counter[str] = Counter()
    for module in structure.modules.values():
        folder = module.path.parent.relative_to(structure.root).as_posix()
        lines[folder] += module.lines
        code[folder] += module.code_lines
    return [f"{folder}: {lines[folder]:,} lines, {code[folder]:,} of code" for folder in sorted(lines)]


def main() -> None:
    """Prints the table; with --list, also the places that a figure counts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repo", type=Path, default=ROOT, help="another checkout to measure")
    parser.add_argument("--list", default="", help="print the places that figures of this name count")
    options = parser.parse_args()
    for each in figures(options.repo):
        sys.stdout.write(f"{each.name:<54}{each.value:>8,}{each.limit:>8,}\n")
        if options.list and options.list in each.name:
            sys.stdout.writelines(f"    {place}\n" for place in each.places)


if __name__ == "__main__":
    main()
