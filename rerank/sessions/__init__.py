"""From raw events to what can be learned from: cleaned, cut into sessions, bots found, tables derived."""
