"""Submissions on `treadle.tasks`, answered on `reply_to`: a FastStream application. It needs RabbitMQ."""
