"""What the API says about itself: OpenAPI, problem pages, the data dictionary."""
