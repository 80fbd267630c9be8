"""What each setting does, in the words of docs/settings.md."""

from __future__ import annotations

from collections.abc import Mapping

DESCRIPTIONS: Mapping[str, str] = {
    "backend": "embedded searches words in the index directory, elasticsearch in a cluster; read by shelfwise rebuild",
    "vectors": "faiss searches vectors in the index directory, elasticsearch in the cluster; read by shelfwise rebuild",
    "elasticsearch.url": (
        "where the cluster is: one address, or several nodes as a list or with commas between them; no name or "
        "password in it"
    ),
    "elasticsearch.alias": (
        "names the index that serves, and begins the name of each version's: shelfwise-v000007; each store needs "
        "its own"
    ),
    "elasticsearch.username": "who asks; needs elasticsearch.password",
    "elasticsearch.password": "goes with the name; better in the environment than in the file",
    "elasticsearch.api_key": "instead of name and password: the encoded key, as Elasticsearch gives it",
    "elasticsearch.ca_certificate": (
        "a file in PEM: the authority that signed the cluster's certificate, where the system does not trust it"
    ),
    "elasticsearch.deadline": (
        "seconds that one request of a search may take, up to 60; then the search goes on by vectors alone"
    ),
    "elasticsearch.connections": "connections to each node that stay open",
    "elasticsearch.shards": "into how many parts an index is cut; read when it is made",
    "elasticsearch.replicas": "how many copies of an index are kept; read when it is made",
    "events.keys": "the file of the keys that make pseudonyms; one for all machines that record events of a store",
    "events.phone_regions": (
        "whose phone numbers are masked in queries (ISO 3166-1); others are found by their country's prefix only"
    ),
    "events.retention_days": (
        "events that are older are removed by shelfwise events refresh and shelfwise events expire"
    ),
    "events.minimum_shoppers": (
        "what fewer shoppers did stays out of popularity, neighbours, query tables and shopper towers"
    ),
    "ranker.deadline": (
        "seconds that the ranker may take over a search, up to 60; then results keep the merged order, and the "
        "page says so"
    ),
    "ranker.event_weights": (
        "what a click, a cart and a purchase are worth in a ranker's score, as in 1,3,5; see ranking"
    ),
    "ranker.floor": (
        "the probability that the best hit of a search has to fit it by, under 1; below it the page says that "
        "nothing may fit"
    ),
    "recommend.seen": (
        "hide leaves products that a shopper has seen out of recommendations; show is for stores where people buy the "
        "same again. Read by shelfwise train users, too: see recommendations"
    ),
    "service.host": "the address that shelfwise serve listens at; any other than this machine's needs a key",
    "service.port": "the port; 0 takes a free one",
    "service.keys": "the file of API keys, by default keys.json there",
    "service.cors_origins": "the origins whose pages may call it from a browser, as in https://shop.example; * for all",
    "service.trusted_proxies": "the addresses of proxies that are believed when they tell whom they speak for",
    "service.threads": "threads that answer",
    "service.queue": "requests that may wait for one of them; what comes on top is refused with 503",
    "service.deadline": "seconds until a request is answered, or told that it is not",
    "service.feeds": "the folder that a rebuild over HTTP reads feeds from",
    "service.body_bytes": "bytes of a request's body, unpacked",
    "service.body_seconds": "seconds until a request's head is there, and as many until its body is",
    "service.bodies_bytes": "bytes of all bodies that are held at once; a request on top is refused with 503",
    "service.connections": (
        "connections that are answered; what comes on top is told 503, and beyond twice as many closed"
    ),
    "service.connections_per_address": "of one address, unless it is one of the trusted proxies",
    "service.requests_per_minute_key": "requests of one key in this process; a key may have a number of its own",
    "service.requests_per_minute_address": "requests of one address in this process",
    "service.pages": "whether the store page and the admin page are served",
    "service.page_key": (
        "the key that the store page sends where the service has keys: whoever opens the page can read it, so "
        "one with the scopes search and events"
    ),
    "service.traces": "where traces go, as in http://collector:4318/v1/traces",
}
