"""Live changes: validated, kept in a journal, merged with the next feed."""
