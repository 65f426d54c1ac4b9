"""The message bus as a port, with two adapters: RabbitMQ and in-process."""
