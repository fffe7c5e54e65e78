"""A model as a service over HTTP: answers, metrics and a page to try it on."""
