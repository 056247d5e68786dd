"""Tables as people have them: read, whatever they are written in, and given back with their scores."""
