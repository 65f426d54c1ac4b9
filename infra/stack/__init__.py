"""The local stack: PostgreSQL, an S3 server and RabbitMQ as private processes on the loopback interface."""
