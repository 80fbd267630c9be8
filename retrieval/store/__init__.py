"""A store on disk: its versions, their manifest, products and signals, the difference of two, the one writer."""
