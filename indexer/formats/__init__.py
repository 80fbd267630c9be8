"""The formats of feeds: each module reads one, `registry` lists them and tells which one a feed has."""
