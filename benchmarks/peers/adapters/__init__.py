"""One adapter for each peer, each used as its documentation recommends. Their libraries are imported when they are
made: no environment has all of them."""
