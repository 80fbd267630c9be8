"""What is wrong with a catalog, on four measures: completeness, consistency, accuracy and timeliness."""
