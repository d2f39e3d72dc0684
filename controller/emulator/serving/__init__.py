"""The data plane: what runs the revisions and sends requests to them."""
