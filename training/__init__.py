"""Teaching the encoder: grounded scenes, composed from picture packages, on which it is trained and measured."""
