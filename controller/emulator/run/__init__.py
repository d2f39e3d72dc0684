"""The control plane: services, revisions and operations, as the Cloud Run API shows them."""
