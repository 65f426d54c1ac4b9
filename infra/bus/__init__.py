"""The message bus: a port and two adapters, RabbitMQ and in-process."""
