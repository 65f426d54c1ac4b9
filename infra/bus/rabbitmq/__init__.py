"""The bus on RabbitMQ, by aio-pika."""

from infra.bus.rabbitmq.bus import RabbitMQBus

__all__ = ["RabbitMQBus"]
