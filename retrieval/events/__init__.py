"""What shoppers did: the record of it, its checks, its privacy, and where it is kept."""
