"""What is told of invocations beyond this server: logs, spans and metrics."""
