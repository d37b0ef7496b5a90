"""The processes of one machine: Redis, learners, the trainer, and the supervisor over them."""
