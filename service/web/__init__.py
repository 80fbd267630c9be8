"""The store page and the admin page: their routes and their files."""
