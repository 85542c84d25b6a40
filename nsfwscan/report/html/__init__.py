"""Pages: what nsfwscan shows in a browser, made of a template, styles and one script each."""
