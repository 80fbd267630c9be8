"""Quality of a catalog on four measures: completeness, consistency, accuracy and timeliness."""
