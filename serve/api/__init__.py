"""The HTTP side: routes, the shapes of requests and answers, what guards them."""
