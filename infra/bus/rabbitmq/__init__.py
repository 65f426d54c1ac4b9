"""The adapter of the bus for RabbitMQ, with aio-pika."""

from infra.bus.rabbitmq.bus import RabbitMQBus

__all__ = ["RabbitMQBus"]
