"""Requests and answers: decoding, problems, batches, the write path, the OpenAPI document, what is counted."""
