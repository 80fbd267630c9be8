"""What shoppers did, as a store keeps it: the log, the tables derived from it, forgetting and retention."""
