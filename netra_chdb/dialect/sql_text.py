"""What can be told from a statement's text: its first keyword, and whether it is one statement."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["changes_nothing", "first_keyword", "has_second_statement", "returns_rows"]

_TRIVIA: Final = r"\s+|--[^\n]*|\#[ !][^\n]*|/\*(?:[^*]|\*(?!/))*\*/"
_FIRST_WORD: Final = re.compile(rf"(?:{_TRIVIA}|\()*([A-Za-z]+)")
_TOKEN: Final = re.compile(
    rf"(?P<trivia>{_TRIVIA})"
    r"|(?P<quoted>'(?:[^'\\]|\\.|'')*'|`(?:[^`\\]|\\.|``)*`|\"(?:[^\"\\]|\\.|\"\")*\")"
    r"|(?P<heredoc>(?P<tag>\$\w*\$).*?(?P=tag))"
    r"|(?P<end>;)"
    r"|[^\s;'`\"$/\#-]+|.",
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
