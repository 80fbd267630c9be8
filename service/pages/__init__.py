"""The store page and the admin page: plain HTML, CSS and JavaScript modules, served as they are."""
