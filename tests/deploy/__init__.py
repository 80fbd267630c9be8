"""What `deploy/` and `compose.yaml` say, held against the program: its metrics, options, settings and files."""
