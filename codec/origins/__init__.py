"""Origins: what a picture's pixels were computed from, one module for each kind of rendering."""
