"""Where results of Event invocations go: destinations and dead-letter queues."""
