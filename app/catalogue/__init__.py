"""Sites and sensors: creating and changing them."""
