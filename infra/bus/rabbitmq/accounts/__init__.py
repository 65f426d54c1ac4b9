"""Accounts on the broker, each with the permissions of one role: by the management API or by `rabbitmqctl`.

Both read and write RabbitMQ's definitions: JSON that lists users, permissions and topic permissions. An import changes
what it lists and keeps everything else.
"""
