"""Filters: values as Google's filter languages quote them."""


def quoted(value: str) -> str:
    """Return a value as a quoted string, which nothing in it can end."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
