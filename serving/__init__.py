"""What the scripts share: what a record is, models, training, and the web side of the service."""
