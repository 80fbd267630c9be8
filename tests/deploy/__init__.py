"""Files of `deploy/` and compose.yaml, compared with the program: its metrics, options, settings and files."""
