"""What can be told from a statement's text: its first keyword, and whether it is one statement."""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "changes_nothing",
    "first_keyword",
    "has_inline_data",
    "has_second_statement",
    "returns_rows",
    "without_end",
]

_TRIVIA: Final = r"\s+|--[^\n]*|//[^\n]*|\#[ !][^\n]*|/\*(?:[^*]|\*(?!/))*\*/"
_FIRST_WORD: Final = re.compile(rf"(?:{_TRIVIA}|\()*([A-Za-z]+)")
_TOKEN: Final = re.compile(
    rf"(?P<trivia>{_TRIVIA})"
    r"|(?P<quoted>'(?:[^'\\]|\\.|'')*'|`(?:[^`\\]|\\.|``)*`|\"(?:[^\"\\]|\\.|\"\")*\""
    r"|\u2018[^\u2019]*\u2019|\u201c[^\u201d]*\u201d)"
    # In a word, $ is a letter like any other, and begins no heredoc.
    r"|(?P<word>[A-Za-z0-9_][A-Za-z0-9_$]*)"
    r"|(?P<heredoc>(?P<tag>\$\w*\$).*?(?P=tag))"
    r"|(?P<end>;)"
    r"|[^\sA-Za-z0-9_;'`\"\u2018\u201c$/\#-]+|.",
    re.DOTALL,
)
_ROWS: Final = frozenset({"SELECT", "WITH", "SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN", "CHECK", "KILL", "FROM"})

_READS: Final = frozenset({"SELECT", "SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN", "FROM"})
_INSERT: Final = re.compile(r"\bINSERT\b", re.IGNORECASE)


def first_keyword(sql: str) -> str:
    """Return the first word of ``sql`` in upper case, comments and opening parentheses passed over."""
    match = _FIRST_WORD.match(sql)
    return match.group(1).upper() if match else ""


def returns_rows(sql: str) -> bool:
    """Whether a statement that begins so answers with a result set."""
    return first_keyword(sql) in _ROWS


def changes_nothing(sql: str) -> bool:
    """Whether a statement that begins so may be run twice: it only reads."""
    word = first_keyword(sql)
    # A WITH may lead an INSERT.
    return word in _READS or (word == "WITH" and not _INSERT.search(sql))


def has_second_statement(sql: str) -> bool:
    """Whether anything but comments follows a ``;`` outside quotes."""
    if ";" not in sql:
        return False
    ended = False
    for token in _TOKEN.finditer(sql):
        if token["trivia"]:
            continue
        if token["end"]:
            ended = True
        elif ended:
            return True
    return False


def without_end(sql: str) -> str:
    """Return ``sql`` without the ``;`` at its end and the comments that follow it."""
    end = next((token.start() for token in _TOKEN.finditer(sql) if token["end"]), None) if ";" in sql else None
    return sql[:end]


def has_inline_data(sql: str) -> bool:
    """Whether an INSERT brings its rows behind a FORMAT: ``INSERT INTO t FORMAT CSV 1,2``."""
    if first_keyword(sql) != "INSERT":
        return False
    depth, before = 0, ""
    for token in _TOKEN.finditer(sql):
        text = token[0].upper()
        if token["trivia"]:
            continue
        depth += (text == "(") - (text == ")")
        if depth == 0 and token["word"] and before not in ("INTO", "TABLE", "FUNCTION", "."):
            if text == "FORMAT":
                return True
            if text in ("SELECT", "WITH", "VALUES", "FROM"):
                return False
        before = text
    return False
