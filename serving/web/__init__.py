"""Flask's side of the service: routes ask it for keys, problems, logs, metrics, descriptions and the page."""
