"""Work that takes longer than a request: kept until it is done, also where the service ends in between."""
