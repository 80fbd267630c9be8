"""Click models: attractiveness told apart from position, and labels made of it."""
