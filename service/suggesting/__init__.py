"""What a shopper might mean: suggestions while a query is typed, corrections of what was typed, related searches."""
