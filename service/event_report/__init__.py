"""What shoppers did, as a report: in a terminal, as JSON and as one HTML page with plots."""
