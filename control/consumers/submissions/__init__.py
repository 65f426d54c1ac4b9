"""The FastStream application that consumes submissions from `treadle.tasks`; it needs RabbitMQ."""
