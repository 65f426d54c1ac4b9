"""The public side of the broker: submissions on `treadle.tasks`, answered on `reply_to`. It needs RabbitMQ."""
