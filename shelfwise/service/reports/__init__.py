"""Reports of events and of training: in a terminal, as JSON and as one HTML page with plots."""
