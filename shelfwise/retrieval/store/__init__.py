"""The store on disk: versions, their manifests, products and signals, differences of versions, the writer lock."""
