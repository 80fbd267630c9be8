"""Routes and files of the store page, the admin page and the API documentation page."""
