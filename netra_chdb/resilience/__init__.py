"""What keeps callers going while ClickHouse does not answer: breaker, retry, last good answers."""
