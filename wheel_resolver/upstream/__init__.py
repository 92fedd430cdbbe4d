"""What is published: providers, their pages and caches, the shipped snapshot, and the catalogue made of them."""
