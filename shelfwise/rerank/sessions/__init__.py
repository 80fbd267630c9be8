"""From raw events to training data: events are cleaned and cut into sessions, bots are found, tables are derived."""
