"""REST over the same state: Knative's v1, and Google's own v2, as gcloud and curl speak them."""
