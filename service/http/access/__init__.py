"""Who may do what over HTTP: keys with scopes, narrower ones signed by them, and limits to how often."""
