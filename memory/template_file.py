"""Files of templates: one per line, a JSON list, or the Python lists of open_clip, which are parsed and never run."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterator

from memory.errors import printable
from memory.labels.text import is_comment
from memory.templates import check_templates

# A lambda, a quoted text that ends with a comma, or the beginning of a list or tuple, on a line of its own.
_PYTHON = re.compile(
    r"""^\s*(?:lambda\b.*:|(?:\w+\s*=\s*)?[\[(]\s*(?:#.*)?$|\w+\s*=\s*[\[(]|f?(?:'.*'|".*")\s*,\s*$)""", re.MULTILINE
)


def parse_templates(text: str) -> tuple[str, ...]:
    """Read the templates of a file.

    Args:
        text: of the file: a template on each line, with blank lines and comments left out; a JSON list of templates, or
            an object with one such list; or Python with ``lambda c: f"a photo of a {c}."`` or quoted templates.

    Returns:
        The distinct templates in their order; the name of a lambda stands in them as ``{c}``.

    Raises:
        ValueError: there is no template, or one without a placeholder or with one of another tool.
    """
    stripped = text.strip()
    if stripped.startswith("{") and not stripped.startswith(("{}", "{c}")):
        return check_templates(_json_templates(stripped))
    if stripped.startswith("["):
        try:
            return check_templates(_json_templates(stripped))
        except json.JSONDecodeError:
            return check_templates(_python_templates(text))
    if _PYTHON.search(text):
        return check_templates(_python_templates(text))
    lines = [line.strip() for line in text.split("\n")]
    return check_templates([line for line in lines if line and not is_comment(line)])


def _json_templates(text: str) -> list[str]:
    try:
        document = json.loads(text)
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
    if isinstance(document, dict):
        if len(document) != 1:
            names = ", ".join(repr(printable(name)) for name in list(document)[:8])
            raise ValueError(f"the JSON has {len(document)} entries ({names}); give a file with one list of templates")
        (document,) = document.values()
    if not isinstance(document, list) or not all(isinstance(template, str) for template in document):
        raise ValueError('the JSON is not a list of templates; write ["a photo of a {}."]')
    return document


def _python_templates(text: str) -> list[str]:
    # Lines of a list without its brackets are indented.
    source = "\n".join(line.strip() for line in text.split("\n"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # of a backslash in a template
            tree = ast.parse(source)
        return [template for statement in tree.body for template in _templates_of(statement)]
    except SyntaxError as error:
        raise ValueError(
            f"line {error.lineno} looks like Python and cannot be read ({error.msg}); write one template per line"
        ) from error
    except (RecursionError, MemoryError) as error:
        raise ValueError("the Python list is nested too deeply") from error


def _templates_of(node: ast.AST) -> Iterator[str]:
    """Yield the templates in the lists of a piece of code, in order."""
    match node:
        case ast.Lambda(args=ast.arguments(args=[ast.arg(arg=name)]), body=body):
            yield _template(body, name)
        case ast.Constant(value=str(template)):
            yield template
        case ast.Expr(value=value) | ast.Assign(value=value) | ast.Starred(value=value):
            yield from _templates_of(value)
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            for element in elements:
                yield from _templates_of(element)
        case _:
            raise ValueError(
                f"line {getattr(node, 'lineno', 0)} holds {ast.unparse(node)[:60]!r}, which is no template; "
                "write lambda c: f'a photo of a {c}.', or one template per line"
            )


def _template(body: ast.expr, name: str) -> str:
    """Return the template that a lambda of one name makes: an f-string, or a text with `.format`."""
    match body:
        case ast.JoinedStr(values=parts):
            return "".join(_part(part, name) for part in parts)
        case ast.Call(
            func=ast.Attribute(value=ast.Constant(value=str(template)), attr="format"),
            args=[ast.Name(id=used)],
            keywords=[],
        ) if used == name:
            return template
        case _:
            raise ValueError(
                f"line {body.lineno}: the lambda makes {ast.unparse(body)[:60]!r}; "
                "write an f-string that has the name of its argument in braces"
            )


def _part(part: ast.expr, name: str) -> str:
    match part:
        case ast.Constant(value=str(text)):
            return text
        case ast.FormattedValue(value=ast.Name(id=used), conversion=-1, format_spec=None) if used == name:
            return "{c}"
        case _:
            raise ValueError(f"line {part.lineno}: {ast.unparse(part)[:60]!r} in a template is not the name alone")
