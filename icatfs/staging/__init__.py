"""New files on their way out: a durable journal, the staged bytes, the uploader."""
