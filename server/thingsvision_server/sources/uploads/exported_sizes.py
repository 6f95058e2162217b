"""Checks that a size expression of an exported program is nothing but arithmetic.

PyTorch evaluates these expressions as Python. Allowed are numbers, symbols, and the functions of
sizes that PyTorch itself writes.
"""

from __future__ import annotations

import ast
import re

_MAX_LENGTH = 2000
_MAX_NUMBER = 2**63
_MAX_POWERS = 2
_MAX_EXPONENT = 64
"""Python would compute larger powers, of millions of digits."""

_SYMBOL = re.compile(r"[a-z]{1,4}\d{1,6}", re.ASCII)

_DECIMAL = re.compile(r"-?[\d.]{1,40}(e[+-]?\d{1,3})?", re.ASCII)

_POWERS = frozenset({"Pow", "PowByNatural", "FloatPow", "LShift"})
_NUMBERS = frozenset({"Integer", "Rational"})
_FUNCTIONS = _POWERS | {
    "Abs", "Add", "And", "CeilDiv", "CeilToInt", "CleanDiv", "Eq", "Equality", "Float",
    "FloatTrueDiv", "FloorDiv", "FloorToInt", "Ge", "GreaterThan", "Gt", "Identity", "IntTrueDiv",
    "Integer", "LShift", "Le", "LessThan", "Lt", "Max", "Min", "Mod", "ModularIndexing", "Mul",
    "Ne", "Not", "Or", "PythonMod", "RShift", "Rational", "RoundDecimal", "RoundToInt",
    "StrictGreaterThan", "StrictLessThan", "ToFloat", "TruncToFloat", "TruncToInt", "Unequality",
    "Where", "ceiling", "floor",
}  # fmt: skip
_NAMES = frozenset({"true", "false", "oo", "int_oo"})
_NODES = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Load,
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.USub, ast.UAdd,
    ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE,
)  # fmt: skip


def is_safe_size(text: str) -> bool:
    """Return whether an expression contains nothing but arithmetic of sizes."""
    if len(text) > _MAX_LENGTH:
        return False
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    exponents = [one for one in map(_exponent, ast.walk(tree)) if one is not None]
    are_small = len(exponents) <= _MAX_POWERS and all(map(_is_small, exponents))
    return _is_allowed(tree.body) and are_small


def _exponent(node: ast.AST) -> ast.AST | None:
    """Return the exponent of a power, or the number of bits of a shift."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.args[-1] if node.func.id in _POWERS and node.args else None
    return node.right if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) else None


def _is_small(exponent: ast.AST) -> bool:
    """Return whether an exponent is a number up to the largest, such as 2, -1 or Rational(1, 2)."""
    if isinstance(exponent, ast.Constant):
        return isinstance(exponent.value, int | float) and abs(exponent.value) <= _MAX_EXPONENT
    if isinstance(exponent, ast.UnaryOp):
        return _is_small(exponent.operand)
    if isinstance(exponent, ast.Call) and isinstance(exponent.func, ast.Name):
        return exponent.func.id in _NUMBERS and all(map(_is_small, exponent.args))
    return False


def _is_allowed(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return _is_allowed_call(node)
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float) and abs(node.value) < _MAX_NUMBER
    if isinstance(node, ast.Name):
        return node.id in _NAMES or _SYMBOL.fullmatch(node.id) is not None
    return isinstance(node, _NODES) and all(map(_is_allowed, ast.iter_child_nodes(node)))


def _is_allowed_call(node: ast.Call) -> bool:
    if not isinstance(node.func, ast.Name):
        return False
    if node.func.id == "Symbol":
        return _is_symbol(node)
    if node.func.id == "Float":
        return _is_float(node)
    return node.func.id in _FUNCTIONS and not node.keywords and all(map(_is_allowed, node.args))


def _is_symbol(node: ast.Call) -> bool:
    """Return whether a call is like Symbol('s77', positive=True, integer=True)."""
    names = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
    flags = all(
        isinstance(k.value, ast.Constant) and isinstance(k.value.value, bool) for k in node.keywords
    )
    return flags and len(node.args) == len(names) == 1 and bool(_SYMBOL.fullmatch(str(names[0])))


def _is_float(node: ast.Call) -> bool:
    """Return whether a call is like Float('0.5', precision=53)."""
    values = [*node.args, *(keyword.value for keyword in node.keywords)]
    return all(
        isinstance(value, ast.Constant) and _DECIMAL.fullmatch(str(value.value)) for value in values
    )
