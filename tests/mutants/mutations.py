"""What is changed: one small thing in a file of Python code, by its place in the text."""

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

# What an operator is turned into.
COMPARED = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.In: (" in ", " not in "),
    ast.NotIn: (" not in ", " in "),
    ast.Is: (" is ", " is not "),
    ast.IsNot: (" is not ", " is "),
}
COMPUTED = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "/"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
}
COMBINED = {ast.And: (" and ", " or "), ast.Or: (" or ", " and ")}

OPENING = re.compile(r"""[bru]*('{3}|"{3}|'|")""", re.IGNORECASE)


class Mutant(NamedTuple):
    """A file with another text from `start` to `end`."""

    file: str
    line: int
    start: int
    end: int
    text: str

    def of(self, source: str) -> str:
        """The file's text with the change."""
        return source[: self.start] + self.text + source[self.end :]

    def told(self, source: str) -> str:
        """The change in one line: the lines that it is in, before and after."""
        first = source.rfind("\n", 0, self.start) + 1
        last = source.find("\n", self.end)
        before = source[first:last]
        after = source[first : self.start] + self.text + source[self.end : last]
        return f"`{' '.join(before.split())}` → `{' '.join(after.split())}`"


def mutants(file: str, source: str) -> list[Mutant]:
    """All changes of a file's code, in order. Docstrings, annotations and the insides of f-strings stay."""
    tree = ast.parse(source)
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line.encode()))
    data = source.encode()
    texts = {offset: len(data[:offset].decode()) for offset in starts}

    def place(line: int, column: int) -> int:
        start = starts[line - 1]
        return texts[start] + len(data[start : start + column].decode())

    def span(node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno
        assert node.end_col_offset is not None
        return place(node.lineno, node.col_offset), place(node.end_lineno, node.end_col_offset)

    def between(left: ast.expr, right: ast.expr, change: tuple[str, str]) -> Iterator[tuple[int, int, str]]:
        start, end = span(left)[1], span(right)[0]
        if (at := source[start:end].find(change[0])) >= 0:
            yield start + at, start + at + len(change[0]), change[1]

    def changes(node: ast.AST) -> Iterator[tuple[int, int, str]]:
        match node:
            case ast.Compare():
                for left, operator, right in zip(
                    [node.left, *node.comparators], node.ops, node.comparators, strict=False
                ):
                    yield from between(left, right, COMPARED[type(operator)])
            case ast.BinOp() if type(node.op) in COMPUTED:
                yield from between(node.left, node.right, COMPUTED[type(node.op)])
            case ast.BoolOp():
                for left, right in zip(node.values, node.values[1:], strict=False):
                    yield from between(left, right, COMBINED[type(node.op)])
            case ast.UnaryOp(op=ast.Not() | ast.USub() as operator):
                start = span(node)[0]
                yield start, start + len("not" if isinstance(operator, ast.Not) else "-"), ""
            case ast.If() | ast.While() | ast.IfExp():
                start, end = span(node.test)
                yield start, end, f"(not ({source[start:end]}))"
            case ast.Constant():
                start, end = span(node)
                if isinstance(node.value, bool):
                    yield start, end, str(not node.value)
                elif isinstance(node.value, int | float):
                    yield start, end, f"{source[start:end]} + 1"
                elif isinstance(node.value, str | bytes) and node.value and (quotes := OPENING.match(source, start)):
                    yield quotes.end(), quotes.end(), "X"
            case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
                yield *span(value), "None"
            case ast.Expr(value=ast.Call()) | ast.Assert() | ast.AugAssign() | ast.Delete():
                yield *span(node), "pass"
            case ast.Break():
                yield *span(node), "continue"
            case ast.Continue():
                yield *span(node), "break"

    return [
        Mutant(file, source.count("\n", 0, start) + 1, start, end, text)
        for node in _code(tree)
        for start, end, text in changes(node)
    ]


def _code(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that do something, in the order of the text."""
    yield node
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or name in ("annotation", "returns", "type_params"):
                continue
            is_text = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
            if not is_text and not isinstance(child, ast.JoinedStr):
                yield from _code(child)
