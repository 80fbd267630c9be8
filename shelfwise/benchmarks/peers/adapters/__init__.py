"""One adapter for each peer, used as its documentation recommends. Their libraries are imported when an adapter is
created, since no environment has all of them."""
